"""The two kinds of recording that a competition has: where their files are and what label rows say of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.records import Recording, read_eeg, read_spectrogram
from common.schema import (
    N_ELECTRODES,
    N_FREQUENCIES,
    REGIONS,
    SFREQ,
    SPECTROGRAM_COLUMNS,
    SPECTROGRAM_STEP_SECONDS,
    TRAIN_EEGS,
    TRAIN_SPECTROGRAMS,
    WINDOW_SAMPLES,
)


@dataclass(frozen=True)
class RecordingKind:
    """EEGs or spectrograms."""

    name: str
    folder: str  # of the competition
    column: str  # of the label rows: the recordings' ids
    start: str  # of the label rows: where a window starts, in samples or columns
    read: Callable[[Path], Recording]
    shape: tuple[int, ...]  # of a recording, before time
    rate: float  # samples or columns in a second
    length: int  # of a window, samples or columns

    def count(self, n_time: int) -> int:
        """Values of a recording of this length."""
        return math.prod(self.shape) * n_time


EEGS = RecordingKind(
    name="eegs",
    folder=TRAIN_EEGS,
    column="eeg_id",
    start="eeg_start",
    read=read_eeg,
    shape=(N_ELECTRODES,),
    rate=SFREQ,
    length=WINDOW_SAMPLES,
)
SPECTROGRAMS = RecordingKind(
    name="spectrograms",
    folder=TRAIN_SPECTROGRAMS,
    column="spectrogram_id",
    start="spectrogram_start",
    read=read_spectrogram,
    shape=(len(REGIONS), N_FREQUENCIES),
    rate=1 / SPECTROGRAM_STEP_SECONDS,
    length=SPECTROGRAM_COLUMNS,
)
RECORDING_KINDS = (EEGS, SPECTROGRAMS)
