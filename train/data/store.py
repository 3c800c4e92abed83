"""Windows of the stored recordings at any offset, memory-mapped or from a GPU that holds them whole."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from train.data.recording_kinds import RecordingKind
from train.data.store_build import StoreError, gibibytes, open_store

GPU_LEFT = 4 * 2**30  # bytes of a GPU that training itself is left with at least


class RecordingStore:
    """The store of one kind of recording, for reading; made or renewed first where it does not fit the files.

    A build that renews it later leaves these values as they are. Raises StoreError.
    """

    def __init__(self, kind: RecordingKind, competition: Path, store: Path, ids: Iterable[int]) -> None:
        self.kind = kind
        values, self.entries = open_store(kind, competition, store, ids)
        self.values = torch.from_numpy(values)  # (all values,)

    def load(self, device: torch.device) -> None:
        """Copy all values to a GPU and read from there. Raises StoreError when they do not fit."""
        if device.type == "cuda":
            need = self.values.nbytes
            free, total = torch.cuda.mem_get_info(device)
            if need + GPU_LEFT > free:
                raise StoreError(
                    f"--store-on-gpu: the {self.kind.name} take {gibibytes(need)} and training some "
                    f"{gibibytes(GPU_LEFT)}, of the GPU's {gibibytes(total)} {gibibytes(free)} are free: leave the "
                    "option out, then they are read from the disk"
                )
        self.values = self.values.to(device)

    def recording(self, recording: int) -> Tensor:
        """A whole recording, not copied: EEG (electrodes, time) or spectrogram (regions, frequencies, columns)."""
        entry = self.entries[recording]
        return self.values[entry.slice(self.kind)].view(*self.kind.shape, entry.n_time)

    def windows(self, recordings: Sequence[int], starts: Sequence[int], length: int) -> Tensor:
        """(batch, *shape of the kind, length), on the values' device; NaN outside the recordings.

        Starts and length in samples or columns.
        """
        windows = torch.empty(len(recordings), *self.kind.shape, length, device=self.values.device)
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
