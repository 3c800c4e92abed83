"""The waves of the EEG themselves as an image."""

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from common.inputs.base import ImageAxes, Maps, Size, Windows
from common.inputs.eeg_signal import EegSignal, Seconds, crop_start
from common.inputs.panels import central_time, resized
from common.schema import SFREQ


class RawImage(EegSignal):
    """The waves themselves as an image: every difference in rows of `columns` samples, one below the other."""

    kind: Literal["raw-image"] = "raw-image"
    scale: float = Field(default=32.0, ge=1e-3)  # microvolts that become 1
    crops: Annotated[tuple[Seconds, ...], Field(min_length=1)] = (50,)  # one below the other
    columns: int = Field(default=500, ge=50, le=2000)
    # "folded": all samples, 50 s in 10,000 / columns rows; "resized": one row a difference, time shrunk to fit.
    rows: Literal["folded", "resized"] = "folded"
    copies: Literal[1, 3] = 1  # 3: the same image in three channels, for a backbone that wants colours
    resize: Size | None = None

    @model_validator(mode="after")
    def rows_are_full(self) -> Self:
        for seconds in self.crops if self.rows == "folded" else ():
            if seconds * SFREQ % self.columns:
                raise ValueError(f"columns = {self.columns} do not divide the {seconds * SFREQ} samples of {seconds} s")
        return self

    def make(self, windows: Windows) -> Tensor:
        """(batch, copies, rows, columns): the differences one below the other, crop below crop."""
        waves = self.waves(self.given(windows).double()).float() / self.scale
        crops = [central_time(waves, seconds * SFREQ) for seconds in self.crops]
        if self.rows == "folded":
            rows = [crop.unflatten(-1, (-1, self.columns)).flatten(1, 2) for crop in crops]
        else:
            rows = [shrunk(crop, self.columns) for crop in crops]
        image = torch.cat(rows, dim=1).unsqueeze(1).expand(-1, self.copies, -1, -1)
        return resized(image, self.resize)

    def describe(self) -> str:
        return f"raw EEG, {'folded to' if self.rows == 'folded' else 'rows of'} {self.columns}"

    def axes(self) -> ImageAxes:
        return ImageAxes(tuple(map(self.crop_axes, self.crops)), "below", self.resize)

    def crop_axes(self, seconds: int) -> Maps:
        first, last = crop_start(seconds), crop_start(seconds) + seconds
        rows, edges, note = 1, (first, last), f"each row {first:g}-{last:g} s"
        if self.rows == "folded":
            in_a_row = self.columns / SFREQ
            rows, edges = round(seconds / in_a_row), (0.0, in_a_row)
            note = f"each {rows} rows of {in_a_row:g} s, {first:g}-{last:g} s downwards"
        return Maps(self.names, (), edges, (rows, self.columns), copies=self.copies, note=note)


def shrunk(waves: Tensor, columns: int) -> Tensor:
    """(batch, differences, time) to (batch, differences, columns), each the weighted mean of what is around it."""
    size = (waves.shape[1], columns)
    return torch.nn.functional.interpolate(
        waves.unsqueeze(1), size=size, mode="bilinear", align_corners=False, antialias=True
    ).squeeze(1)
