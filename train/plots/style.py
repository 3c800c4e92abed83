"""What all pictures share: paper, colours, spectrograms, votes. For people: the kernel has no part of it.

Everything draws into axes that are given, placed in millimetres of paper. matplotlib's objects are used
directly, for pyplot keeps a state of its own.
"""

import functools
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from common.schema import PATTERNS

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


# ---- votes and predictions


def votes_bars(axes: Axes, votes: np.ndarray | None, shares: Mapping[str, np.ndarray]) -> None:
    """The six patterns downwards: experts' votes as bars with their counts, each entry of `shares` as points."""
    places = np.arange(len(PATTERNS))
    if votes is not None:
        axes.barh(places, votes / votes.sum(), height=0.7, color="#c3cfdf", label=f"{votes.sum()} experts' votes")
        for line, count in zip(places, votes, strict=True):
            axes.text(1.05, line, f"{count}", va="center", fontsize=SMALL, color=INK if count else FAINT)
    for number, (name, values) in enumerate(shares.items()):
        down = places + (number + 1) / (len(shares) + 1) * 0.7 - 0.35
        axes.plot(
            values, down, "o", markersize=3.5, color=matplotlib.colormaps["tab10"](number % 10), label=name, zorder=3
        )
    axes.set_yticks(places, [name if name in ("seizure", "other") else name.upper() for name in PATTERNS])
    axes.set_ylim(len(PATTERNS) - 0.4, -0.6)
    axes.set_xlim(0, 1.03)
    axes.set_xlabel("share", fontsize=SMALL, labelpad=1)
    axes.grid(axis="x", color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.16), fontsize=SMALL, frameon=False, borderaxespad=0)
