"""Wavelet denoising as in the public recipe: small coefficients of the discrete transform are cut."""

import functools

import numpy as np
import pywt
import torch
from torch import Tensor


@functools.cache
def analysis_filters(wavelet: str, n_time: int) -> tuple[np.ndarray, np.ndarray]:
    """Which samples each coefficient is made of, (n_time / 2, taps), and the two filters (taps, 2), low-pass
    first. The signal is taken as periodic (pywt's mode "periodization"); n_time must be even."""
    filters = pywt.Wavelet(wavelet)
    n_taps = filters.dec_len
    samples = 2 * np.arange(n_time // 2)[:, None] + n_taps // 2 - np.arange(n_taps)
    return samples % n_time, np.array([filters.dec_lo, filters.dec_hi]).T


@functools.cache
def synthesis_filters(wavelet: str, n_time: int) -> tuple[np.ndarray, np.ndarray]:
    """Which coefficients each sample is made of, (n_time, taps / 2), and with what weights (n_time, taps / 2, 2)."""
    filters = pywt.Wavelet(wavelet)
    first = np.arange(n_time)[:, None] + filters.rec_len // 2 - 1
    taps = first % 2 + 2 * np.arange(filters.rec_len // 2)
    coefficients = (first - taps) // 2 % (n_time // 2)
    return coefficients, np.array([filters.rec_lo, filters.rec_hi]).T[taps]


def decompose(signal: Tensor, wavelet: str) -> tuple[Tensor, list[Tensor]]:
    """The coarsest approximation and the details, finest first, of (..., time) float64, as deep as the filter fits."""
    details = []
    for _ in range(pywt.dwt_max_level(signal.shape[-1], pywt.Wavelet(wavelet).dec_len)):
        if signal.shape[-1] % 2:
            signal = torch.cat([signal, signal[..., -1:]], dim=-1)
        samples, filters = (torch.from_numpy(a).to(signal.device) for a in analysis_filters(wavelet, signal.shape[-1]))
        signal, detail = (signal[..., samples] @ filters).unbind(dim=-1)
        details.append(detail)
    return signal, details


def recompose(approximation: Tensor, details: list[Tensor], wavelet: str) -> Tensor:
    """The inverse of decompose; may end one sample later than the signal did."""
    for detail in reversed(details):
        both = torch.stack([approximation[..., : detail.shape[-1]], detail], dim=-1)
        arrays = synthesis_filters(wavelet, 2 * detail.shape[-1])
        coefficients, weights = (torch.from_numpy(array).to(detail.device) for array in arrays)
        approximation = (both[..., coefficients, :] * weights).sum(dim=(-2, -1))
    return approximation


def denoise(signal: Tensor, wavelet: str) -> Tensor:
    """Detail coefficients below sigma sqrt(2 ln n) become 0; sigma from the finest ones' mean absolute deviation.

    signal: (channels, time) without NaN; returns the same shape and type. Source: the public recipe of the EEG
    spectrogram (hard threshold). In float64: a coefficient at the threshold must not fall to the other side.
    """
    approximation, details = decompose(signal.double(), wavelet)
    finest, n_time = details[0], signal.shape[-1]
    deviation = (finest - finest.mean(dim=-1, keepdim=True)).abs().mean(dim=-1, keepdim=True)
    threshold = deviation / 0.6745 * np.sqrt(2 * np.log(n_time))
    kept = [torch.where(detail.abs() >= threshold, detail, 0.0) for detail in details]
    return recompose(approximation, kept, wavelet)[..., :n_time].to(signal.dtype)
