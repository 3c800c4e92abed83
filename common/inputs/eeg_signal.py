"""Where every input made of waves begins: bipolar differences, their gaps filled, band-passed and clipped."""

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from common.inputs.base import Input
from common.schema import SFREQ, WINDOW_SECONDS
from common.signal.filters import band_pass, fill_gaps
from common.signal.montage import MONTAGES, bipolar

Montage = Literal["chains", "double-banana", "interleaved", "mirrored-pairs"]
Seconds = Literal[50, 30, 10]  # around the centre, where the label is


class EegSignal(Input):
    """Which differences, which band."""

    montage: Montage = "double-banana"
    low: float = Field(default=0.5, ge=0.05)  # Hz; a lower edge would need a filter longer than the window
    high: float = Field(default=20.0, gt=0)  # Hz
    # "zero": symmetric FIR, no delay, looks ahead; "causal": second-order Butterworth, as published notebooks.
    phase: Literal["zero", "causal"] = "zero"
    clip: float = Field(default=1024.0, gt=0)  # microvolts

    @model_validator(mode="after")
    def band_is_a_band(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low} Hz must be below high = {self.high} Hz")
        if self.high + 2 > SFREQ / 2:
            raise ValueError(f"high = {self.high} Hz: nothing can be passed up to the {SFREQ // 2} Hz the EEG ends at")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of the differences, in their order: "Fp1-F7" ..."""
        return tuple("-".join(pair) for pair in MONTAGES[self.montage])

    def differences(self, eeg: Tensor) -> Tensor:
        """(batch, 20, 10000) microvolts -> (batch, differences, 10000), NaN where missing."""
        return bipolar(eeg, MONTAGES[self.montage])

    def waves(self, eeg: Tensor, sfreq: int = SFREQ) -> Tensor:
        """(batch, 20, 10000) microvolts -> (batch, differences, 50 s at sfreq): gaps filled, band-passed, clipped."""
        filled = fill_gaps(self.differences(eeg))
        return band_pass(filled, self.low, self.high, self.phase, sfreq).clamp(-self.clip, self.clip)


def crop_start(seconds: int) -> float:
    """The second of the window in which its central `seconds` begin."""
    return (WINDOW_SECONDS - seconds) / 2
