"""Gaps and the band-pass. All functions keep the time axis last and work on any device."""

import functools

import numpy as np
import scipy.fft
import scipy.signal
import torch
from torch import Tensor

from common.schema import SFREQ


def fill_gaps(signal: Tensor) -> Tensor:
    """NaN samples become their channel's mean; a channel without one finite sample becomes 0.

    signal: (..., time). The mean is what the public recipe of the EEG spectrogram uses, and what a
    high-pass afterwards turns into silence.
    """
    missing = signal.isnan()
    if not missing.any():
        return signal
    mean = signal.double().nanmean(dim=-1, keepdim=True).nan_to_num(nan=0.0).to(signal.dtype)
    return torch.where(missing, mean, signal)


def transition_low_pass(pass_edge: float, stop_edge: float) -> np.ndarray:
    """A Hamming-windowed sinc that passes below one edge (Hz) and stops above the other.

    3.3 periods of the transition width is the length at which a Hamming window reaches its 53 dB.
    """
    n_taps = round(3.3 * SFREQ / (stop_edge - pass_edge))
    n_taps += 1 - n_taps % 2  # odd, so that the centre is a sample and the delay is undone exactly
    return scipy.signal.firwin(n_taps, (pass_edge + stop_edge) / 2, window="hamming", fs=SFREQ)


@functools.cache
def band_pass_taps(low: float, high: float) -> np.ndarray:
    """Impulse response of the zero-phase band-pass low ... high Hz, symmetric, float64.

    Design as MNE-Python's default ("firwin"): flat between low and high, the lower transition
    min(max(low / 4, 2), low) wide, the upper max(high / 4, 2): steep below, where drift is strong,
    gentle above, so that sharp waves do not ring.
    """
    low_width = min(max(low / 4, 2.0), low)
    high_width = min(max(high / 4, 2.0), SFREQ / 2 - high)
    taps = -transition_low_pass(low - low_width, low)
    upper = transition_low_pass(high, high + high_width)
    if len(upper) > len(taps):
        raise ValueError(f"band-pass {low}-{high} Hz: the upper edge is steeper than the lower one")
    start = (len(taps) - len(upper)) // 2
    taps[start : start + len(upper)] += upper
    return taps


def band_pass(signal: Tensor, low: float, high: float) -> Tensor:
    """Zero-phase FIR band-pass, half amplitude just outside low ... high Hz.

    signal: (channels, time) at 200 Hz without NaN; returns the same shape. The ends are continued
    by odd reflection, which keeps a slope a slope. Source: band_pass_taps.
    """
    taps = band_pass_taps(low, high)
    n_time, margin = signal.shape[-1], len(taps) // 2
    if n_time <= margin:
        raise ValueError(f"band-pass {low}-{high} Hz needs more than {margin} samples, got {n_time}")
    signal = signal - signal.mean(dim=-1, keepdim=True)  # float32 keeps its digits for the EEG, not for DC
    before = 2 * signal[..., :1] - signal[..., 1 : margin + 1].flip(-1)
    after = 2 * signal[..., -1:] - signal[..., -margin - 1 : -1].flip(-1)
    extended = torch.cat([before, signal, after], dim=-1)
    # Circular convolution as long as the extended signal: only its first len(taps) - 1 samples wrap.
    n_fft = scipy.fft.next_fast_len(extended.shape[-1], real=True)
    response = torch.fft.rfft(torch.from_numpy(taps).to(signal.device, signal.dtype), n_fft)
    filtered = torch.fft.irfft(torch.fft.rfft(extended, n_fft) * response, n_fft)
    return filtered[..., len(taps) - 1 : len(taps) - 1 + n_time]
