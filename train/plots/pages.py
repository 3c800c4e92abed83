"""The pictures of `python -m train show`: an EEG with its spectrograms and votes, and its model inputs."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from common.schema import CONSENSUS, FREQUENCIES, LABELLED_SECONDS, REGIONS, SPECTROGRAM_SECONDS, WINDOW_SECONDS
from train.plots.eeg import (
    PAGE_HEIGHT,
    PAGE_SECONDS,
    PAGE_WIDTH,
    Traces,
    chain_spectrogram,
    display_traces,
    eeg_page,
    page_caption,
)
from train.plots.find import Recordings
from train.plots.inputs import draw_input
from train.plots.style import (
    FAINT,
    GRID,
    INK,
    LARGE,
    MICROVOLT,
    SMALL,
    decibels,
    mark_seconds,
    new_figure,
    place,
    robust_limits,
    spectrogram_panel,
    write_at,
    write_head,
)

WIDTH, MARGIN = 345, 28  # mm of paper, and left of the EEG
LABELLED = (WINDOW_SECONDS - LABELLED_SECONDS) // 2  # second of the window
SPAN = (WINDOW_SECONDS - LABELLED_SECONDS) / 2, (WINDOW_SECONDS + LABELLED_SECONDS) / 2
EEG_IN_SPECTROGRAM = (SPECTROGRAM_SECONDS - WINDOW_SECONDS) / 2  # its second where the EEG begins
SPECTRA_CAPTION = (
    f"Spectrograms of the four chains, {MICROVOLT}\u00b2/Hz in dB; between the white lines the labelled 10 s"
)
PANEL_WIDTH, PANEL_HEIGHT, PANEL_GAP = 48, 30, 6
INPUT_WIDTH, INPUT_HEIGHT = 132, 100  # of one input's axes
TITLE_LETTERS = 90  # in a line above it
COLUMN = INPUT_WIDTH + 38  # from input to input


@dataclass(frozen=True)
class Drawing:
    """One model input of one window, (channels, height, width) or (channels, time), and what to write above it."""

    title: str
    values: np.ndarray
    config: Any


@dataclass(frozen=True)
class Spectra:
    """Power (4, frequencies, columns) of the regions. In seconds: where the columns start and end, what of them is
    shown, and where the 10 s that experts labelled are."""

    power: np.ndarray
    hertz: np.ndarray
    edges: tuple[float, float]
    shown: tuple[float, float]
    labelled: tuple[float, float]
    what: str  # the time axis


def competition_spectra(spectrogram: np.ndarray, rebuilt: bool) -> Spectra:
    """The competition's 10 minutes; `rebuilt` from the EEG there are only those columns that it covers."""
    labelled = EEG_IN_SPECTROGRAM + SPAN[0], EEG_IN_SPECTROGRAM + SPAN[1]
    edges = 0.0, float(SPECTROGRAM_SECONDS)
    shown = (264.0, 336.0) if rebuilt else edges
    return Spectra(spectrogram, np.array(FREQUENCIES), edges, shown, labelled, "time in the 10 minutes (s)")


def window_spectra(eeg: np.ndarray) -> Spectra:
    """The 50 s of the EEG."""
    return Spectra(*chain_spectrogram(eeg), (0.0, float(WINDOW_SECONDS)), SPAN, "time in the window (s)")


# ---- the EEG


def colour_bar(figure: Figure, shown: AxesImage, beside: tuple[float, float, float], label: str) -> None:
    """left, top and height in mm."""
    left, top, height = beside
    axes = place(figure, left, top, 2.5, height)
    bar = figure.colorbar(shown, cax=axes)
    bar.outline.set_visible(False)  # type: ignore[operator]
    axes.tick_params(labelsize=SMALL, length=2, width=0.5)
    axes.yaxis.set_label_position("right")
    axes.set_ylabel(label, fontsize=SMALL, labelpad=3)


def draw_spectra(
    figure: Figure, spectra: Spectra, corner: tuple[float, float], size: tuple[float, float], gap: float
) -> AxesImage:
    """The four regions side by side, the first panel's upper left corner at left, top (mm)."""
    limits = robust_limits(decibels(spectra.power))
    for column, (region, power) in enumerate(zip(REGIONS, spectra.power, strict=True)):
        axes = place(figure, corner[0] + column * (size[0] + gap), corner[1], *size)
        image = spectrogram_panel(axes, power, spectra.hertz, spectra.edges, limits)
        mark_seconds(axes, *spectra.labelled)
        axes.set_xlim(spectra.shown)
        axes.set_title(region, fontsize=SMALL + 1, pad=2)
        axes.set_xlabel(spectra.what, fontsize=SMALL, labelpad=1)
        if column:
            axes.set_yticklabels([])
        else:
            axes.set_ylabel("frequency (Hz)", fontsize=SMALL, labelpad=2)
    return image


def votes_bars(axes: Axes, votes: np.ndarray | None, shares: Mapping[str, np.ndarray]) -> None:
    """The six patterns downwards: experts' votes as bars with their counts, each entry of `shares` as points."""
    places = np.arange(len(CONSENSUS))
    if votes is not None:
        axes.barh(places, votes / votes.sum(), height=0.7, color="#c3cfdf", label=f"{votes.sum()} experts' votes")
        for line, count in zip(places, votes, strict=True):
            axes.text(1.05, line, f"{count}", va="center", fontsize=SMALL, color=INK if count else FAINT)
    for number, (name, values) in enumerate(shares.items()):
        down = places + (number + 1) / (len(shares) + 1) * 0.7 - 0.35
        axes.plot(
            values, down, "o", markersize=3.5, color=matplotlib.colormaps["tab10"](number % 10), label=name, zorder=3
        )
    axes.set_yticks(places, CONSENSUS)
    axes.set_ylim(len(CONSENSUS) - 0.4, -0.6)
    axes.set_xlim(0, 1.03)
    axes.set_xlabel("share", fontsize=SMALL, labelpad=1)
    axes.grid(axis="x", color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.16), fontsize=SMALL, frameon=False, borderaxespad=0)


def draw_page(figure: Figure, traces: Traces, top: float, start: int) -> None:
    """One of the five pages; the labelled one is tinted and says so."""
    labelled = start == LABELLED
    eeg_page(place(figure, MARGIN, top, PAGE_WIDTH, PAGE_HEIGHT), traces, start, tinted=labelled)
    if labelled:
        heading = f"seconds {start}-{start + PAGE_SECONDS}: what the experts labelled"
        write_at(figure, MARGIN, top - 4, heading, SMALL + 1)


def eeg_figure(
    title: str,
    remarks: Sequence[str],
    recordings: Recordings,
    votes: np.ndarray | None,
    shares: Mapping[str, np.ndarray],
) -> Figure:
    """Title, lines of text, spectrograms, votes; then five pages of 10 s.

    votes: (6,) counts, None for a test EEG. shares: predictions and truth by name, (6,) each.
    """
    eeg, spectrogram = recordings.window_arrays()
    traces = display_traces(eeg)
    lines = [*remarks, page_caption(traces), SPECTRA_CAPTION]
    spectra_top, step = 16 + 4.5 * len(lines), PANEL_HEIGHT + 13
    first = spectra_top + 2 * step + 6
    starts = range(0, WINDOW_SECONDS, PAGE_SECONDS)
    figure = new_figure(WIDTH, first + len(starts) * (PAGE_HEIGHT + 14))
    write_head(figure, MARGIN, title, lines)
    rebuilt = recordings.spectrogram is None
    for row, spectra in enumerate((competition_spectra(spectrogram, rebuilt), window_spectra(eeg))):
        top = spectra_top + row * step
        shown = draw_spectra(figure, spectra, (MARGIN, top), (PANEL_WIDTH, PANEL_HEIGHT), PANEL_GAP)
        colour_bar(figure, shown, (MARGIN + len(REGIONS) * (PANEL_WIDTH + PANEL_GAP) - 3.5, top, PANEL_HEIGHT), "dB")
    if votes is not None or shares:
        votes_bars(place(figure, WIDTH - 78, spectra_top, 60, 48), votes, shares)
    for number, start in enumerate(starts):
        draw_page(figure, traces, first + number * (PAGE_HEIGHT + 14), start)
    return figure


def labelled_figure(eeg: np.ndarray, title: str) -> Figure:
    """The labelled 10 s alone."""
    traces = display_traces(eeg)
    figure = new_figure(WIDTH - 8, PAGE_HEIGHT + 27)
    write_at(figure, MARGIN, 4, title, LARGE, fontweight="bold")
    write_at(figure, MARGIN, 10, page_caption(traces))
    eeg_page(place(figure, MARGIN, 16, PAGE_WIDTH, PAGE_HEIGHT), traces, LABELLED)
    return figure


# ---- model inputs


def draw_one(figure: Figure, drawing: Drawing, left: float, top: float, limits: tuple[float, float] | None) -> None:
    """One input with its title, its axes' upper left corner at left, top (mm)."""
    axes = place(figure, left, top, INPUT_WIDTH, INPUT_HEIGHT)
    write_at(figure, left, top - 1.5, textwrap.fill(drawing.title, TITLE_LETTERS), SMALL + 1, va="bottom")
    shown = draw_input(axes, drawing.values, drawing.config, limits)
    if shown is not None:
        colour_bar(figure, shown, (left + INPUT_WIDTH + 2, top, INPUT_HEIGHT), "")


def inputs_figure(
    title: str, remarks: Sequence[str], rows: Sequence[Sequence[Drawing]], same_colours: bool = False
) -> Figure:
    """Rows of inputs, each input with colours of its own, or with those of the first in its row."""
    first, across = 22 + 4.5 * len(remarks), max(2, *map(len, rows))
    figure = new_figure(18 + across * COLUMN, first + len(rows) * (INPUT_HEIGHT + 22))
    write_head(figure, 20, title, remarks, color=FAINT)
    for number, row in enumerate(rows):
        limits = robust_limits(row[0].values) if same_colours else None
        for column, drawing in enumerate(row):
            draw_one(figure, drawing, 20 + column * COLUMN, first + number * (INPUT_HEIGHT + 22), limits)
    return figure


def drawing_of(name: str, values: np.ndarray, config: Any) -> Drawing:
    """An input titled with its name, kind and shape."""
    shape = " x ".join(map(str, values.shape))
    return Drawing(f"{name}: {config.kind}, {shape}", values, config)
