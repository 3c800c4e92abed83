"""Raw training windows from the recordings, cut at their labels' offsets."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch

from common.config import Strict
from common.errors import KitError
from common.features import Windows, needs_eeg
from common.records import RecordingError, cut, read_ahead, read_eeg, read_spectrogram
from common.schema import SPECTROGRAM_COLUMNS, TRAIN_EEGS, TRAIN_SPECTROGRAMS, WINDOW_SAMPLES

CACHE_BYTES = 6 * 2**30  # decoded windows kept in memory; the rest are read again every epoch


class MissingRecordings(KitError):
    """Label rows whose recordings are not there."""


class TrainingWindows:
    """The window of each label row, of the one kind of recording that `config` looks at.

    Memory is bounded: windows stay in memory until CACHE_BYTES are full. Training is strict: a
    missing file is named before anything starts, an unreadable one (RecordingError) ends it.
    """

    def __init__(self, competition: Path, rows: pl.DataFrame, config: Strict) -> None:
        self.eeg = needs_eeg(config)
        folder = competition / (TRAIN_EEGS if self.eeg else TRAIN_SPECTROGRAMS)
        ids = rows["eeg_id" if self.eeg else "spectrogram_id"].to_list()
        self.paths = [folder / f"{recording}.parquet" for recording in ids]
        self.starts = rows["eeg_start" if self.eeg else "spectrogram_start"].to_list()
        self.findings: Counter[str] = Counter()
        self.cache: dict[int, np.ndarray] = {}
        self.cached_bytes = 0
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        missing = sorted({path.name for path in self.paths} - there)
        if missing:
            raise MissingRecordings(
                f"{folder}: {len(missing)} of {len(set(self.paths))} recordings of train.csv are not there, "
                f"first {missing[0]}; download the competition's files again"
            )

    def read(self, row: int) -> np.ndarray:
        """The raw window of one label row: EEG (20, 10000) microvolts or spectrogram (4, 100, 300)."""
        if row in self.cache:
            return self.cache[row]
        recording = read_eeg(self.paths[row]) if self.eeg else read_spectrogram(self.paths[row])
        self.findings.update(recording.findings)
        start, length = self.starts[row], WINDOW_SAMPLES if self.eeg else SPECTROGRAM_COLUMNS
        n_time = recording.values.shape[-1]
        if not -length < start < n_time:
            raise RecordingError(
                f"{self.paths[row]}: the label's window starts at {start}, the recording has {n_time}: "
                "its offset in train.csv cannot be right"
            )
        if start < 0 or start + length > n_time:
            self.findings["window reaches beyond the recording: the rest is missing"] += 1
        window = cut(recording.values, start, length)
        if self.cached_bytes + window.nbytes <= CACHE_BYTES:
            self.cache[row] = window
            self.cached_bytes += window.nbytes
        return window

    def batches(self, rows: np.ndarray, batch_size: int, device: torch.device) -> Iterator[tuple[np.ndarray, Windows]]:
        """Rows and their windows on the device, in the order given, read ahead in threads."""
        windows = read_ahead(self.read, rows.tolist(), ahead=2 * batch_size)
        for first in range(0, len(rows), batch_size):
            chosen = rows[first : first + batch_size]
            raw = torch.from_numpy(np.stack([next(windows) for _ in chosen])).to(device)
            yield chosen, Windows(raw, None) if self.eeg else Windows(None, raw)
