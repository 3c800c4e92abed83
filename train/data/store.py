"""Windows of the stored recordings at any offset, memory-mapped or from a GPU that holds them whole."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from train.data.store_build import gibibytes, hold_half
from train.data.store_index import VALUE_BYTES, Entry, Half, StoreError, values_file

CHUNK = 2**26  # values copied to the GPU at once
GPU_LEFT = 4 * 2**30  # bytes of a GPU that training itself is left with at least


class RecordingStore:
    """One half of the store, for reading; made or renewed first where it does not fit the competition's files.

    Nobody else changes it until it is closed. Raises MissingRecordings and StoreError.
    """

    def __init__(self, half: Half, competition: Path, store: Path, ids: Iterable[int]) -> None:
        self.half = half
        self.lock, self.entries = hold_half(half, competition, store, ids)
        # "c": torch warns of memory that cannot be written; nothing is
        values = np.memmap(values_file(store, half), np.float32, "c")
        self.values = torch.from_numpy(values)  # (all values,)

    def close(self) -> None:
        self.lock.close()

    def load(self, device: torch.device) -> None:
        """Copy the whole half to a GPU and read from there. Raises StoreError when it does not fit."""
        if device.type == "cuda":
            need = VALUE_BYTES * self.values.numel()
            free, total = torch.cuda.mem_get_info(device)
            if need + GPU_LEFT > free:
                raise StoreError(
                    f"--store-on-gpu: the {self.half.name} take {gibibytes(need)} and training some "
                    f"{gibibytes(GPU_LEFT)}, of the GPU's {gibibytes(total)} {gibibytes(free)} are free: leave the "
                    "option out, then they are read from the disk"
                )
        loaded = torch.empty_like(self.values, device=device)
        for first in tqdm(range(0, self.values.numel(), CHUNK), f"loading {self.half.name}", unit="chunk"):
            loaded[first : first + CHUNK] = self.values[first : first + CHUNK]
        self.values = loaded

    def recording(self, recording: int) -> Tensor:
        """A whole recording, not copied: EEG (20, time) microvolts or spectrogram (4, 100, columns)."""
        entry: Entry = self.entries[recording]
        first = entry.offset // VALUE_BYTES
        last = first + self.half.bytes_of(entry.n_time) // VALUE_BYTES
        return self.values[first:last].view(*self.half.shape, entry.n_time)

    def windows(self, recordings: Sequence[int], starts: Sequence[int], length: int) -> Tensor:
        """(batch, 20, length) or (batch, 4, 100, length), on the values' device; NaN outside the recordings.

        Starts and length in samples or columns.
        """
        windows = torch.empty(len(recordings), *self.half.shape, length, device=self.values.device)
        # Copied by numpy on the CPU: torch would share each copy between cores, and wait where they are busy.
        on_cpu = windows.device.type == "cpu"
        for target, recording, start in zip(windows, recordings, starts, strict=True):
            window, values = target, self.recording(recording)
            if on_cpu:
                window, values = target.numpy(), values.numpy()
            n_time = self.entries[recording].n_time
            first = min(max(start, 0), n_time)
            last = max(min(start + length, n_time), first)
            window[..., : first - start] = torch.nan
            window[..., first - start : last - start] = values[..., first:last]
            window[..., last - start :] = torch.nan
        return windows

    def window(self, recording: int, start: int, length: int) -> Tensor:
        """One window, (20, length) or (4, 100, length), NaN outside the recording."""
        return self.windows([recording], [start], length)[0]
