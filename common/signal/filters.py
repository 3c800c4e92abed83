"""Gaps, the band-pass and the way down to lower rates. Time is the last axis; any device."""

import functools

import numpy as np
import scipy.fft
import scipy.signal
import torch
from torch import Tensor

from common.schema import SFREQ, WINDOW_SAMPLES

CAUSAL_ORDER = 2  # of the Butterworth band-pass in the published notebooks
NEGLIGIBLE = 1e-9  # of an impulse response's largest value: what comes after is cut off


def fill_gaps(signal: Tensor) -> Tensor:
    """NaN samples become their channel's mean; a channel without one finite sample becomes 0.

    signal: (..., time). The mean is what the public recipe of the EEG spectrogram uses, and what a
    high-pass afterwards turns into silence.
    """
    if not signal.sum().isnan():
        return signal
    gaps = signal.isnan()
    n_known = signal.shape[-1] - gaps.sum(dim=-1, keepdim=True)
    mean = signal.nansum(dim=-1, keepdim=True, dtype=torch.float64) / n_known.clamp(min=1)
    return torch.where(gaps, mean.to(signal.dtype), signal)


def transition_low_pass(pass_edge: float, stop_edge: float) -> np.ndarray:
    """A Hamming-windowed sinc that passes below one edge (Hz) and stops above the other.

    3.3 periods of the transition width is the length at which a Hamming window reaches its 53 dB.
    """
    n_taps = round(3.3 * SFREQ / (stop_edge - pass_edge))
    n_taps += 1 - n_taps % 2  # odd, so that the centre is a sample and the delay is undone exactly
    return scipy.signal.firwin(n_taps, (pass_edge + stop_edge) / 2, window="hamming", fs=SFREQ)


def upper_transition(high: float) -> float:
    """Hz that the zero-phase band-pass takes from passing to stopping above `high`."""
    return min(max(high / 4, 2.0), SFREQ / 2 - high)


@functools.cache
def band_pass_taps(low: float, high: float) -> np.ndarray:
    """Impulse response of the zero-phase band-pass low ... high Hz, symmetric, float64.

    Design as MNE-Python's default ("firwin"): flat between low and high, the lower transition
    min(max(low / 4, 2), low) wide, the upper max(high / 4, 2): steep below, where drift is strong,
    gentle above, so that sharp waves do not ring.
    """
    low_width = min(max(low / 4, 2.0), low)
    lower = transition_low_pass(low - low_width, low)
    upper = transition_low_pass(high, high + upper_transition(high))
    taps = np.zeros(max(len(lower), len(upper)))
    for part, sign in ((upper, 1.0), (lower, -1.0)):
        start = (len(taps) - len(part)) // 2
        taps[start : start + len(part)] += sign * part
    return taps


def aliases(high: float, sfreq: int, phase: str) -> bool:
    """Whether thinning to `sfreq` needs a low-pass: the band-pass leaves something above half of it."""
    if sfreq == SFREQ:
        return False
    return phase == "causal" or high + upper_transition(high) > sfreq / 2


@functools.cache
def zero_phase_taps(low: float, high: float, sfreq: int) -> np.ndarray:
    """The band-pass and, where it is needed, the low-pass before thinning: flat to 80 % of half of sfreq."""
    taps = band_pass_taps(low, high)
    if aliases(high, sfreq, "zero"):
        taps = np.convolve(taps, transition_low_pass(0.4 * sfreq, 0.5 * sfreq))
    return taps


@functools.cache
def causal_taps(low: float, high: float, sfreq: int) -> np.ndarray:
    """Impulse response of the recursive filters: Butterworth band-pass, then, before thinning, the Chebyshev
    low-pass of order 8 to 80 % of half of sfreq that scipy.signal.decimate uses. As a convolution it runs over all
    channels at once, on any device, and in float32 without the rounding that recursion feeds back. At most as long
    as a window: near 0.05 Hz it rings through all of it."""
    impulse = np.zeros(WINDOW_SAMPLES)
    impulse[0] = 1.0
    band = scipy.signal.butter(CAUSAL_ORDER, (low, high), btype="bandpass", fs=SFREQ, output="sos")
    taps = scipy.signal.sosfilt(band, impulse)
    if aliases(high, sfreq, "causal"):
        taps = scipy.signal.sosfilt(scipy.signal.cheby1(8, 0.05, 0.8 * sfreq / SFREQ, output="sos"), taps)
    audible = np.flatnonzero(np.abs(taps) > NEGLIGIBLE * np.abs(taps).max())
    return taps[: audible[-1] + 1]


@functools.cache
def frequency_response(low: float, high: float, phase: str, sfreq: int, n_time: int) -> tuple[int, int, np.ndarray]:
    """Length of the filter, length of the circular convolution that holds a signal of n_time, and the
    filter's complex128 response there."""
    taps = zero_phase_taps(low, high, sfreq) if phase == "zero" else causal_taps(low, high, sfreq)
    margin = len(taps) // 2
    if phase == "zero" and n_time <= margin:
        raise ValueError(f"band-pass {low}-{high} Hz needs more than {margin} samples, got {n_time}")
    # Zero phase: as long as the extended signal, for only its first len(taps) - 1 samples wrap around.
    needed = n_time + 2 * margin if phase == "zero" else n_time + len(taps) - 1
    n_fft = scipy.fft.next_fast_len(needed, real=True)
    return len(taps), n_fft, np.fft.rfft(taps, n_fft)


def band_pass(signal: Tensor, low: float, high: float, phase: str = "zero", sfreq: int = SFREQ) -> Tensor:
    """Band-pass low ... high Hz and thin to `sfreq`, a divisor of 200.

    signal: (..., time) at 200 Hz without NaN; returns (..., time * sfreq / 200), in the signal's precision.
    "zero": symmetric FIR without delay; the ends are continued by odd reflection, which keeps a slope a
    slope. "causal": second-order Butterworth from rest, as scipy.signal.butter and lfilter give it.
    """
    n_time = signal.shape[-1]
    n_taps, n_fft, values = frequency_response(low, high, phase, sfreq, n_time)
    response = torch.from_numpy(values).to(signal.device, signal.dtype.to_complex())
    if phase == "zero":
        margin = n_taps // 2
        signal = signal - signal.mean(dim=-1, keepdim=True)  # float32 keeps its digits for the EEG, not for DC
        before = 2 * signal[..., :1] - signal[..., 1 : margin + 1].flip(-1)
        after = 2 * signal[..., -1:] - signal[..., -margin - 1 : -1].flip(-1)
        signal = torch.cat([before, signal, after], dim=-1)
    first = n_taps - 1 if phase == "zero" else 0
    filtered = torch.fft.irfft(torch.fft.rfft(signal, n_fft).mul_(response), n_fft)
    return filtered[..., first : first + n_time : SFREQ // sfreq]
