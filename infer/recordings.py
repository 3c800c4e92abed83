"""The raw recordings of one row of test.csv: read in time, cut to length, repaired or given up by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common.records import Recording, RecordingError, central, read_eeg, read_spectrogram
from common.schema import ELECTRODES, SPECTROGRAM_COLUMNS, TEST_EEGS, TEST_SPECTROGRAMS, WINDOW_SAMPLES
from common.spectrogram import rebuild_spectrogram
from infer.timeout import in_time

SCALP = [electrode != "EKG" for electrode in ELECTRODES]


class SlowReadError(RecordingError):
    """A recording whose reading hangs. Read again later it may come."""


@dataclass(frozen=True)
class Sample:
    """The raw windows of one EEG, None where nothing could be read, and what had to be done for them."""

    eeg_id: int
    eeg: np.ndarray | None  # (20, 10000) microvolts
    spectrogram: np.ndarray | None  # (4, 100, 300) power
    unreadable: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    rebuilt: str | None = None  # why the spectrogram's centre was rebuilt from the EEG
    slow: bool = False  # a reading was given up
    structural: tuple[str, ...] = ()  # of what was read: how the files are made (common/records.py)
    n_time: int = WINDOW_SAMPLES  # of the EEG's file, samples


def read_in_time(read: Callable[[Path], Recording], path: Path, seconds: float) -> Recording:
    """read(path), given up after so many seconds. Raises RecordingError, whatever else the reader raises."""
    try:
        return in_time(lambda: read(path), seconds)
    except (RecordingError, KeyboardInterrupt):
        raise
    except TimeoutError as error:
        raise SlowReadError(f"{path.name}: not read within {seconds:g} s") from error
    except BaseException as error:  # polars' panics too: a reader that fails costs its recording, not the run
        raise RecordingError(f"{path.name}: {type(error).__name__}: {error}") from error


def too_long(recording: Recording, length: int) -> tuple[str, ...]:
    """A finding in a test set, where all recordings are of one length."""
    n_time = recording.values.shape[-1]
    return (f"{n_time} long: the central {length} used",) if n_time > length else ()


def read_sample(
    competition: Path, eeg_id: int, spectrogram_id: int | None, spectrogram_wanted: bool, seconds: float = 60.0
) -> Sample:
    """Both recordings of a row, cut to the central 50 s and 10 minutes, repaired or given up by name.

    The EEG is always read: a spectrogram may have to be rebuilt from it. `seconds`: what reading one file may take.
    """
    unreadable: list[str] = []
    repaired: list[str] = []
    structural: list[str] = []
    eeg = spectrogram = rebuilt = None
    slow, n_time = False, WINDOW_SAMPLES
    try:
        path = competition / TEST_EEGS / f"{eeg_id}.parquet"
        recording = read_in_time(read_eeg, path, seconds)
        structural += [f"EEG: {finding}" for finding in recording.structural]
        eeg, n_time = central(recording.values, WINDOW_SAMPLES), recording.values.shape[-1]
        if not np.isfinite(eeg[SCALP]).any():
            eeg = None
            raise RecordingError(f"{path.name}: nothing finite on the scalp in its central 50 s")
        repaired += [f"EEG: {finding}" for finding in recording.findings + too_long(recording, WINDOW_SAMPLES)]
    except RecordingError as error:
        structural += [f"EEG: {finding}" for finding in error.structural]
        unreadable.append(f"EEG {error}")
        slow = isinstance(error, SlowReadError)
    if not spectrogram_wanted:
        return Sample(
            *(eeg_id, eeg, None, tuple(unreadable), tuple(repaired)),
            slow=slow,
            structural=tuple(structural),
            n_time=n_time,
        )
    try:
        path = competition / TEST_SPECTROGRAMS / f"{spectrogram_id}.parquet"
        recording = read_in_time(read_spectrogram, path, seconds)
        structural += [f"spectrogram: {finding}" for finding in recording.structural]
        spectrogram, findings = central(recording.values, SPECTROGRAM_COLUMNS), recording.findings
        repaired += [f"spectrogram: {finding}" for finding in findings + too_long(recording, SPECTROGRAM_COLUMNS)]
        if not np.isfinite(spectrogram).any(axis=(1, 2)).all():
            rebuilt = f"spectrogram {path.name}: a region without one finite value"
    except RecordingError as error:
        structural += [f"spectrogram: {finding}" for finding in error.structural]
        rebuilt = f"spectrogram {error}"
        slow = slow or isinstance(error, SlowReadError)
    if rebuilt is not None and eeg is None:
        unreadable.append(f"{rebuilt}, and no EEG to rebuild it from")
        rebuilt = None
    elif rebuilt is not None:
        known = None if spectrogram is None else torch.from_numpy(spectrogram)
        spectrogram = rebuild_spectrogram(known, torch.from_numpy(eeg)).numpy()
        if not np.isfinite(spectrogram).any():
            spectrogram = rebuilt = None
            unreadable.append(f"spectrogram {path.name}: missing, and the EEG's gaps leave no column")
    return Sample(
        *(eeg_id, eeg, spectrogram, tuple(unreadable), tuple(repaired), rebuilt, slow, tuple(structural), n_time)
    )
