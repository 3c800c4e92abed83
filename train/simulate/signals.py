"""The few signals everything else is made of: slow noise, coloured noise, pulse trains, envelopes."""

from collections.abc import Callable

import numpy as np
from scipy.fft import irfft, next_fast_len, rfftfreq
from scipy.ndimage import uniform_filter1d
from scipy.signal import oaconvolve

from common.schema import SFREQ


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between low and high whose logarithm is uniform (scales have no preferred unit)."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def slow_noise(n: int, cutoff: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of about unit variance that wanders below `cutoff` Hz, shape (n,), float32."""
    n_knots = int(2 * cutoff * n / SFREQ) + 2  # Nyquist: two knots a cycle
    knots = rng.standard_normal(n_knots)
    lines = np.interp(np.linspace(0, n_knots - 1, n), np.arange(n_knots), knots)
    curve = uniform_filter1d(lines.astype(np.float32), max(1, n // n_knots))  # without kinks
    return curve * np.float32(0.55**-0.5)  # quadratic splines of independent knots keep 0.55 of the variance


def coloured_noise(
    n: int, n_sources: int, psd: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Gaussian noise with a given power spectrum, each source of unit variance.

    psd maps frequencies in Hz (n_frequencies,) to relative power, (n_frequencies,) or
    (n_sources, n_frequencies). Returns (n_sources, n) float32.
    """
    length = next_fast_len(max(n, 2), real=True)
    power = np.asarray(psd(rfftfreq(length, 1 / SFREQ)), dtype=np.float32)
    power = power / power.sum(axis=-1, keepdims=True)
    spectrum = rng.standard_normal((n_sources, power.shape[-1], 2), dtype=np.float32).view(np.complex64)[..., 0]
    # A unit complex normal per bin (variance 2) and its mirror image: the factor makes the variance one.
    return irfft(spectrum * np.sqrt(power), length)[:, :n] * np.float32(length / 2)


def band(low: float, high: float) -> Callable[[np.ndarray], np.ndarray]:
    """A power spectrum that is one between low and high Hz and falls off steeply outside."""
    # Eighth-order Butterworth slopes; the floor keeps 0 Hz from dividing by zero.
    return lambda f: 1 / (1 + (low / np.maximum(f, 1e-3)) ** 8) / (1 + (f / high) ** 8)


def bump(width: float) -> np.ndarray:
    """A Gaussian pulse of peak one, `width` s wide at half height, (n,) with its peak in the middle."""
    sigma = width / 2.355  # full width at half maximum of a Gaussian
    half = int(np.ceil(3.5 * sigma * SFREQ))
    return np.exp(-0.5 * (np.arange(-half, half + 1) / (sigma * SFREQ)) ** 2).astype(np.float32)


def pulse_train(times: np.ndarray, heights: np.ndarray, pulse: np.ndarray, n: int) -> np.ndarray:
    """The pulse, its middle at each time (s) and scaled by each height, (n,) float32."""
    impulses = np.zeros(n, dtype=np.float32)
    samples = np.round(np.asarray(times) * SFREQ).astype(int)
    inside = (samples >= 0) & (samples < n)
    np.add.at(impulses, samples[inside], np.asarray(heights, dtype=np.float32)[inside])
    return oaconvolve(impulses, pulse, mode="full")[len(pulse) // 2 :][:n]


def event_times(seconds: float, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Poisson events of `rate` Hz: a random number of random times (s)."""
    return rng.uniform(0, seconds, rng.poisson(rate * seconds))


def renewal_times(seconds: float, rate: float, cv: float, rng: np.random.Generator) -> np.ndarray:
    """Events of `rate` Hz whose intervals vary by the coefficient `cv`: (n_events,) s."""
    intervals = rng.gamma(1 / cv**2, cv**2 / rate, int(seconds * rate * 1.5) + 10)
    times = np.cumsum(intervals) - rng.uniform() / rate
    return times[(times > 0) & (times < seconds)]


def taper_ends(n: int, seconds: float) -> np.ndarray:
    """An envelope of ones that rises and falls over `seconds` at its two ends, (n,) float32."""
    distance = np.minimum(np.arange(n), np.arange(n)[::-1]) / (seconds * SFREQ)
    return np.sin(0.5 * np.pi * np.minimum(distance, 1)).astype(np.float32) ** 2
