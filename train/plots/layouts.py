"""Where in an image which Hz and which second is: the panels of every image, from what its config says of its axes.

Positions are pixels of the image as build_input stores it: row 0 at the top, lowest frequency first in each panel.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.inputs.base import ImageAxes, Maps, Size


@dataclass(frozen=True)
class Panel:
    """One rectangle of an image. hertz: of the rows it was made with, lowest first; empty for waves. seconds: of its
    left and right edge, in the recording's window; of folded waves, in a row. A resize leaves fractions of pixels."""

    name: str
    top: float
    left: float
    height: float
    width: float
    hertz: tuple[float, ...]
    seconds: tuple[float, float]
    channel: int = 0
    note: str = ""  # what else there is to say of its rows

    def row(self, hertz: float) -> float:
        """Where a frequency lies, in pixels below the image's top; the middle of row r is r + 0.5."""
        middles = np.arange(len(self.hertz)) + 0.5
        return self.top + float(np.interp(hertz, self.hertz, middles)) / len(self.hertz) * self.height

    def column(self, second: float) -> float:
        """Where a second lies, in pixels right of the image's left edge."""
        first, last = self.seconds
        return self.left + (second - first) / (last - first) * self.width


@dataclass(frozen=True)
class Layout:
    """An image of so many channels, rows and columns, and its panels. Channels without a panel repeat the first."""

    channels: int
    height: int
    width: int
    panels: tuple[Panel, ...]


def joined(layouts: Sequence[Layout], side: str) -> Layout:
    """Images beside or below each other or as channels."""
    at, panels = {"channels": 0, "below": 0, "beside": 0}, []
    for each in layouts:
        down, right, deeper = at["below"], at["beside"], at["channels"]
        panels += [
            replace(panel, top=panel.top + down, left=panel.left + right, channel=panel.channel + deeper)
            for panel in each.panels
        ]
        at[side] += {"channels": each.channels, "below": each.height, "beside": each.width}[side]
    first = layouts[0]
    sizes = at["channels"] or first.channels, at["below"] or first.height, at["beside"] or first.width
    return Layout(*sizes, tuple(panels))


def resized_layout(layout: Layout, size: Size | None) -> Layout:
    """The layout of the image resized to (height, width); None leaves it."""
    if size is None:
        return layout
    down, right = size[0] / layout.height, size[1] / layout.width
    panels = tuple(
        replace(p, top=p.top * down, height=p.height * down, left=p.left * right, width=p.width * right)
        for p in layout.panels
    )
    return Layout(layout.channels, *size, panels)


def layout_of_maps(maps: Maps) -> Layout:
    """Maps row by row, or each in a channel of its own."""
    height, width = maps.size
    deep, across = maps.across == 0, max(maps.across, 1)
    panels = []
    for number, name in enumerate(maps.names):
        row, column = (0, 0) if deep else divmod(number, across)
        channel = number if deep else 0
        panels.append(
            Panel(name, row * height, column * width, height, width, maps.hertz, maps.seconds, channel, maps.note)
        )
    rows = 1 if deep else len(panels) // across
    return Layout(len(panels) if deep else maps.copies, rows * height, across * width, tuple(panels))


def layout_of_axes(axes: ImageAxes | Maps) -> Layout:
    """Parts joined and resized, their own parts first."""
    if isinstance(axes, Maps):
        return layout_of_maps(axes)
    return resized_layout(joined([layout_of_axes(part) for part in axes.parts], axes.join), axes.resize)


def layout_of(config: Any) -> Layout:
    """The panels of an image config. Raises ValueError for a sequence, which is no image."""
    axes = config.axes()
    if not isinstance(axes, ImageAxes):
        raise ValueError(f"{type(config).__name__} is no image: it has no panels")
    return layout_of_axes(axes)


def column_groups(panels: Sequence[Panel]) -> list[list[Panel]]:
    """Panels with the same left edge and channel, from the top down."""
    order = sorted(panels, key=lambda panel: (panel.channel, panel.left, panel.top))
    return [list(group) for _, group in itertools.groupby(order, key=lambda panel: (panel.channel, panel.left))]
