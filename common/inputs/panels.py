"""How images are put together, lowest frequency first in each panel: parts of four panels, joined and resized."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from common.inputs.base import ImageAxes, Join, Maps, Side, Size

# Parts of an image: the four panels stacked, their percentiles, their min/max/mean/range.
Part = Literal["image", "percentiles", "global"]
Parts = Annotated[tuple[Part, ...], Field(min_length=1)]
PANEL_NAMES: dict[Part, tuple[str, ...]] = {  # the panels of "image" are the input's own
    "percentiles": ("20 %", "40 %", "60 %", "80 %"),
    "global": ("minimum", "maximum", "mean", "range"),
}
AXIS = {"channels": -3, "below": -2, "beside": -1}
LOG_RANGE = (-4.0, 8.0)  # log power outside is clipped: e^-4 ... e^8 uV^2/Hz
SMALLEST_POWER = 1e-10  # power below counts as this much
DECIBEL_FLOOR = 1e-8  # of the maximum: -80 dB


def central_time(values: Tensor, length: int) -> Tensor:
    """The central `length` of (..., time)."""
    first = (values.shape[-1] - length) // 2
    return values[..., first : first + length]


def join_images(images: Sequence[Tensor], join: Join) -> Tensor:
    """Images (batch, channels, height, width) to one. Raises ValueError when they do not fit."""
    axis = AXIS[join]
    shapes = [[size for k, size in enumerate(image.shape) if k != 4 + axis] for image in images]
    if any(shape != shapes[0] for shape in shapes):
        found = ", ".join(" x ".join(map(str, image.shape[1:])) for image in images)
        raise ValueError(f"images of {found} (channels x height x width) do not fit {join}; give them a size")
    return torch.cat(list(images), dim=axis)


def resized(image: Tensor, size: Size | None) -> Tensor:
    """(batch, channels, height, width) to another height and width, bilinear as cv2.resize; None leaves it."""
    if size is None or tuple(image.shape[-2:]) == size:
        return image
    # In double: torch would place the new pixels between the old ones only to 1e-5 of a pixel.
    exact = torch.nn.functional.interpolate(image.double(), size=size, mode="bilinear", align_corners=False)
    return exact.float()


# ---- four panels and what is derived from them


def percentiles(panels: Tensor) -> Tensor:
    """20, 40, 60 and 80 % over the four panels, linearly interpolated: fixed mixes of the sorted values.

    Sorted by five comparisons; (batch, 4, height, width) -> the same.
    """
    a, b, c, d = panels.unbind(dim=-3)
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    also_low, also_high = torch.minimum(c, d), torch.maximum(c, d)
    x0, x3 = torch.minimum(low, also_low), torch.maximum(high, also_high)
    one, other = torch.maximum(low, also_low), torch.minimum(high, also_high)
    x1, x2 = torch.minimum(one, other), torch.maximum(one, other)
    return torch.stack([x0.lerp(x1, 0.6), x1.lerp(x2, 0.2), x1.lerp(x2, 0.8), x2.lerp(x3, 0.4)], dim=-3)


def global_features(panels: Tensor) -> Tensor:
    """Minimum, maximum, mean and range over the four panels; (batch, 4, height, width) -> the same."""
    low, high = panels.amin(dim=-3), panels.amax(dim=-3)
    return torch.stack([low, high, panels.mean(dim=-3), high - low], dim=-3)


def compose(image: Tensor, source: Tensor, parts: tuple[Part, ...], side: Side) -> Tensor:
    """Panels (batch, 4, height, width) -> (batch, 1, ...): each part's four panels stacked, the parts joined.
    Percentiles and global features are taken from `source`, panels standardised for them."""
    derived = {"percentiles": percentiles, "global": global_features}
    panels = (image if part == "image" else derived[part](source) for part in parts)
    return join_images([each.flatten(1, 2).unsqueeze(1) for each in panels], side)


def composed_axes(panels: Maps, parts: tuple[Part, ...], side: Side, resize: Size | None) -> ImageAxes:
    """The axes of what `compose` makes of an input's own panels."""
    names = PANEL_NAMES | {"image": panels.names}
    maps = (Maps(names[part], panels.hertz, panels.seconds, panels.size, note=panels.note) for part in parts)
    return ImageAxes(tuple(maps), side, resize)
