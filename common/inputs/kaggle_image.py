"""An image of the competition's own spectrogram of 10 minutes.

Formulas and constants of the published ones: the seed repository's notebooks, the EfficientNetB0 starter and the
ResNet34d baseline.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from common.inputs.base import Constants, ImageAxes, Input, Maps, Side, Size, Windows
from common.inputs.panels import LOG_RANGE, Part, Parts, central_time, compose, composed_axes, resized
from common.schema import (
    FREQUENCIES,
    N_FREQUENCIES,
    REGIONS,
    SPECTROGRAM_COLUMNS,
    SPECTROGRAM_SECONDS,
    SPECTROGRAM_STEP_SECONDS,
)

# As the seed published them: means of the mean and the deviation of 20,183 crops of log power ("spec"), and of
# their min/max/mean/range taken before the logarithm ("stat"), which is not what they are then applied to.
PUBLISHED_CONSTANTS = {
    "spec": Constants(mean=-0.08340271, deviation=1.9072835),
    "stat": Constants(mean=0.07975473, deviation=1.9484872),
}

# Mean and deviation of each panel, of the whole image, published constants, constants measured on each fold's
# training rows (they travel with the fold's weights), or given ones.
Standardise = Literal["panel", "image", "spec", "stat", "training"] | Constants


class KaggleImage(Input):
    """The competition's 10-minute spectrogram: log power, standardised, four panels of 100 x 300 stacked."""

    source: ClassVar[Literal["eeg", "spectrogram"]] = "spectrogram"

    kind: Literal["kaggle-image"] = "kaggle-image"
    columns: int = Field(default=SPECTROGRAM_COLUMNS, ge=2, le=SPECTROGRAM_COLUMNS, multiple_of=2)  # the central ones
    missing: Literal["mean", "silence"] = "mean"  # what NaN becomes; "silence": no power at all
    standardise: Standardise = "panel"
    standardise_features: Standardise | None = None  # of percentiles and global; None: as the image
    # Mean and deviation of the columns that are shown, or of all 300, as the EfficientNetB0 starter has them.
    standardise_over: Literal["columns", "window"] = "columns"
    divide: float = Field(default=1.0, ge=1e-3)  # after standardising
    panel_rows: int = Field(default=N_FREQUENCIES, ge=N_FREQUENCIES, le=256, multiple_of=2)  # 0 above and below
    parts: Parts = ("image",)
    join: Side = "beside"
    resize: Size | None = None

    @property
    def wants_constants(self) -> bool:
        return "training" in (self.standardise, self.standardise_features)

    def with_constants(self, measured: Iterator[Constants]) -> Input:
        if not self.wants_constants:
            return self
        keys = [key for key in ("standardise", "standardise_features") if getattr(self, key) == "training"]
        return self.model_copy(update=dict.fromkeys(keys, next(measured)))

    def statistics(self, window: Windows) -> tuple[float, float] | None:
        log_power = self.log_power(window)
        if not log_power.isfinite().any():
            return None
        mean, deviation = mean_and_deviation(log_power, (-3, -2, -1))
        return mean.item(), deviation.item()

    def make(self, windows: Windows) -> Tensor:
        """(batch, 1, 4 panel_rows, columns), and the parts joined to it."""
        log_power = self.log_power(windows)
        margin = (self.panel_rows - log_power.shape[-2]) // 2

        def panels(how: Standardise) -> Tensor:
            scaled = central_time(standardised(log_power, how), self.columns) / self.divide
            return torch.nn.functional.pad(scaled, (0, 0, margin, margin)) if margin else scaled

        image = panels(self.standardise)
        other = self.standardise_features
        source = image if other is None or other == self.standardise else panels(other)
        return resized(compose(image, source, self.parts, self.join), self.resize)

    def log_power(self, windows: Windows) -> Tensor:
        """(batch, 4, 100, columns), clipped, NaN where it is missing: the columns that are standardised over."""
        power = self.given(windows)
        if self.standardise_over == "columns":
            power = central_time(power, self.columns)
        if self.missing == "silence":
            power = power.nan_to_num(nan=0.0)
        return power.log().clamp(*LOG_RANGE)  # NaN stays NaN; log 0 = -inf is clipped

    def describe(self) -> str:
        size = f" to {self.resize[0]} x {self.resize[1]}" if self.resize else ""
        scales = dict.fromkeys(scale_words(self, part) for part in self.parts)  # each once
        return f"Kaggle {' + '.join(self.parts)}{size}, {', '.join(scales)}"

    def axes(self) -> ImageAxes:
        margin, step = (self.panel_rows - N_FREQUENCIES) // 2, FREQUENCIES[1] - FREQUENCIES[0]
        hertz = tuple(FREQUENCIES[0] + step * (row - margin) for row in range(self.panel_rows))
        middle, half = SPECTROGRAM_SECONDS / 2, self.columns * SPECTROGRAM_STEP_SECONDS / 2
        note = f"{margin} empty rows below {FREQUENCIES[0]:.1f} and above {FREQUENCIES[-1]:.1f} Hz" if margin else ""
        size = self.panel_rows, self.columns
        panels = Maps(REGIONS, hertz, (middle - half, middle + half), size, note=note)
        return composed_axes(panels, self.parts, self.join, self.resize)


def scale_words(image: KaggleImage, part: Part) -> str:
    """What a part of the image is standardised by."""
    scale = image.standardise if part == "image" else image.standardise_features or image.standardise
    if isinstance(scale, Constants):
        return "given constants"
    return f"by {scale}" if scale in ("panel", "image") else f"{scale} constants"


def mean_and_deviation(log_power: Tensor, over: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Over what is not NaN, float64; deviation without correction for the mean (numpy's nanstd). Axes stay, of
    length 1. In float64, so that a constant panel becomes 0 and not its rounding divided by itself."""
    values = log_power.double()
    if not values.sum().isnan():  # the same numbers in a third of the time
        mean = values.mean(dim=over, keepdim=True)
        return mean, (values - mean).square_().mean(dim=over, keepdim=True).sqrt_()
    mean = values.nanmean(dim=over, keepdim=True)
    return mean, (values - mean).square_().nanmean(dim=over, keepdim=True).sqrt_()


def standardised(log_power: Tensor, how: Standardise) -> Tensor:
    """(log power - mean) / (deviation + 1e-6); NaN becomes the mean, which is 0."""
    if how == "training":
        raise ValueError("constants of the training rows are not measured yet: see common.inputs.base.with_constants")
    constants = PUBLISHED_CONSTANTS.get(how) if isinstance(how, str) else how
    if constants is not None:
        scaled = (log_power - constants.mean) / (constants.deviation + 1e-6)
    else:
        mean, deviation = mean_and_deviation(log_power, (-2, -1) if how == "panel" else (-3, -2, -1))
        scaled = (log_power - mean.float()).div_((deviation + 1e-6).float())
    return scaled.nan_to_num_(nan=0.0)
