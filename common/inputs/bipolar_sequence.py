"""The bipolar EEG as a sequence, for one-dimensional nets."""

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from common.inputs.base import SequenceAxes, Windows
from common.inputs.eeg_signal import EegSignal


class BipolarSequence(EegSignal):
    """Differences over 50 s, band-passed, clipped, scaled, and thinned to `sfreq`."""

    form: ClassVar[Literal["image", "sequence"]] = "sequence"

    kind: Literal["bipolar-sequence"] = "bipolar-sequence"
    scale: float = Field(default=32.0, ge=1e-3)  # microvolts that become 1
    sfreq: Literal[200, 100, 50, 40] = 200  # where the band-pass leaves more than half of it, a low-pass goes before
    quality: bool = False  # behind the signals: each one's missing, flat and clipped share, constant in time

    @model_validator(mode="after")
    def band_fits_rate(self) -> Self:
        if self.high > self.sfreq / 2:
            raise ValueError(f"high = {self.high} Hz: sfreq = {self.sfreq} Hz would alias it; at most {self.sfreq / 2}")
        return self

    def make(self, windows: Windows) -> Tensor:
        """(batch, differences, time) in units of `scale` microvolts; with quality (batch, 4 differences, time): behind
        the signals the missing share of each, the flat, the clipped, so that a net needs no second entrance."""
        eeg = self.given(windows)
        passed = self.waves(eeg, self.sfreq)
        sequence = passed / self.scale
        if not self.quality:
            return sequence
        shares = channel_quality(self.differences(eeg), passed, self.clip)
        constant = shares.transpose(-2, -1).flatten(1, 2).unsqueeze(-1).expand(-1, -1, sequence.shape[-1])
        return torch.cat([sequence, constant], dim=1)

    def describe(self) -> str:
        return f"EEG waves at {self.sfreq} Hz"

    def axes(self) -> SequenceAxes:
        return SequenceAxes(self.names, self.sfreq, self.scale, self.quality)


def channel_quality(differences: Tensor, passed: Tensor, clip: float) -> Tensor:
    """What is wrong with each channel, shares of its 50 s, (batch, channels, 3): missing, flat, clipped.

    differences: (batch, channels, time) microvolts, NaN where missing; passed: the same after band-pass and clip, at
    any rate. Flat: equal to the sample before.
    """
    missing = differences.isnan().float().mean(dim=-1)
    flat = (differences[..., 1:] == differences[..., :-1]).float().mean(dim=-1)  # NaN equals nothing
    clipped = (passed.abs() >= clip).float().mean(dim=-1)
    return torch.stack([missing, flat, clipped], dim=-1)
