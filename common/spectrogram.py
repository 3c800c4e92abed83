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
def multitaper_windows() -> np.ndarray:
    """DPSS tapers of unit energy, (tapers, samples)."""
    return scipy.signal.windows.dpss(TAPER_SAMPLES, TIME_BANDWIDTH, N_TAPERS).copy()  # torch wants plain strides


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
    tapers = torch.from_numpy(multitaper_windows()).to(eeg.device)  # (tapers, 800)
    differences = bipolar(eeg.double(), CHAIN_PAIRS).unflatten(0, (len(REGIONS), -1))  # (4, 4, time)
    panels = []
    for chain in differences:
        frames = chain.unfold(-1, TAPER_SAMPLES, TAPER_STEP)  # (4, columns, 800)
        spectra = torch.fft.rfft(frames.unsqueeze(-2) * tapers, SPECTROGRAM_NFFT)
        power = spectra[..., SPECTROGRAM_BINS.start : SPECTROGRAM_BINS.stop].abs().square()
        power = power.mean(dim=-2) / SFREQ  # (4, columns, 100)
        panels.append(power.nanmean(dim=0).T)
    return torch.stack(panels).float()


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
