"""Spectra: the competition's own multitaper spectrogram, and the mel spectrogram of the public recipe."""

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

# The public mel recipe: 1024-point transform of 128 samples, hop 10,000 // 256, 128 mels up to 20 Hz.
MEL_NFFT, MEL_WINDOW, MEL_HOP, N_MELS, MEL_FMAX = 1024, 128, 39, 128, 20.0
MEL_FRAMES = 256
MEL_BINS = range(1, 103)  # bins with a non-zero mel weight


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


@functools.cache
def mel_basis() -> tuple[np.ndarray, np.ndarray]:
    """Windowed cosines and sines (128 samples, 2 x 102 bins), and the mel weights (102 bins, 128 mels).

    Only the 128 samples under the window and the 102 bins below 20 Hz matter, so a short product
    replaces the 1024-point transform; the phase is free, so the window may start at sample 0.
    """
    window = scipy.signal.windows.hann(MEL_WINDOW, sym=False)
    bins = np.array(MEL_BINS)
    angles = 2 * np.pi * np.outer(np.arange(MEL_WINDOW), bins) / MEL_NFFT
    fourier = window[:, None] * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    # Below 1 kHz the Slaney mel scale is linear in Hz, so the triangles are evenly spaced.
    edges = np.linspace(0, MEL_FMAX, N_MELS + 2)
    frequencies = bins[:, None] * SFREQ / MEL_NFFT
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    area = 2 / (edges[2:] - edges[:-2])  # Slaney: every triangle has the same area
    weights = np.maximum(0, np.minimum(rising, falling)) * area
    return fourier.astype(np.float32), weights.astype(np.float32)


def mel_decibels(signal: Tensor) -> Tensor:
    """Mel spectrogram in decibels below each channel's own maximum, floored at -80 dB.

    signal: (channels, 10000) without NaN. Returns (channels, 128 mels, 256 frames), row 0 lowest.
    Equal to librosa's melspectrogram (centred, zero-padded) and power_to_db(ref=max); the maximum
    is taken over all 257 frames, of which the last is then dropped, as in the public recipe.
    """
    fourier, weights = (torch.from_numpy(array).to(signal.device) for array in mel_basis())
    padded = torch.nn.functional.pad(signal, (MEL_WINDOW // 2, MEL_WINDOW // 2))
    frames = padded.unfold(-1, MEL_WINDOW, MEL_HOP)  # (channels, 257, 128)
    real, imaginary = (frames @ fourier).chunk(2, dim=-1)
    mel = (real.square() + imaginary.square()) @ weights  # (channels, 257, 128 mels)
    peak = mel.amax(dim=(-2, -1), keepdim=True).clamp(min=1e-10)
    decibels = 10 * (mel.clamp(min=1e-10) / peak).log10()
    return decibels.clamp(min=-80)[:, :MEL_FRAMES].transpose(-2, -1)
