"""Spectra of signals at 200 Hz: short-time Fourier, mel, multitaper and Morlet, as densities in uV^2/Hz.

A window is folded about its centre before it is transformed: its even part meets only cosines, its odd part
only sines, and two products of half the length replace a zero-padded transform of which few bins are wanted.
Float32 products throughout (no TF32: its 10 bits end 60 dB below the largest bin).
"""

import functools

import numpy as np
import scipy.fft
import scipy.signal.windows
import torch
from torch import Tensor

from common.inputs import Mel, Morlet, Multitaper, Stft
from common.schema import SFREQ


def bins_between(low: float, high: float, n_fft: int) -> range:
    """Bins of an n_fft-point transform from low to high Hz, both included. Raises ValueError if there are none."""
    bins = range(int(np.ceil(low * n_fft / SFREQ - 1e-9)), int(np.floor(high * n_fft / SFREQ + 1e-9)) + 1)
    if not bins:
        raise ValueError(f"no bin of {SFREQ}/{n_fft} Hz lies between {low} and {high} Hz; raise n_fft")
    return bins


def one_sided(bins: range, n_fft: int) -> np.ndarray:
    """Both halves of the spectrum in one: twice the power, but for the bins that are their own mirror image."""
    return np.where(np.isin(np.array(bins) * 2 % n_fft, 0), 1.0, 2.0)


@functools.cache
def hann_basis(window: int, n_fft: int, bins: range) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines under a periodic Hann window for frames folded about sample window / 2, two arrays
    (bins, window / 2), float64. The first sample of the window is 0 and is left out; the centre counts once."""
    from_centre = np.arange(window // 2)
    taper = 0.5 * (1 + np.cos(2 * np.pi * from_centre / window))
    angles = 2 * np.pi * np.outer(np.array(bins), from_centre) / n_fft
    cosines, sines = taper * np.cos(angles), taper * np.sin(angles)
    cosines[:, 0] /= 2
    return cosines, sines


@functools.cache
def taper_basis(
    window: int, n_fft: int, bins: range, time_bandwidth: float, n_tapers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tapered cosines and sines for frames folded about their middle, two arrays (tapers x bins, window / 2).

    DPSS tapers of unit energy are even or odd about the middle: for an odd one the sines are even.
    """
    half = window // 2
    tapers = scipy.signal.windows.dpss(window, time_bandwidth, n_tapers)[:, half:]
    angles = 2 * np.pi * np.outer(np.array(bins), np.arange(half) + 0.5) / n_fft
    cosines, sines = np.cos(angles), np.sin(angles)
    even = [taper * (sines if order % 2 else cosines) for order, taper in enumerate(tapers)]
    odd = [taper * (cosines if order % 2 else sines) for order, taper in enumerate(tapers)]
    return np.concatenate(even), np.concatenate(odd)


def folded_power(later: Tensor, earlier: Tensor, basis: tuple[np.ndarray, np.ndarray]) -> Tensor:
    """Power of frames from their halves after and, reversed, before the centre.

    later, earlier: (signals, frames, window / 2); basis: two (rows, window / 2). Returns (rows, signals, frames).
    """
    even_basis, odd_basis = (torch.from_numpy(array).to(later.device, later.dtype) for array in basis)
    even = even_basis @ (later + earlier).flatten(0, 1).T
    odd = odd_basis @ (later - earlier).flatten(0, 1).T
    return even.mul_(even).add_(odd.mul_(odd)).unflatten(1, later.shape[:2])


def hann_power(signal: Tensor, window: int, hop: int, n_fft: int, bins: range) -> Tensor:
    """|X|^2 of Hann-windowed frames inside the signal, (signals, time) -> (bins, signals, frames)."""
    frames, half = signal.unfold(-1, window, hop), window // 2
    return folded_power(frames[..., half:], frames[..., 1 : half + 1].flip(-1), hann_basis(window, n_fft, bins))


def hann_density(window: int) -> float:
    """What |X|^2 under a periodic Hann window of unit height is multiplied with to be a two-sided density."""
    return 1 / (SFREQ * 0.375 * window)


def stft_density(signal: Tensor, config: Stft) -> Tensor:
    """(signals, time) -> (bins, signals, frames). As scipy.signal.spectrogram with window "hann", no detrend."""
    bins = bins_between(config.low, config.high, config.n_fft)
    power = hann_power(signal, config.window, config.hop, config.n_fft, bins)
    gain = one_sided(bins, config.n_fft) * hann_density(config.window)
    return power.mul_(torch.from_numpy(gain).to(signal.device, signal.dtype)[:, None, None])


@functools.cache
def mel_taps(n_fft: int, bins: range, n_mels: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """The few bins that each mel is made of: positions in `bins` (taps, mels) and weights (taps, mels).

    Below 1 kHz the Slaney mel scale is linear in Hz, so the triangles are evenly spaced; all have the area 1 Hz.
    """
    edges = np.linspace(low, high, n_mels + 2)
    frequencies = np.array(bins)[:, None] * SFREQ / n_fft
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])
    n_taps = int((weights > 0).sum(axis=0).max())
    largest = np.sort(np.argsort(weights, axis=0, kind="stable")[-n_taps:], axis=0)
    return largest, np.take_along_axis(weights, largest, axis=0)


def mel_power(signal: Tensor, window: int, hop: int, n_fft: int, n_mels: int, low: float, high: float) -> Tensor:
    """(signals, time) -> (mels, signals, time // hop + 1), lowest first; 0 is assumed beyond the ends.

    Equal to librosa.feature.melspectrogram(sr=200, win_length=window, center=True, fmin=low, fmax=high).
    """
    bins = range(max(int(np.floor(low * n_fft / SFREQ)), 1), int(np.ceil(high * n_fft / SFREQ)))  # > 0, < high
    padded = torch.nn.functional.pad(signal, (window // 2, window // 2))
    power = hann_power(padded, window, hop, n_fft, bins)
    positions, weights = mel_taps(n_fft, bins, n_mels, low, high)
    total: Tensor | None = None
    for position, weight in zip(positions, weights, strict=True):
        tap = power.index_select(0, torch.from_numpy(position).to(signal.device))
        gain = torch.from_numpy(weight).to(signal.device, signal.dtype)[:, None, None]
        tap.mul_(gain)
        total = tap if total is None else total.add_(tap)
    assert total is not None
    return total


def mel_density(signal: Tensor, config: Mel) -> Tensor:
    """(signals, time) -> (mels, signals, time // hop + 1): the density averaged under each triangle."""
    power = mel_power(signal, config.window, config.hop, config.n_fft, config.n_mels, config.low, config.high)
    return power.mul_(2 * hann_density(config.window) * SFREQ / config.n_fft)


def multitaper_density(signal: Tensor, config: Multitaper) -> Tensor:
    """(signals, time) -> (bins, signals, frames): equal weights for all tapers."""
    bins = bins_between(config.low, config.high, config.n_fft)
    basis = taper_basis(config.window, config.n_fft, bins, config.time_bandwidth, config.tapers)
    frames, half = signal.unfold(-1, config.window, config.hop), config.window // 2
    power = folded_power(frames[..., half:], frames[..., :half].flip(-1), basis)
    gain = torch.from_numpy(one_sided(bins, config.n_fft) / SFREQ).to(signal.device, signal.dtype)
    return power.unflatten(0, (config.tapers, len(bins))).mean(dim=0).mul_(gain[:, None, None])


@functools.cache
def morlet_kernel(frequency: float, bandwidth: float) -> np.ndarray:
    """The complex Morlet wavelet exp(-t^2 / bandwidth + 2 pi i t) / sqrt(pi bandwidth), t in periods, of unit
    height in its own time; each sample its mean over the sample. Odd length, complex128. As pywt's cmor."""
    scale = SFREQ / frequency  # samples in a period
    reach = int(np.ceil(scale * np.sqrt(21 * bandwidth)))  # e^-21 of the height is left there
    nodes, shares = np.polynomial.legendre.leggauss(8)
    periods = (np.arange(-reach, reach + 1)[:, None] + nodes / 2) / scale
    values = np.exp(-(periods**2) / bandwidth + 2j * np.pi * periods) / np.sqrt(np.pi * bandwidth)
    return values @ (shares / 2) / np.sqrt(scale)


def morlet_frequencies(config: Morlet) -> np.ndarray:
    """Hz, evenly spaced in octaves, both ends included."""
    return np.geomspace(config.low, config.high, config.frequencies)


def morlet_power(signal: Tensor, frequency: float, bandwidth: float) -> Tensor:
    """|continuous wavelet transform|^2 at one frequency, (signals, time) -> (signals, time). 0 beyond the ends."""
    kernel = morlet_kernel(frequency, bandwidth)
    n_time, reach = signal.shape[-1], len(kernel) // 2
    n_fft = scipy.fft.next_fast_len(n_time + 2 * reach)
    response = torch.from_numpy(np.fft.fft(kernel, n_fft).astype(np.complex64)).to(signal.device)
    wave = torch.fft.ifft(torch.fft.fft(signal, n_fft).mul_(response))[..., reach : reach + n_time]
    return wave.real.square() + wave.imag.square()


def morlet_density(signal: Tensor, config: Morlet) -> Tensor:
    """(signals, time) -> (frequencies, signals, time // hop), lowest first; power averaged over each hop.

    Divided by the wavelet's energy, so that white noise has its density at every frequency.
    """
    rows = []
    for frequency in map(float, morlet_frequencies(config)):
        power = morlet_power(signal, frequency, config.bandwidth)
        # Of the kernel, not of the formula: the mean over a sample takes 3 % at 20 Hz, 12 % at 40 Hz.
        energy = float((np.abs(morlet_kernel(frequency, config.bandwidth)) ** 2).sum())
        rows.append(power.unfold(-1, config.hop, config.hop).mean(dim=-1) * (2 / (SFREQ * energy)))
    return torch.stack(rows)


def density(signal: Tensor, config: Stft | Mel | Multitaper | Morlet) -> Tensor:
    """Power density in uV^2/Hz: (signals, time) microvolts without NaN -> (frequencies, signals, columns)."""
    if isinstance(config, Stft):
        return stft_density(signal, config)
    if isinstance(config, Mel):
        return mel_density(signal, config)
    if isinstance(config, Multitaper):
        return multitaper_density(signal, config)
    return morlet_density(signal, config)


def frequency_axis(config: Stft | Mel | Multitaper | Morlet) -> np.ndarray:
    """Hz of the rows of `density`."""
    if isinstance(config, Mel):
        return np.linspace(config.low, config.high, config.n_mels + 2)[1:-1]
    if isinstance(config, Morlet):
        return morlet_frequencies(config)
    return np.array(bins_between(config.low, config.high, config.n_fft)) * SFREQ / config.n_fft
