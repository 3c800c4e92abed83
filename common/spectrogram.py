"""The competition's own spectrogram: four regions, multitaper, a column every 2 s."""

import functools

import numpy as np
import scipy.signal.windows
import torch
from torch import Tensor

from common.montage import CHAIN_PAIRS, bipolar
from common.schema import (
    N_FREQUENCIES,
    REGIONS,
    SFREQ,
    SPECTROGRAM_BINS,
    SPECTROGRAM_COLUMNS,
    SPECTROGRAM_NFFT,
    SPECTROGRAM_STEP_SECONDS,
    WINDOW_SECONDS,
)

# The competition's recipe, recovered from a real recording: 4 s windows every 2 s, three DPSS tapers.
TAPER_SAMPLES = 4 * SFREQ
TAPER_STEP = SPECTROGRAM_STEP_SECONDS * SFREQ
TIME_BANDWIDTH, N_TAPERS = 2, 3
# Column k spans seconds 2k - 1 ... 2k + 3 of the 600: these lie inside the central 50 s.
CENTRE_COLUMNS = range(138, 162)


@functools.cache
def multitaper_basis() -> tuple[np.ndarray, np.ndarray]:
    """Tapered cosines and sines of the 100 bins for the folded window, two arrays (400, 3 x 100), float64.

    DPSS tapers of unit energy are even or odd about the window's centre, and the phase is free: so the
    even part of a signal meets only the even products, its odd part only the odd ones, and two products
    of half the length replace the zero-padded 1024-point transforms.
    """
    half = TAPER_SAMPLES // 2
    tapers = scipy.signal.windows.dpss(TAPER_SAMPLES, TIME_BANDWIDTH, N_TAPERS)[:, :half, None]
    from_centre = np.arange(half) - (TAPER_SAMPLES - 1) / 2
    angles = 2 * np.pi * np.outer(from_centre, np.array(SPECTROGRAM_BINS)) / SPECTROGRAM_NFFT
    cosines, sines = np.cos(angles), np.sin(angles)
    even = [taper * (cosines if order % 2 == 0 else sines) for order, taper in enumerate(tapers)]
    odd = [taper * (sines if order % 2 == 0 else cosines) for order, taper in enumerate(tapers)]
    return np.concatenate(even, axis=1), np.concatenate(odd, axis=1)


def competition_spectrogram(eeg: Tensor | np.ndarray) -> Tensor:
    """The spectrogram as the competition's files hold it.

    eeg: (20, n) microvolts at 200 Hz in schema order, unfiltered; n >= 800. Returns
    (4, 100, columns) float32 power in uV^2/Hz, regions LL, RL, RP, LP, 0.59 ... 19.92 Hz, one
    column every 2 s: column j is made of samples 400 j ... 400 j + 799. A column without any finite
    difference is NaN; where only some of the four differences have gaps, the others are averaged.
    Source: the recipe was recovered by fitting a real 10-minute spectrogram to EEG of the same
    recording. Computed in float64: a drift of millivolts lies 100 dB above the weakest bins.
    """
    eeg = torch.as_tensor(eeg)
    if eeg.shape[-1] < TAPER_SAMPLES:
        raise ValueError(f"a spectrogram column needs {TAPER_SAMPLES} samples (4 s), got {eeg.shape[-1]}")
    even, odd = (torch.from_numpy(basis).to(eeg.device) for basis in multitaper_basis())
    differences = bipolar(eeg.double(), CHAIN_PAIRS).unflatten(0, (len(REGIONS), -1))  # (4, 4, time)
    frames = differences.unfold(-1, TAPER_SAMPLES, TAPER_STEP)  # (4, 4, columns, 800)
    first, second = frames.chunk(2, dim=-1)
    second = second.flip(-1)
    power = ((first + second) @ even).square() + ((first - second) @ odd).square()
    power = power.unflatten(-1, (N_TAPERS, N_FREQUENCIES)).mean(dim=-2) / SFREQ  # (4, 4, columns, 100)
    return power.nanmean(dim=1).transpose(-2, -1).float()


def rebuild_spectrogram(spectrogram: Tensor | None, eeg: Tensor) -> Tensor:
    """Fill what is missing in the 24 centre columns of a 10-minute spectrogram from its 50 s of EEG.

    spectrogram: (4, 100, 300), NaN where missing, or None; eeg: (20, 10000) microvolts. Returns a
    new (4, 100, 300); values that were there, and everything outside the centre, stay as they were.
    """
    if spectrogram is None:
        shape = (len(REGIONS), N_FREQUENCIES, SPECTROGRAM_COLUMNS)
        spectrogram = torch.full(shape, torch.nan, device=eeg.device)
    rebuilt = spectrogram.clone()
    columns = competition_spectrogram(eeg)
    assert columns.shape[-1] == len(CENTRE_COLUMNS), f"{WINDOW_SECONDS} s of EEG expected"
    centre = rebuilt[..., CENTRE_COLUMNS.start : CENTRE_COLUMNS.stop]
    centre.copy_(torch.where(centre.isnan(), columns, centre))
    return rebuilt
