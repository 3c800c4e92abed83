"""Spectra of signals at 200 Hz: short-time Fourier, mel, multitaper and Morlet, as densities in uV^2/Hz.

A window is folded about its centre before it is transformed: its even part meets only cosines, its odd part
only sines, and products of half the length replace a zero-padded transform of which few bins are wanted.

What a window of T seconds shows below B Hz is some 2 B T numbers, however many bins there are. So a few bins are
computed in float64, and the others are interpolated between them in float32. It takes hardly longer than all
of them in float32, where the rounding of a movement of millivolts would be heard in the bins 80 dB below it.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.fft
import scipy.linalg
import scipy.signal.windows
import torch
from torch import Tensor

from common.schema import SFREQ

# What half a frame is multiplied with, (rows, samples), as rows to compute (rank, samples) and weights that
# interpolate all rows between them (rows, rank).
Interpolated = tuple[np.ndarray, np.ndarray]
Basis = tuple[Interpolated, Interpolated]  # for the even and the odd half
CACHED_SIGNALS = 8  # whose frames a core of the CPU has at hand at once
NEGLIGIBLE_ROW = 1e-11  # of the largest: what is left of a row when it is interpolated


def bins_between(low: float, high: float, n_fft: int) -> range:
    """Bins of an n_fft-point transform from low to high Hz, both included. Raises ValueError if there are none."""
    bins = range(int(np.ceil(low * n_fft / SFREQ - 1e-9)), int(np.floor(high * n_fft / SFREQ + 1e-9)) + 1)
    if not bins:
        raise ValueError(f"no bin of {SFREQ}/{n_fft} Hz lies between {low} and {high} Hz; raise n_fft")
    return bins


def one_sided(bins: range, n_fft: int) -> np.ndarray:
    """Both halves of the spectrum in one: twice the power, but for the bins that are their own mirror image."""
    return np.where(np.isin(np.array(bins) * 2 % n_fft, 0), 1.0, 2.0)


def interpolated(rows: np.ndarray) -> Interpolated:
    """The rows that the others follow from, found by a pivoted QR decomposition, and their weights."""
    triangle, order = scipy.linalg.qr(rows.T, mode="r", pivoting=True)
    size = np.abs(np.diag(triangle))
    rank = int((size > NEGLIGIBLE_ROW * size[0]).sum())
    chosen = np.sort(order[:rank])
    weights = np.linalg.lstsq(rows[chosen].T, rows.T, rcond=None)[0].T
    empty = -rank % 8  # products of a multiple of 8 rows are the fastest
    return np.pad(rows[chosen], ((0, empty), (0, 0))), np.pad(weights, ((0, 0), (0, empty)))


@functools.cache
def hann_basis(window: int, n_fft: int, bins: range) -> Basis:
    """Cosines and sines under a periodic Hann window for frames folded about sample window / 2, both
    (bins, window / 2). The first sample of the window is 0 and is left out; the centre counts once."""
    from_centre = np.arange(window // 2)
    taper = 0.5 * (1 + np.cos(2 * np.pi * from_centre / window))
    angles = 2 * np.pi * np.outer(np.array(bins), from_centre) / n_fft
    cosines, sines = taper * np.cos(angles), taper * np.sin(angles)
    cosines[:, 0] /= 2
    return interpolated(cosines), interpolated(sines)


@functools.cache
def taper_basis(window: int, n_fft: int, bins: range, time_bandwidth: float, n_tapers: int) -> Basis:
    """tapered_rows, interpolated."""
    even, odd = tapered_rows(window, n_fft, bins, time_bandwidth, n_tapers)
    return interpolated(even), interpolated(odd)


def tapered_rows(
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


def folded_power(later: Tensor, earlier: Tensor, basis: Basis) -> Tensor:
    """Power of frames from their halves after and, reversed, before the centre.

    later, earlier: (signals, frames, window / 2) float64; basis: of (rows, window / 2). Returns (rows, signals,
    frames) float32.
    """
    chunk = len(later) if later.device.type == "cuda" else CACHED_SIGNALS
    few: tuple[list[Tensor], list[Tensor]] = ([], [])
    for after, before in zip(later.split(chunk), earlier.split(chunk), strict=True):
        for computed, (rows, _), half in zip(few, basis, (after + before, after - before), strict=True):
            computed.append((torch.from_numpy(rows).to(half.device) @ half.flatten(0, 1).T).float())
    power = torch.zeros((), device=later.device)
    for computed, (_, weights) in zip(few, basis, strict=True):
        every = torch.from_numpy(weights).to(later.device, torch.float32) @ torch.cat(computed, dim=1)
        power = every.mul_(every).add_(power)
    return power.unflatten(1, later.shape[:2])


def hann_power(signal: Tensor, window: int, hop: int, n_fft: int, bins: range) -> Tensor:
    """|X|^2 of Hann-windowed frames inside the signal, (signals, time) -> (bins, signals, frames)."""
    frames, half = signal.double().unfold(-1, window, hop), window // 2
    return folded_power(frames[..., half:], frames[..., 1 : half + 1].flip(-1), hann_basis(window, n_fft, bins))


def hann_density(window: int) -> float:
    """What |X|^2 under a periodic Hann window of unit height is multiplied with to be a two-sided density."""
    return 1 / (SFREQ * 0.375 * window)


@functools.cache
def mel_taps(n_fft: int, bins: range, n_mels: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """The few bins that each mel is made of: positions in `bins` (mels, taps) and weights (mels, taps).

    Below 1 kHz the Slaney mel scale is linear in Hz, so the triangles are evenly spaced; all have the area 1 Hz.
    """
    edges = np.linspace(low, high, n_mels + 2)
    frequencies = np.array(bins)[:, None] * SFREQ / n_fft
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])
    if len(empty := np.flatnonzero(weights.sum(axis=0) == 0)):
        raise ValueError(
            f"{len(empty)} of {n_mels} mels between {low} and {high} Hz hold no bin of {SFREQ}/{n_fft} Hz; "
            "raise n_fft, or ask for fewer mels"
        )
    n_taps = int((weights > 0).sum(axis=0).max())
    largest = np.sort(np.argsort(weights, axis=0, kind="stable")[-n_taps:], axis=0)
    return np.ascontiguousarray(largest.T), np.ascontiguousarray(np.take_along_axis(weights, largest, axis=0).T)


def mel_power(signal: Tensor, window: int, hop: int, n_fft: int, n_mels: int, low: float, high: float) -> Tensor:
    """(signals, time) -> (mels, signals, time // hop + 1), lowest first; 0 is assumed beyond the ends.

    Equal to librosa.feature.melspectrogram(sr=200, win_length=window, center=True, fmin=low, fmax=high).
    """
    bins = range(max(int(np.floor(low * n_fft / SFREQ)), 1), int(np.ceil(high * n_fft / SFREQ)))  # > 0, < high
    positions, weights = mel_taps(n_fft, bins, n_mels, low, high)
    padded = torch.nn.functional.pad(signal, (window // 2, window // 2))
    power = hann_power(padded, window, hop, n_fft, bins)
    bags = torch.from_numpy(positions).to(signal.device)
    shares = torch.from_numpy(weights).to(signal.device, power.dtype)
    mels = torch.nn.functional.embedding_bag(bags, power.flatten(1), per_sample_weights=shares, mode="sum")
    return mels.unflatten(1, power.shape[1:])


def tapered_power(
    signal: Tensor, window: int, hop: int, n_fft: int, bins: range, time_bandwidth: float, n_tapers: int
) -> Tensor:
    """|X|^2 of frames inside the signal under each DPSS taper, (signals, time) -> (tapers, bins, signals, frames)."""
    basis = taper_basis(window, n_fft, bins, time_bandwidth, n_tapers)
    frames, half = signal.double().unfold(-1, window, hop), window // 2
    power = folded_power(frames[..., half:], frames[..., :half].flip(-1), basis)
    return power.unflatten(0, (n_tapers, len(bins)))


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


@functools.cache
def morlet_response(frequency: float, bandwidth: float, n_fft: int) -> np.ndarray:
    """The kernel, centred on sample 0, as a filter's response to a transform of n_fft samples; complex128."""
    kernel = morlet_kernel(frequency, bandwidth)
    centred = np.zeros(n_fft, dtype=np.complex128)
    centred[: len(kernel)] = kernel
    return np.fft.fft(np.roll(centred, -(len(kernel) // 2)))


def morlet_powers(signal: Tensor, frequencies: Sequence[float], bandwidth: float) -> Iterator[Tensor]:
    """|continuous wavelet transform|^2 of (signals, time) at each frequency, lowest first, (signals, time) float64;
    0 is assumed beyond the ends."""
    n_time, longest = signal.shape[-1], len(morlet_kernel(frequencies[0], bandwidth))
    n_fft = scipy.fft.next_fast_len(n_time + longest)
    spectrum = torch.fft.fft(signal.double(), n_fft)
    for frequency in frequencies:
        response = torch.from_numpy(morlet_response(frequency, bandwidth, n_fft)).to(signal.device)
        wave = torch.fft.ifft(spectrum * response)[..., :n_time]
        yield wave.real.square() + wave.imag.square()
