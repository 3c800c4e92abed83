"""What the C library does with memory that is freed."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt, as malloc.h of the GNU C library has them


def keep_freed_memory() -> None:
    """Ask the GNU C library to keep what is freed for the next use; elsewhere nothing happens.

    By default it gives arrays of some megabytes back to the system at once and asks for them again a moment
    later, page by page: on the CPU, nets and spectra lose a quarter to a half of their time to that. For
    programs, at their start; the peak of memory stays as it is.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that it takes: blocks up to 32 MiB come from the heap
        mallopt(M_TRIM_THRESHOLD, 2**30)  # free bytes at the end of the heap before any go back
