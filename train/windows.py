"""Raw training windows from the store, at their labels' offsets or shifted in time."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from common.features import Windows
from common.inputs import needs_eeg, needs_spectrogram
from common.records import RecordingError, read_ahead
from train.store import RecordingStore
from train.store_index import EEGS, SPECTROGRAMS, STORE, StoreError

BATCHES_AHEAD = 3


class TrainingWindows:
    """The windows of each label row, of the recordings that `config` looks at.

    The store is made first, or what it lacks. Training is strict: a missing or unreadable recording
    and an offset that cannot be right are named before anything starts. Raises MissingRecordings,
    StoreError and RecordingError.
    """

    def __init__(
        self, competition: Path, rows: pl.DataFrame, config: Any, store: Path | None = None, on_gpu: bool = False
    ) -> None:
        needed = ((EEGS, needs_eeg(config)), (SPECTROGRAMS, needs_spectrogram(config)))
        if on_gpu and not torch.cuda.is_available():
            raise StoreError("--store-on-gpu: torch finds no GPU here; leave the option out")
        folder = store or competition / STORE
        self.rows = rows
        self.stores = [RecordingStore(half, competition, folder, rows[half.column]) for half, yes in needed if yes]
        self.on_gpu = on_gpu
        self.findings: Counter[str] = Counter()
        for opened in self.stores:
            self.check(opened, competition)
        for opened in self.stores if on_gpu else ():
            opened.load(torch.device("cuda"))

    def check(self, store: RecordingStore, competition: Path) -> None:
        """Refuse windows that lie outside their recordings; count what was repaired. Raises RecordingError."""
        half, starts = store.half, self.rows[store.half.start].to_numpy()
        ids = self.rows[half.column].to_numpy()
        n_time = np.array([store.entries[recording].n_time for recording in ids])
        outside = np.flatnonzero((starts <= -half.length) | (starts >= n_time))
        if len(outside):
            row = outside[0]
            raise RecordingError(
                f"{competition / half.folder / str(ids[row])}.parquet: the label's window starts at {starts[row]}, the "
                f"recording has {n_time[row]}: its offset in train.csv cannot be right ({len(outside)} such label rows)"
            )
        for recording in np.unique(ids):
            self.findings.update(store.entries[recording].findings)
        beyond = int(((starts < 0) | (starts + half.length > n_time)).sum())
        self.findings.update({"window reaches beyond the recording: the rest is missing": beyond} if beyond else {})

    def cut(self, rows: np.ndarray, shifts: np.ndarray | None = None) -> Windows:
        """The windows of label rows, where their recordings are. shifts: seconds, (rows,), to the nearest column."""
        found = {}
        for store in self.stores:
            half = store.half
            starts = self.rows[half.start].to_numpy()[rows]
            if shifts is not None:
                starts = starts + np.rint(shifts * half.rate).astype(np.int64)
            ids = self.rows[half.column].to_numpy()[rows]
            found[half.name] = store.windows(ids.tolist(), starts.tolist(), half.length)
        return Windows(found.get(EEGS.name), found.get(SPECTROGRAMS.name))

    def batches(
        self, rows: np.ndarray, batch_size: int, device: torch.device, shifts: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, Windows]]:
        """Rows and their windows on the device, in the order given; `shifts` (rows,) moves each by so many seconds.

        From the disk they are read ahead in threads.
        """
        parts = [slice(first, first + batch_size) for first in range(0, len(rows), batch_size)]

        def make(part: slice) -> Windows:
            return self.cut(rows[part], None if shifts is None else shifts[part])

        made = map(make, parts) if self.on_gpu else read_ahead(make, parts, BATCHES_AHEAD)
        for part, raw in zip(parts, made, strict=True):
            eeg, spectrogram = (None if kind is None else kind.to(device) for kind in (raw.eeg, raw.spectrogram))
            yield rows[part], Windows(eeg, spectrogram)

    def close(self) -> None:
        """Others may change the store after this."""
        for store in self.stores:
            store.close()
