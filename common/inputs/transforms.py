"""The ways from waves to power density that an input may ask for; each brings its axes."""

from abc import abstractmethod
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from common.schema import SFREQ
from common.signal.spectra import (
    bins_between,
    hann_density,
    hann_power,
    mel_power,
    morlet_kernel,
    morlet_powers,
    one_sided,
    tapered_power,
)
from common.strict import Strict

LONGEST_WINDOW = 10 * SFREQ


class Transform(Strict):
    """What all share: one-sided density in uV^2/Hz, a column every `hop` samples."""

    hop: int = Field(default=40, ge=1, le=2000)  # samples at 200 Hz
    low: float = Field(default=0.5, ge=0.1)  # Hz
    high: float = Field(default=20.0, gt=0, le=SFREQ / 2)  # Hz

    @model_validator(mode="after")
    def has_a_band(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low} Hz must be below high = {self.high} Hz")
        return self

    @abstractmethod
    def density(self, signal: Tensor) -> Tensor:
        """(signals, time) microvolts without NaN -> (frequencies, signals, columns) uV^2/Hz, lowest first."""

    @abstractmethod
    def hertz(self) -> np.ndarray:
        """Of the rows of `density`."""

    @abstractmethod
    def columns(self, n_time: int) -> tuple[float, int]:
        """Of a signal of n_time samples: the sample in the middle of the first column, and how many there are."""


class Windowed(Transform):
    """Windows that lie inside the signal; bins from `low` to `high`."""

    kind: str
    window: int = Field(ge=8)  # samples
    n_fft: int = Field(ge=8, le=16384)

    @model_validator(mode="after")
    def window_fits(self) -> Self:
        if self.window % 2:
            raise ValueError(f"window = {self.window} samples must be even")
        if self.n_fft < self.window:
            raise ValueError(f"n_fft = {self.n_fft} is shorter than window = {self.window}")
        if self.window > LONGEST_WINDOW:
            raise ValueError(f"window = {self.window} samples: longer than {LONGEST_WINDOW}, the shortest crop's 10 s")
        return self

    @property
    def bins(self) -> range:
        return bins_between(self.low, self.high, self.n_fft)

    def hertz(self) -> np.ndarray:
        return np.array(self.bins) * SFREQ / self.n_fft

    def columns(self, n_time: int) -> tuple[float, int]:
        return self.window / 2, (n_time - self.window) // self.hop + 1


class Stft(Windowed):
    """Hann windows."""

    kind: Literal["stft"] = "stft"
    window: int = Field(default=100, ge=8)
    n_fft: int = Field(default=200, ge=8, le=16384)

    def density(self, signal: Tensor) -> Tensor:
        """As scipy.signal.spectrogram with window "hann", no detrend."""
        power = hann_power(signal, self.window, self.hop, self.n_fft, self.bins)
        gain = one_sided(self.bins, self.n_fft) * hann_density(self.window)
        return power.mul_(torch.from_numpy(gain).to(signal.device, power.dtype)[:, None, None])


class Mel(Windowed):
    """Hann windows centred on 0, hop, 2 hop ..., beyond the ends 0; triangles on the mel scale."""

    kind: Literal["mel"] = "mel"
    window: int = Field(default=128, ge=8)
    n_fft: int = Field(default=1024, ge=8, le=16384)
    n_mels: int = Field(default=64, ge=4, le=256)

    def density(self, signal: Tensor) -> Tensor:
        """Averaged under each triangle."""
        power = mel_power(signal, self.window, self.hop, self.n_fft, self.n_mels, self.low, self.high)
        return power.mul_(2 * hann_density(self.window) * SFREQ / self.n_fft)

    def hertz(self) -> np.ndarray:
        return np.linspace(self.low, self.high, self.n_mels + 2)[1:-1]

    def columns(self, n_time: int) -> tuple[float, int]:
        return 0.0, n_time // self.hop + 1


class Multitaper(Windowed):
    """Each window under DPSS tapers, whose powers are averaged with equal weights."""

    kind: Literal["multitaper"] = "multitaper"
    window: int = Field(default=400, ge=8)
    n_fft: int = Field(default=512, ge=8, le=16384)
    time_bandwidth: float = Field(default=2.0, ge=1)  # half bandwidth in Hz times the window's seconds
    tapers: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def tapers_fit(self) -> Self:
        if self.tapers > 2 * self.time_bandwidth:
            raise ValueError(f"tapers = {self.tapers}: only the first {int(2 * self.time_bandwidth)} are concentrated")
        return self

    def density(self, signal: Tensor) -> Tensor:
        power = tapered_power(signal, self.window, self.hop, self.n_fft, self.bins, self.time_bandwidth, self.tapers)
        gain = torch.from_numpy(one_sided(self.bins, self.n_fft) / SFREQ).to(signal.device, power.dtype)
        return power.mean(dim=0).mul_(gain[:, None, None])


class Morlet(Transform):
    """Continuous wavelet transform at frequencies evenly spaced in octaves; power averaged over each hop."""

    kind: Literal["morlet"] = "morlet"
    frequencies: int = Field(default=40, ge=2, le=256)
    bandwidth: float = Field(default=1.5, ge=0.1, le=50)  # of exp(-t^2 / bandwidth), t in periods

    def density(self, signal: Tensor) -> Tensor:
        """Divided by the wavelet's energy, so that white noise has its density at every frequency."""
        frequencies, rows = [float(frequency) for frequency in self.hertz()], []
        for frequency, power in zip(frequencies, morlet_powers(signal, frequencies, self.bandwidth), strict=True):
            # Of the kernel, not of the formula: the mean over a sample takes 3 % at 20 Hz, 12 % at 40 Hz.
            energy = float((np.abs(morlet_kernel(frequency, self.bandwidth)) ** 2).sum())
            mean = power.unfold(-1, self.hop, self.hop).mean(dim=-1)
            rows.append((mean * (2 / (SFREQ * energy))).float())
        return torch.stack(rows)

    def hertz(self) -> np.ndarray:
        """Evenly spaced in octaves, both ends included."""
        return np.geomspace(self.low, self.high, self.frequencies)

    def columns(self, n_time: int) -> tuple[float, int]:
        return self.hop / 2, n_time // self.hop


AnyTransform = Annotated[Stft | Mel | Multitaper | Morlet, Field(discriminator="kind")]
