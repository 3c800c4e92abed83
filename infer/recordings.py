"""Both recordings of one row of test.csv: read within a time limit, cut to length, repaired or given up by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from common.records import Recording, RecordingError, central, read_eeg, read_spectrogram
from common.schema import ELECTRODES, SPECTROGRAM_COLUMNS, TEST_EEGS, TEST_SPECTROGRAMS, WINDOW_SAMPLES
from common.signal.spectrogram import rebuild_spectrogram
from infer.timeout import with_timeout

SCALP = [electrode != "EKG" for electrode in ELECTRODES]


@dataclass
class RowRecordings:
    """The raw windows of one EEG, None where nothing could be read, and what was found in their files."""

    eeg_id: int
    eeg: np.ndarray | None = None  # (20, 10000) microvolts
    spectrogram: np.ndarray | None = None  # (4, 100, 300) power
    unreadable: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    rebuilt: str | None = None  # why the spectrogram's centre was rebuilt from the EEG
    slow: bool = False  # reading a file took longer than allowed
    structural: list[str] = field(default_factory=list)  # findings about how the files are made (common/records.py)
    n_time: int | None = None  # samples of the EEG's file

    def read(self, kind: str, reader: Callable[[Path], Recording], path: Path, seconds: float) -> Recording:
        """reader(path). Raises RecordingError, whatever the reader raises."""
        try:
            recording = with_timeout(lambda: reader(path), seconds)
        except TimeoutError as error:
            self.slow = True
            raise RecordingError(f"{path.name}: not read within {seconds:g} s") from error
        except RecordingError as error:
            self.structural += [f"{kind}: {finding}" for finding in error.structural]
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # polars' panics too: a reader that fails costs its recording, not the run
            raise RecordingError(f"{path.name}: {type(error).__name__}: {error}") from error
        self.structural += [f"{kind}: {finding}" for finding in recording.structural]
        return recording

    def note_repairs(self, kind: str, recording: Recording, length: int) -> None:
        """In a test set all recordings have one length, so a longer one is a finding too."""
        self.repaired += [f"{kind}: {finding}" for finding in recording.findings]
        n_time = recording.values.shape[-1]
        if n_time > length:
            self.repaired.append(f"{kind}: {n_time} long: the central {length} used")


def read_row(
    competition: Path, eeg_id: int, spectrogram_id: int | None, spectrogram_wanted: bool, seconds: float = 60.0
) -> RowRecordings:
    """Both recordings of a row, cut to the central 50 s and 10 minutes, repaired or given up by name.

    The EEG is always read: a spectrogram may have to be rebuilt from it. `seconds`: what reading one file may take.
    """
    row = RowRecordings(eeg_id)
    path = competition / TEST_EEGS / f"{eeg_id}.parquet"
    try:
        recording = row.read("EEG", read_eeg, path, seconds)
        eeg = central(recording.values, WINDOW_SAMPLES)
        if not np.isfinite(eeg[SCALP]).any():
            raise RecordingError(f"{path.name}: nothing finite on the scalp in its central 50 s")
        row.eeg, row.n_time = eeg, recording.values.shape[-1]
        row.note_repairs("EEG", recording, WINDOW_SAMPLES)
    except RecordingError as error:
        row.unreadable.append(f"EEG {error}")
    if spectrogram_wanted:
        add_spectrogram(row, competition / TEST_SPECTROGRAMS / f"{spectrogram_id}.parquet", seconds)
    return row


def add_spectrogram(row: RowRecordings, path: Path, seconds: float) -> None:
    """Read the spectrogram; where it or a region of it is missing, rebuild it from the EEG."""
    try:
        recording = row.read("spectrogram", read_spectrogram, path, seconds)
        row.spectrogram = central(recording.values, SPECTROGRAM_COLUMNS)
        row.note_repairs("spectrogram", recording, SPECTROGRAM_COLUMNS)
        if np.isfinite(row.spectrogram).any(axis=(1, 2)).all():
            return
        why = f"spectrogram {path.name}: a region without one finite value"
    except RecordingError as error:
        why = f"spectrogram {error}"
    if row.eeg is None:
        row.unreadable.append(f"{why}, and no EEG to rebuild it from")
        return
    known = None if row.spectrogram is None else torch.from_numpy(row.spectrogram)
    row.spectrogram, row.rebuilt = rebuild_spectrogram(known, torch.from_numpy(row.eeg)).numpy(), why
    if not np.isfinite(row.spectrogram).any():
        row.spectrogram = row.rebuilt = None
        row.unreadable.append(f"spectrogram {path.name}: missing, and the EEG's gaps leave no column")
