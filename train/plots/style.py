"""What all pictures share: paper, colours, spectrograms.

Everything draws into axes that are given, placed in millimetres of paper. matplotlib's objects are used directly,
because pyplot keeps a state of its own.
"""

import functools
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

DPI = 100
MM_PER_INCH = 25.4
MICROVOLT = "\u00b5V"
INK, FAINT, GRID, MISSING, TINT = "#1a1a1a", "#6b6b6b", "#d9d9d9", "#dcdcdc", "#fff9e8"
LEFT, RIGHT, MIDDLE = "#1f4e8c", "#a32a2a", INK  # of the head
SMALL, NORMAL, LARGE = 7.0, 8.0, 11.0  # points


def new_figure(width: float, height: float) -> Figure:
    """A white figure of so many millimetres."""
    figure = Figure(figsize=(width / MM_PER_INCH, height / MM_PER_INCH), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at so many millimetres from the left and the top edge."""
    full_width, full_height = figure.get_size_inches() * MM_PER_INCH
    box = (left / full_width, 1 - (top + height) / full_height, width / full_width, height / full_height)
    axes = figure.add_axes(box)
    axes.tick_params(labelsize=SMALL, length=2, width=0.5, pad=1.5, color=FAINT, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set(linewidth=0.5, color=FAINT)
    return axes


def write_at(figure: Figure, left: float, top: float, text: str, size: float = NORMAL, **style: Any) -> None:
    """Text whose upper left corner is so many millimetres from the left and the top edge."""
    width, height = figure.get_size_inches() * MM_PER_INCH
    style = {"color": INK, "va": "top"} | style
    figure.text(left / width, 1 - top / height, text, fontsize=size, **style)


def write_head(figure: Figure, left: float, title: str, lines: Sequence[str], **style: Any) -> None:
    """A title, and lines of text below it."""
    write_at(figure, left, 5, title, LARGE, fontweight="bold")
    for number, line in enumerate(lines):
        write_at(figure, left, 11.5 + 4.5 * number, line, **style)


def in_few_colours(figure: Figure, dpi: int, colours: Sequence[Sequence[float]] | int) -> Image.Image:
    """The figure as an image of so many colours, or of the nearest of these (red, green, blue from 0 to 1)."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
    if isinstance(colours, int):
        return image.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette = Image.new("P", (1, 1))
    palette.putpalette([round(255 * value) for colour in colours for value in colour])
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def shades(ink: str, steps: int) -> np.ndarray:
    """An ink on white paper, from white to full, (steps, 3)."""
    return np.linspace(np.ones(3), to_rgb(ink), steps)


# ---- spectrograms


@functools.cache
def colours() -> Colormap:
    """One perceptually uniform map for all pictures; grey where nothing is known."""
    return matplotlib.colormaps["viridis"].with_extremes(bad=MISSING)


def decibels(power: np.ndarray) -> np.ndarray:
    """uV^2/Hz to dB; silence is -100 dB, NaN stays."""
    return 10 * np.log10(np.maximum(power, 1e-10))


def robust_limits(values: np.ndarray) -> tuple[float, float]:
    """Colour limits that neither a single artefact nor silence decides."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, (2, 99.5)) if len(known) else (0.0, 1.0)
    return float(low), float(high if high > low else low + 1)


def spectrogram_panel(
    axes: Axes, power: np.ndarray, hertz: np.ndarray, seconds: tuple[float, float], limits: tuple[float, float]
) -> AxesImage:
    """Power (frequencies, columns), lowest first, in dB over seconds and Hz. hertz: of the rows, evenly spaced."""
    half = (hertz[1] - hertz[0]) / 2
    extent = (*seconds, hertz[0] - half, hertz[-1] + half)
    shown = axes.imshow(
        np.ma.masked_invalid(decibels(power)), extent=extent, origin="lower", aspect="auto", cmap=colours(),
        vmin=limits[0], vmax=limits[1], interpolation="nearest",
    )  # fmt: skip
    axes.set_yticks([f for f in range(5, 100, 5) if extent[2] <= f <= extent[3]])
    return shown


def mark_seconds(axes: Axes, first: float, last: float) -> None:
    """Two white lines around a stretch of time."""
    for second in (first, last):
        axes.axvline(second, color="white", linewidth=1.0, alpha=0.9)
