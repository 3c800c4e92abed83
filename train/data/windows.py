"""Raw training windows from the store, at their labels' offsets or shifted in time."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from common.inputs.base import Windows, needs_eeg, needs_spectrogram
from common.parallel import read_ahead
from common.records import RecordingError
from common.systematic import FIRST_RECORDINGS, another_rate, refuse_systematic, systematic
from train.data.recording_kinds import EEGS, SPECTROGRAMS, RecordingKind
from train.data.store import RecordingStore
from train.data.store_build import STORE, StoreError

BATCHES_AHEAD = 3


def check_first_files(kind: RecordingKind, competition: Path, rows: pl.DataFrame) -> None:
    """Raises SystematicError when the first recordings of label rows are all made otherwise than expected.

    Before anything is stored or trained. What is wrong with single files is the store's to say.
    """
    last = rows.group_by(kind.column).agg(pl.col(f"{kind.start}s").explode().max()).sort(kind.column)
    structural, n_time, expected = [], [], []
    for recording, start in last.head(FIRST_RECORDINGS).iter_rows():
        try:
            read = kind.read(competition / kind.folder / f"{recording}.parquet")
        except RecordingError as error:
            structural.append(error.structural)
            continue
        structural.append(read.structural)
        n_time.append(read.values.shape[-1])
        expected.append(start + kind.length)
    refuse_systematic(kind.folder, systematic(structural))
    if kind is EEGS:
        refuse_systematic(kind.folder, another_rate(n_time, expected))


class TrainingWindows:
    """The windows of each label row, of the recordings that `config` looks at.

    The store is made first, or what it lacks. Training is strict: a missing or unreadable recording
    and an offset that cannot be right are named before anything starts. Raises StoreError,
    StoreError and RecordingError.
    """

    def __init__(
        self, competition: Path, rows: pl.DataFrame, config: Any, store: Path | None = None, on_gpu: bool = False
    ) -> None:
        needed = {EEGS: needs_eeg(config), SPECTROGRAMS: needs_spectrogram(config)}
        kinds = [kind for kind, yes in needed.items() if yes]
        if on_gpu and not torch.cuda.is_available():
            raise StoreError("--store-on-gpu: torch finds no GPU here; leave the option out")
        folder = store or competition / STORE
        self.rows = rows
        self.labelled = {kind.name: rows[f"{kind.start}s"].explode().to_numpy() for kind in kinds}
        for kind in kinds:
            check_first_files(kind, competition, rows)
        self.stores = [RecordingStore(kind, competition, folder, rows[kind.column]) for kind in kinds]
        self.on_gpu = on_gpu
        self.findings: Counter[str] = Counter()
        for opened in self.stores:
            self.check(opened, competition)
        for opened in self.stores if on_gpu else ():
            opened.load(torch.device("cuda"))

    def check(self, store: RecordingStore, competition: Path) -> None:
        """Refuse windows that lie outside their recordings, the rows' own and all others that experts labelled; count
        what was repaired. Raises RecordingError."""
        kind, starts = store.kind, self.rows[store.kind.start].to_numpy()
        ids = self.rows[kind.column].to_numpy()
        n_time = np.array([store.entries[recording].n_time for recording in ids])
        row = np.repeat(np.arange(len(ids)), self.rows[f"{kind.start}s"].list.len().to_numpy())
        for of_row, asked in ((np.arange(len(ids)), starts), (row, self.labelled[kind.name])):
            outside = np.flatnonzero((asked <= -kind.length) | (asked >= n_time[of_row]))
            if len(outside):
                first = of_row[outside[0]]
                raise RecordingError(
                    f"{competition / kind.folder / str(ids[first])}.parquet: the label's window starts at "
                    f"{asked[outside[0]]}, the recording has {n_time[first]}: its offset in train.csv cannot be right "
                    f"({len(outside)} such windows)"
                )
        for recording in np.unique(ids):
            self.findings.update(store.entries[recording].findings)
        beyond = int(((starts < 0) | (starts + kind.length > n_time)).sum())
        self.findings.update({"window reaches beyond the recording: the rest is missing": beyond} if beyond else {})

    def cut(self, rows: np.ndarray, shifts: np.ndarray | None = None, labelled: np.ndarray | None = None) -> Windows:
        """The windows of label rows, where their recordings are, or others: see `batches`."""
        found = {}
        for store in self.stores:
            kind = store.kind
            starts = self.rows[kind.start].to_numpy()[rows] if labelled is None else self.labelled[kind.name][labelled]
            if shifts is not None:
                starts = starts + np.rint(shifts * kind.rate).astype(np.int64)
            ids = self.rows[kind.column].to_numpy()[rows]
            found[kind.name] = store.windows(ids.tolist(), starts.tolist(), kind.length)
        return Windows(found.get(EEGS.name), found.get(SPECTROGRAMS.name))

    def batches(
        self,
        rows: np.ndarray,
        batch_size: int,
        device: torch.device,
        shifts: np.ndarray | None = None,
        labelled: np.ndarray | None = None,
    ) -> Iterator[tuple[np.ndarray, Windows]]:
        """Rows and their windows on the device, in the order given. From the disk they are read ahead in threads.

        shifts: seconds by which each starts later, (rows,), to the nearest column. labelled: instead of the rows' own
        windows, those at these places in the list of all rows' labelled windows, (rows,).
        """
        parts = [slice(first, first + batch_size) for first in range(0, len(rows), batch_size)]

        def make(part: slice) -> Windows:
            return self.cut(rows[part], *(None if each is None else each[part] for each in (shifts, labelled)))

        batches = map(make, parts) if self.on_gpu else read_ahead(make, parts, BATCHES_AHEAD)
        for part, raw in zip(parts, batches, strict=True):
            eeg, spectrogram = (None if each is None else each.to(device) for each in (raw.eeg, raw.spectrogram))
            yield rows[part], Windows(eeg, spectrogram)
