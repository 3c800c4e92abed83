"""The pictures of `python -m train show`: the EEG with its spectrograms and votes, and its model inputs."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from common.draw_inputs import draw_input
from common.schema import (
    FREQUENCIES,
    LABELLED_SECONDS,
    REGIONS,
    SPECTROGRAM_SECONDS,
    WINDOW_SECONDS,
)
from train.plots.eeg import (
    PAGE_HEIGHT,
    PAGE_SECONDS,
    PAGE_WIDTH,
    Traces,
    chain_spectrogram,
    display_traces,
    eeg_page,
    ekg_sensitivity,
    page_caption,
    sensitivity,
)
from train.plots.style import (
    FAINT,
    LARGE,
    MICROVOLT,
    SMALL,
    decibels,
    mark_seconds,
    new_figure,
    place,
    robust_limits,
    spectrogram_panel,
    votes_bars,
    write_at,
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
class Portrait:
    """One EEG with all that is known about it.

    eeg: (20, 10000) microvolts; spectrogram: (4, 100, 300) power; both NaN where missing. title and remarks: lines
    of text. votes: (6,) counts, None for a test EEG. shares: predictions and truth by name, (6,) each.
    """

    title: str
    remarks: tuple[str, ...]
    eeg: np.ndarray
    spectrogram: np.ndarray
    rebuilt: bool  # the spectrogram has only the columns that the EEG covers
    votes: np.ndarray | None = None
    shares: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawing:
    """One model input of one window, (channels, height, width) or (channels, time), and what to write above it."""

    title: str
    values: np.ndarray
    config: Any


def colour_bar(figure: Figure, shown: AxesImage, beside: tuple[float, float, float], label: str) -> None:
    """left, top and height in mm."""
    left, top, height = beside
    axes = place(figure, left, top, 2.5, height)
    bar = figure.colorbar(shown, cax=axes)
    bar.outline.set_visible(False)  # type: ignore[operator]
    axes.tick_params(labelsize=SMALL, length=2, width=0.5)
    axes.yaxis.set_label_position("right")
    axes.set_ylabel(label, fontsize=SMALL, labelpad=3)


def draw_spectra(figure: Figure, portrait: Portrait, top: float) -> None:
    """Two rows of four panels: the competition's 10 minutes, and the 50 s themselves."""
    chains, hertz, seconds = chain_spectrogram(portrait.eeg)
    spans = (EEG_IN_SPECTROGRAM + SPAN[0], EEG_IN_SPECTROGRAM + SPAN[1])
    rows = (
        (portrait.spectrogram, np.array(FREQUENCIES), (0.0, float(SPECTROGRAM_SECONDS)), spans),
        (chains, hertz, seconds, SPAN),
    )
    for row, (power, rows_hertz, edges, span) in enumerate(rows):
        limits = robust_limits(decibels(power))
        height = top + row * (PANEL_HEIGHT + 13)
        for column, (region, panel) in enumerate(zip(REGIONS, power, strict=True)):
            left = MARGIN + column * (PANEL_WIDTH + PANEL_GAP)
            axes = place(figure, left, height, PANEL_WIDTH, PANEL_HEIGHT)
            shown = spectrogram_panel(axes, panel, rows_hertz, edges, limits)
            mark_seconds(axes, *span)
            finish_spectra_axes(axes, region if row == 0 else "", row, column, portrait.rebuilt)
        colour_bar(figure, shown, (MARGIN + 4 * (PANEL_WIDTH + PANEL_GAP) - 3.5, height, PANEL_HEIGHT), "dB")


def finish_spectra_axes(axes: Axes, title: str, row: int, column: int, rebuilt: bool) -> None:
    axes.set_title(title, fontsize=SMALL + 1, pad=2)
    if row == 0:
        axes.set_xlim((264, 336) if rebuilt else (0, SPECTROGRAM_SECONDS))
        axes.set_xticks((270, 290, 310, 330) if rebuilt else (0, 150, 300, 450, 600))
        axes.set_xlabel("time in the 10 minutes (s)", fontsize=SMALL, labelpad=1)
    else:
        axes.set_xlim(0, WINDOW_SECONDS)
        axes.set_xlabel("time in the window (s)", fontsize=SMALL, labelpad=1)
    if column == 0:
        axes.set_ylabel("frequency (Hz)", fontsize=SMALL, labelpad=2)
    else:
        axes.set_yticklabels([])


def draw_page(figure: Figure, traces: Traces, top: float, start: int, scales: tuple[float, float]) -> None:
    axes = place(figure, MARGIN, top, PAGE_WIDTH, PAGE_HEIGHT)
    labelled = start == LABELLED
    eeg_page(axes, traces, start, labelled, *scales)
    if labelled:
        write_at(
            figure, MARGIN, top - 4, f"seconds {start}-{start + PAGE_SECONDS}: what the experts labelled", SMALL + 1
        )


def eeg_figure(portrait: Portrait) -> Figure:
    """Title, spectrograms, votes; then five pages of 10 s."""
    traces = display_traces(portrait.eeg)
    scales = sensitivity(traces), ekg_sensitivity(traces)
    lines = [*portrait.remarks, page_caption(traces, *scales), SPECTRA_CAPTION]
    spectra = 16 + 4.5 * len(lines)
    first = spectra + 2 * (PANEL_HEIGHT + 13) + 6
    pages = range(0, WINDOW_SECONDS, PAGE_SECONDS)
    figure = new_figure(WIDTH, first + len(pages) * (PAGE_HEIGHT + 14))
    write_at(figure, MARGIN, 5, portrait.title, LARGE, fontweight="bold")
    for number, line in enumerate(lines):
        write_at(figure, MARGIN, 11.5 + 4.5 * number, line)
    draw_spectra(figure, portrait, spectra)
    if portrait.votes is not None or portrait.shares:
        votes_bars(place(figure, WIDTH - 78, spectra, 60, 48), portrait.votes, portrait.shares)
    for number, start in enumerate(pages):
        draw_page(figure, traces, first + number * (PAGE_HEIGHT + 14), start, scales)
    return figure


def page_figure(eeg: np.ndarray, title: str) -> Figure:
    """The labelled 10 s alone."""
    traces = display_traces(eeg)
    scales = sensitivity(traces), ekg_sensitivity(traces)
    figure = new_figure(WIDTH - 8, PAGE_HEIGHT + 27)
    write_at(figure, MARGIN, 4, title, LARGE, fontweight="bold")
    write_at(figure, MARGIN, 10, page_caption(traces, *scales))
    axes = place(figure, MARGIN, 16, PAGE_WIDTH, PAGE_HEIGHT)
    eeg_page(axes, traces, LABELLED, False, *scales)
    return figure


def draw_one(figure: Figure, drawing: Drawing, left: float, top: float, limits: tuple[float, float] | None) -> None:
    """One input with its title, its axes' upper left corner at left, top (mm)."""
    axes = place(figure, left, top, INPUT_WIDTH, INPUT_HEIGHT)
    write_at(figure, left, top - 1.5, textwrap.fill(drawing.title, TITLE_LETTERS), SMALL + 1, va="bottom")
    shown = draw_input(axes, drawing.values, drawing.config, limits)
    if shown is not None:
        colour_bar(figure, shown, (left + INPUT_WIDTH + 2, top, INPUT_HEIGHT), "")


def inputs_figure(title: str, remarks: Sequence[str], drawings: Sequence[Drawing]) -> Figure:
    """Inputs two in a row, each with colours of its own."""
    rows, first = -(-len(drawings) // 2), 22 + 4.5 * len(remarks)
    figure = new_figure(18 + 2 * COLUMN, first + rows * (INPUT_HEIGHT + 22))
    head(figure, title, remarks)
    for number, drawing in enumerate(drawings):
        row, column = divmod(number, 2)
        draw_one(figure, drawing, 20 + column * COLUMN, first + row * (INPUT_HEIGHT + 22), None)
    return figure


def head(figure: Figure, title: str, remarks: Sequence[str]) -> None:
    write_at(figure, 20, 5, title, LARGE, fontweight="bold")
    for number, line in enumerate(remarks):
        write_at(figure, 20, 11.5 + 4.5 * number, line, color=FAINT)


def augmented_figure(title: str, remarks: Sequence[str], rows: Sequence[Sequence[Drawing]]) -> Figure:
    """One row a stage: the unaltered input first, then draws; the colours of the row are those of the first."""
    first, across = 22 + 4.5 * len(remarks), max(map(len, rows))
    figure = new_figure(18 + across * COLUMN, first + len(rows) * (INPUT_HEIGHT + 22))
    head(figure, title, remarks)
    for number, row in enumerate(rows):
        limits = robust_limits(row[0].values)
        for column, drawing in enumerate(row):
            draw_one(figure, drawing, 20 + column * COLUMN, first + number * (INPUT_HEIGHT + 22), limits)
    return figure


def drawing_of(name: str, values: np.ndarray, config: Any) -> Drawing:
    """An input titled with its name, kind and shape."""
    shape = " x ".join(map(str, values.shape))
    return Drawing(f"{name}: {config.kind}, {shape}", values, config)
