"""Spectra of the EEG's differences as an image, whole and zoomed in on the labelled seconds."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from common.inputs.base import ImageAxes, Maps, Side, Size, Windows
from common.inputs.eeg_signal import EegSignal, Montage, Seconds, crop_start
from common.inputs.panels import DECIBEL_FLOOR, LOG_RANGE, SMALLEST_POWER, central_time, join_images, resized
from common.inputs.transforms import AnyTransform, Stft
from common.schema import SFREQ
from common.signal.montage import DOUBLE_BANANA
from common.strict import Strict


class Crop(Strict):
    """The central `seconds`, seen through one transform; `size`: each difference's map is resized to it."""

    seconds: Seconds = 50
    transform: AnyTransform = Stft()
    size: Size | None = None


class EegSpectra(EegSignal):
    """Spectra of each difference, whole and zoomed in: tiles of one image, or channels in depth."""

    kind: Literal["eeg-spectra"] = "eeg-spectra"
    montage: Montage = "chains"
    crops: Annotated[tuple[Crop, ...], Field(min_length=1)] = (Crop(),)
    # "log": ln of the density, minus mean, over deviation: fixed; "peak": decibels below each map's maximum.
    scale: Literal["log", "peak"] = "log"
    mean: float = 0.0
    deviation: float = Field(default=2.0, ge=1e-3)
    layout: Literal["tiled", "depth"] = "tiled"
    tiles: int = Field(default=1, ge=1, le=len(DOUBLE_BANANA))  # in a row, when tiled
    join: Side = "beside"  # how the crops are joined
    resize: Size | None = None

    @model_validator(mode="after")
    def tiles_fill_rows(self) -> Self:
        if self.layout == "tiled" and len(self.names) % self.tiles:
            raise ValueError(f"tiles = {self.tiles} in a row do not divide the {len(self.names)} differences")
        return self

    def make(self, windows: Windows) -> Tensor:
        """(batch, 1 or differences, height, width): the crops joined, tiled or in depth."""
        waves = self.waves(self.given(windows).double())  # in float64, as far as the spectra want it
        maps = [self.crop_maps(waves, crop) for crop in self.crops]
        images = [tile(crop, self.tiles) for crop in maps] if self.layout == "tiled" else maps
        return resized(join_images(images, self.join), self.resize)

    def crop_maps(self, waves: Tensor, crop: Crop) -> Tensor:
        """(batch, differences, 10000) -> (batch, differences, frequencies, columns), scaled and resized."""
        signals = central_time(waves, crop.seconds * SFREQ).flatten(0, 1)
        power = crop.transform.density(signals).unflatten(1, waves.shape[:2]).permute(1, 2, 0, 3)
        if self.scale == "log":
            return resized((power.log().clamp(*LOG_RANGE) - self.mean) / self.deviation, crop.size)
        power = power.clamp(min=SMALLEST_POWER)
        ratio = (power / power.amax(dim=(-2, -1), keepdim=True)).clamp(min=DECIBEL_FLOOR)
        return resized(ratio.log10_().div_(4).add_(1), crop.size)  # (dB + 40) / 40

    def describe(self) -> str:
        kind = self.crops[0].transform.kind
        return f"EEG {kind}, {' + '.join(str(crop.seconds) for crop in self.crops)} s"

    def axes(self) -> ImageAxes:
        return ImageAxes(tuple(map(self.crop_axes, self.crops)), self.join, self.resize)

    def crop_axes(self, crop: Crop) -> Maps:
        centre, columns = crop.transform.columns(crop.seconds * SFREQ)
        step = crop.transform.hop / SFREQ
        start = crop_start(crop.seconds) + centre / SFREQ - step / 2
        hertz = tuple(crop.transform.hertz().tolist())
        size = crop.size or (len(hertz), columns)
        across = self.tiles if self.layout == "tiled" else 0
        return Maps(self.names, hertz, (start, start + columns * step), size, across)


def tile(maps: Tensor, in_a_row: int) -> Tensor:
    """(batch, maps, height, width) -> (batch, 1, maps / in_a_row height, in_a_row width), row by row."""
    rows = maps.unflatten(1, (-1, in_a_row))  # (batch, rows, in_a_row, height, width)
    return rows.transpose(2, 3).flatten(3, 4).flatten(1, 2).unsqueeze(1)
