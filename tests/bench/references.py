"""The public ways, written as competent public notebooks write them: what each row is held against.

Nothing here uses the kit's signal code or tables. Files and columns are named as the competition names them.
"""

import itertools
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import polars as pl
import scipy.fft
import scipy.signal

ELECTRODES = (
    *("Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1"),
    *("Fz", "Cz", "Pz"),
    *("Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2", "EKG"),
)
CHAINS = {
    "LL": ("Fp1", "F7", "T3", "T5", "O1"),
    "RL": ("Fp2", "F8", "T4", "T6", "O2"),
    "LP": ("Fp1", "F3", "C3", "P3", "O1"),
    "RP": ("Fp2", "F4", "C4", "P4", "O2"),
}
CHAIN_PAIRS = [pair for chain in CHAINS.values() for pair in itertools.pairwise(chain)]
SEQUENCE_PAIRS = [*CHAIN_PAIRS, ("Fz", "Cz"), ("Cz", "Pz")]


def difference(eeg: dict[str, np.ndarray], anode: str, cathode: str) -> np.ndarray:
    """One bipolar signal, (time,), its gaps filled with its mean, or with 0 where there is nothing else."""
    signal = eeg[anode] - eeg[cathode]
    if np.isnan(signal).mean() < 1:
        return np.nan_to_num(signal, nan=np.nanmean(signal))
    return np.zeros_like(signal)


def by_electrode(eeg: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(ELECTRODES, eeg, strict=True))


def mel_image(eeg: dict[str, np.ndarray], clean: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    """P1: the public notebooks' EEG spectrogram, librosa for each of 16 signals of 50 s; (512, 256)."""
    image = np.zeros((128, 256, 4), dtype=np.float32)
    for k, region in enumerate(("LL", "LP", "RL", "RP")):
        for anode, cathode in itertools.pairwise(CHAINS[region]):
            signal = difference(eeg, anode, cathode)
            signal = clean(signal) if clean else signal
            mel = librosa.feature.melspectrogram(
                y=signal, sr=200, hop_length=len(signal) // 256, n_fft=1024, n_mels=128, fmin=0, fmax=20, win_length=128
            )
            width = mel.shape[1] // 32 * 32
            decibels = librosa.power_to_db(mel, ref=np.max).astype(np.float32)[:, :width]
            image[:, :, k] += (decibels + 40) / 40
        image[:, :, k] /= 4.0
    return np.concatenate([image[:, :, k] for k in range(4)])


def mel_image_of_file(path: Path) -> np.ndarray:
    """P2: the same from a parquet file, its central 50 s, read by pandas; (512, 256)."""
    table = pd.read_parquet(path)
    middle = (len(table) - 10_000) // 2
    table = table.iloc[middle : middle + 10_000]
    return mel_image({name: table[name].values for name in table.columns})


def percentile_image(panels: np.ndarray) -> np.ndarray:
    """P3: numpy.percentile across the four panels, once for each percentage; (4, height, width)."""
    return np.stack([np.percentile(panels, q, axis=0) for q in (20, 40, 60, 80)])


def butter_bandpass_filter(signal: np.ndarray) -> np.ndarray:
    nyquist = 0.5 * 200
    b, a = scipy.signal.butter(2, [0.5 / nyquist, 20 / nyquist], btype="band")
    return scipy.signal.lfilter(b, a, signal)


def sequence(eeg: dict[str, np.ndarray]) -> np.ndarray:
    """P4: difference, filter designed and run, clip and scale, one of 18 signals after the other; (18, time)."""
    signals = np.zeros((len(SEQUENCE_PAIRS), len(eeg["Fp1"])), dtype=np.float32)
    for k, (anode, cathode) in enumerate(SEQUENCE_PAIRS):
        signal = butter_bandpass_filter(difference(eeg, anode, cathode))
        signals[k] = np.clip(signal, -1024, 1024) / 32.0
    return signals


def kaggle_image(path: Path) -> np.ndarray:
    """P5: a spectrogram file by pandas, each panel's log power clipped and standardised by numpy; (400, 300)."""
    values = pd.read_parquet(path).iloc[:, 1:].values  # without the column of time
    panels = []
    for k in range(4):
        image = values[:300, k * 100 : (k + 1) * 100].T
        image = np.log(np.clip(image, np.exp(-4), np.exp(8)))
        image = (image - np.nanmean(image)) / (np.nanstd(image) + 1e-6)
        panels.append(np.nan_to_num(image, nan=0.0))
    return np.concatenate(panels)


def spectrogram(eeg: dict[str, np.ndarray], filtered: bool = False) -> np.ndarray:
    """P6: the competition's recipe: signals filtered one after the other if they are not yet, then a plain loop over
    columns, signals and tapers; (4, 100, columns)."""
    b, a = scipy.signal.butter(3, [0.5, 40], btype="bandpass", fs=200)
    tapers = scipy.signal.windows.dpss(800, 2, 3)
    starts = range(0, len(eeg["Fp1"]) - 799, 400)
    panels = np.zeros((4, 100, len(starts)), dtype=np.float32)
    differences = [eeg[anode].astype(np.float64) - eeg[cathode] for anode, cathode in CHAIN_PAIRS]
    passed = differences if filtered else [scipy.signal.filtfilt(b, a, signal) for signal in differences]
    signals = [passed[4 * k : 4 * k + 4] for k in range(4)]
    for column, start in enumerate(starts):
        for k in range(4):
            power = np.zeros(100)
            for signal in signals[k]:
                for taper in tapers:
                    power += np.abs(scipy.fft.rfft(taper * signal[start : start + 800], 1024)[3:103]) ** 2
            panels[k, :, column] = power / (4 * 3 * 200)
    return panels


def window_of_file(path: Path, start: int, length: int) -> np.ndarray:
    """P7: one window out of one parquet file per EEG, read by polars; (20, length)."""
    return pl.read_parquet(path, columns=list(ELECTRODES)).to_numpy()[start : start + length].T
