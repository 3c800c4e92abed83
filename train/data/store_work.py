"""What the processes that fill the store do: decode one recording, write it at its place, end with the build."""

import fcntl
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from common.records import RecordingError
from train.data.store_index import Entry, Half, StoreError
from train.simulate.processes import ONE_THREAD, environment

AHEAD = 4  # recordings under way for each process


def store_recording(half: Half, source: Path, values: Path, entry: Entry) -> Entry | str:
    """Decode one recording and write it at its place; its entry, or why it cannot be stored."""
    path = source / f"{entry.id}.parquet"
    try:
        recording = half.read(path)
    except RecordingError as error:
        return str(error)
    found = path.stat() if path.is_file() else None
    if found is None or (found.st_size, found.st_mtime_ns) != entry.stamp:
        return f"{path.name}: the file changed while the store was made"
    if recording.values.shape != (*half.shape, entry.n_time):
        return f"{path.name}: {recording.values.shape[-1]} rows are read, its footer says {entry.n_time}"
    content = memoryview(recording.values).cast("B")
    with open(values, "r+b", buffering=0) as file:
        written = 0
        while written < len(content):  # one call writes 2 GiB at most
            written += os.pwrite(file.fileno(), content[written:], entry.offset + written)
    return replace(entry, findings=recording.findings)


def in_processes(
    job: Callable[[Entry], Entry | str], todo: list[Entry], workers: int, values: Path
) -> Iterator[Entry | str]:
    """job(entry) in order, from processes of one thread each. Raises StoreError when one of them dies."""
    spawn = multiprocessing.get_context("spawn")  # forked copies of polars can lock up
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=live_with_parent, initargs=(values,))
    waiting: deque[Future[Entry | str]] = deque()
    try:
        with environment(ONE_THREAD):
            for entry in todo:
                waiting.append(pool.submit(job, entry))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise StoreError(
            f"{values}: a process that read recordings was ended, maybe for want of memory: run the same command "
            f"again, with fewer processes than {workers} (--workers); it goes on where this one ended"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def live_with_parent(values: Path) -> None:
    """A worker ends with the build, also with one that is killed; until then nobody else may write the values."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the build ends its workers
    fcntl.flock(os.open(values, os.O_RDONLY), fcntl.LOCK_SH)  # open as long as the process lives
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
