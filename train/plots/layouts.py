"""Where in a model input which Hz and which second is: the axes of every image of common.inputs.config, for pictures.

An image is made of panels, each a map of one region or difference, or its waves. Positions are pixels of the image
as build_input stores it: row 0 at the top, lowest frequency first in each panel.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.inputs.config import (
    CombinedImage,
    Crop,
    EegMelImage,
    EegSpectra,
    KaggleImage,
    Mel,
    Morlet,
    Part,
    RawImage,
    Size,
)
from common.inputs.panels import MEL_CHAINS, MEL_FRAMES, MEL_HIGH, MEL_HOP, N_MELS
from common.schema import FREQUENCIES, REGIONS, SFREQ, SPECTROGRAM_SECONDS, SPECTROGRAM_STEP_SECONDS, WINDOW_SECONDS
from common.signal.montage import MONTAGES
from common.signal.spectra import frequency_axis

NAMES: dict[Part, tuple[str, ...]] = {  # the panels of "image" are the input's own
    "percentiles": ("20 %", "40 %", "60 %", "80 %"),
    "global": ("minimum", "maximum", "mean", "range"),
}


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
    whole = layouts[0]
    for other in layouts[1:]:
        down, right, deeper = {
            "below": (whole.height, 0, 0),
            "beside": (0, whole.width, 0),
            "channels": (0, 0, whole.channels),
        }[side]
        moved = tuple(
            replace(panel, top=panel.top + down, left=panel.left + right, channel=panel.channel + deeper)
            for panel in other.panels
        )
        whole = Layout(
            whole.channels + other.channels if deeper else whole.channels,
            whole.height + other.height if down else whole.height,
            whole.width + other.width if right else whole.width,
            whole.panels + moved,
        )
    return whole


def resized_layout(layout: Layout, size: Size | None) -> Layout:
    if size is None:
        return layout
    down, right = size[0] / layout.height, size[1] / layout.width
    panels = tuple(
        replace(p, top=p.top * down, height=p.height * down, left=p.left * right, width=p.width * right)
        for p in layout.panels
    )
    return Layout(layout.channels, *size, panels)


def stacked(
    names: Sequence[str], width: int, hertz: Sequence[float], seconds: tuple[float, float], note: str = ""
) -> Layout:
    """Maps of the same size below each other."""
    rows = len(hertz)
    panels = (Panel(name, k * rows, 0, rows, width, tuple(hertz), seconds, 0, note) for k, name in enumerate(names))
    return Layout(1, rows * len(names), width, tuple(panels))


def kaggle_layout(config: KaggleImage) -> Layout:
    margin, step = (config.panel_rows - len(FREQUENCIES)) // 2, FREQUENCIES[1] - FREQUENCIES[0]
    hertz = [FREQUENCIES[0] + step * (row - margin) for row in range(config.panel_rows)]
    half = config.columns * SPECTROGRAM_STEP_SECONDS / 2
    seconds = (SPECTROGRAM_SECONDS / 2 - half, SPECTROGRAM_SECONDS / 2 + half)
    note = f"{margin} empty rows below {FREQUENCIES[0]:.1f} and above {FREQUENCIES[-1]:.1f} Hz" if margin else ""
    names = NAMES | {"image": REGIONS}
    parts = [stacked(names[part], config.columns, hertz, seconds, note) for part in config.parts]
    return resized_layout(joined(parts, config.join), config.resize)


def eeg_mel_layout(config: EegMelImage) -> Layout:
    hertz = np.linspace(0, MEL_HIGH, N_MELS + 2)[1:-1].tolist()
    step = MEL_HOP / SFREQ  # frame k is centred on k steps
    names, seconds = NAMES | {"image": MEL_CHAINS}, (-step / 2, (MEL_FRAMES - 0.5) * step)
    parts = [stacked(names[part], MEL_FRAMES, hertz, seconds) for part in config.parts]
    return resized_layout(joined(parts, config.join), config.resize)


def difference_names(montage: str) -> list[str]:
    return ["-".join(pair) for pair in MONTAGES[montage]]


def crop_start(seconds: int) -> float:
    return (WINDOW_SECONDS - seconds) / 2


def raw_layout(config: RawImage) -> Layout:
    crops, names = [], difference_names(config.montage)
    for seconds in config.crops:
        first = crop_start(seconds)
        rows, edges, note = 1, (first, first + seconds), f"each row {first:g}-{first + seconds:g} s"
        if config.rows == "folded":
            in_a_row = config.columns / SFREQ
            rows, edges = round(seconds / in_a_row), (0.0, in_a_row)
            note = f"each {rows} rows of {in_a_row:g} s, {first:g}-{first + seconds:g} s downwards"
        panels = (Panel(n, k * rows, 0, rows, config.columns, (), edges, 0, note) for k, n in enumerate(names))
        crops.append(Layout(config.copies, rows * len(names), config.columns, tuple(panels)))
    return resized_layout(joined(crops, "below"), config.resize)


def column_centres(crop: Crop) -> tuple[float, float, int]:
    """Second of the first column's centre in the crop, seconds from column to column, columns."""
    recipe, samples = crop.transform, crop.seconds * SFREQ
    if isinstance(recipe, Mel):
        return 0.0, recipe.hop / SFREQ, samples // recipe.hop + 1
    if isinstance(recipe, Morlet):
        return recipe.hop / 2 / SFREQ, recipe.hop / SFREQ, samples // recipe.hop
    return recipe.window / 2 / SFREQ, recipe.hop / SFREQ, (samples - recipe.window) // recipe.hop + 1


def spectra_layout(config: EegSpectra) -> Layout:
    names, crops = difference_names(config.montage), []
    for crop in config.crops:
        first, step, columns = column_centres(crop)
        start = crop_start(crop.seconds) + first - step / 2
        hertz = tuple(frequency_axis(crop.transform).tolist())
        height, width = crop.size or (len(hertz), columns)
        in_a_row = config.tiles if config.layout == "tiled" else 1
        deep = config.layout == "depth"
        panels = tuple(
            Panel(
                name,
                0 if deep else k // in_a_row * height,
                0 if deep else k % in_a_row * width,
                height, width, hertz, (start, start + columns * step), k if deep else 0,
            )
            for k, name in enumerate(names)
        )  # fmt: skip
        rows = 1 if deep else len(names) // in_a_row
        crops.append(Layout(len(names) if deep else 1, rows * height, in_a_row * width, panels))
    return resized_layout(joined(crops, config.join), config.resize)


def layout_of(config: Any) -> Layout:
    """The panels of an image config. Raises ValueError for a sequence, which is no image."""
    if isinstance(config, KaggleImage):
        return kaggle_layout(config)
    if isinstance(config, EegMelImage):
        return eeg_mel_layout(config)
    if isinstance(config, RawImage):
        return raw_layout(config)
    if isinstance(config, EegSpectra):
        return spectra_layout(config)
    if isinstance(config, CombinedImage):
        return resized_layout(joined([layout_of(image) for image in config.images], config.join), config.resize)
    raise ValueError(f"{type(config).__name__} is no image: it has no panels")


def column_groups(panels: Sequence[Panel]) -> list[list[Panel]]:
    """Panels with the same left edge and channel, from the top down."""
    order = sorted(panels, key=lambda panel: (panel.channel, panel.left, panel.top))
    return [list(group) for _, group in itertools.groupby(order, key=lambda panel: (panel.channel, panel.left))]
