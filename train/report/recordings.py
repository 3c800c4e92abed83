"""Recordings of a report: the labelled 10 s as a neurologist reads them, the 10 minutes around, votes, predictions."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from common.records import RecordingError
from common.schema import FREQUENCIES, REGIONS, SPECTROGRAM_SECONDS, TRAIN_EEGS
from train.plots.eeg import (
    PAGE_HEIGHT,
    PAGE_WIDTH,
    display_traces,
    eeg_page,
    ekg_sensitivity,
    page_caption,
    sensitivity,
)
from train.plots.find import Found, read_recordings
from train.plots.pages import EEG_IN_SPECTROGRAM, LABELLED, SPAN
from train.plots.style import (
    FAINT,
    GRID,
    INK,
    LEFT,
    MISSING,
    RIGHT,
    SMALL,
    decibels,
    mark_seconds,
    new_figure,
    place,
    robust_limits,
    spectrogram_panel,
)
from train.report.load import Material
from train.run_folder import ROWS, RunError, read_table

EEG_DPI, SPECTRA_DPI = 86, 66
SHADES = (1.0, 0.6, 0.3)  # of each ink on white: sixteen colours, of four bits a pixel, are enough for a page of lines
SPECTRA_COLOURS = 40
NAMES, EDGE = 26.0, 3.0  # mm left of the page, and around it
PANEL_WIDTH, PANEL_HEIGHT, PANEL_GAP = 74.0, 34.0, 4.0  # mm


def page_palette() -> Image.Image:
    """The inks of an EEG page, in shades down to white."""
    inks = [tuple(int(ink[k : k + 2], 16) for k in (1, 3, 5)) for ink in (LEFT, RIGHT, INK, FAINT)]
    mixed = [round(255 + shade * (value - 255)) for ink in inks for shade in SHADES for value in ink]
    grey = [int(ink[k : k + 2], 16) for ink in (GRID, MISSING) for k in (1, 3, 5)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([255, 255, 255, *mixed, *grey])
    return palette


def as_data_uri(figure: Figure, dpi: int, palette: Image.Image | None = None) -> tuple[str, int, int]:
    """A PNG of few colours, those of `palette` if it is given, and its width and height in pixels."""
    figure.set_dpi(dpi)
    canvas, small = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()
    image = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
    few = image.quantize(SPECTRA_COLOURS, Image.Quantize.FASTOCTREE, palette=palette, dither=Image.Dither.NONE)
    few.save(small, "PNG", compress_level=7)
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode(), *image.size


def eeg_picture(eeg: np.ndarray) -> tuple[Figure, str]:
    """The labelled 10 s of (20, 10000) microvolts, and how they are drawn."""
    traces = display_traces(eeg)
    scales = sensitivity(traces), ekg_sensitivity(traces)
    figure = new_figure(NAMES + PAGE_WIDTH + EDGE, PAGE_HEIGHT + EDGE + 8)
    eeg_page(place(figure, NAMES, EDGE, PAGE_WIDTH, PAGE_HEIGHT), traces, LABELLED, False, *scales)
    return figure, page_caption(traces, *scales)


def spectrogram_picture(spectrogram: np.ndarray, rebuilt: bool) -> Figure:
    """The four regions of (4, 100, 300) power side by side; between the white lines what the experts labelled."""
    limits = robust_limits(decibels(spectrogram))
    figure = new_figure(13 + 4 * (PANEL_WIDTH + PANEL_GAP), PANEL_HEIGHT + 17)
    for column, (region, power) in enumerate(zip(REGIONS, spectrogram, strict=True)):
        axes = place(figure, 11 + column * (PANEL_WIDTH + PANEL_GAP), 6, PANEL_WIDTH, PANEL_HEIGHT)
        spectrogram_panel(axes, power, np.array(FREQUENCIES), (0.0, float(SPECTROGRAM_SECONDS)), limits)
        mark_seconds(axes, EEG_IN_SPECTROGRAM + SPAN[0], EEG_IN_SPECTROGRAM + SPAN[1])
        axes.set_title(region, fontsize=SMALL + 1, pad=2)
        axes.set_xlim((264, 336) if rebuilt else (0, SPECTROGRAM_SECONDS))
        axes.set_xlabel("seconds", fontsize=SMALL, labelpad=1)
        if column:
            axes.set_yticklabels([])
        else:
            axes.set_ylabel("Hz", fontsize=SMALL, labelpad=1)
    return figure


def pictures_of(competition: Path, row: dict[str, Any]) -> dict[str, Any]:
    """eeg_picture and spectrogram_picture (data URI, width, height), caption and remarks; or `failure`, the reason."""
    found = Found(row["eeg_id"], row["patient_id"], row["spectrogram_id"], False, row)
    try:
        recordings = read_recordings(competition, found)
    except RecordingError as error:
        return {"failure": f"cannot be drawn: {error}"}
    window, rebuilt = recordings.window(), recordings.spectrogram is None
    assert window.eeg is not None and window.spectrogram is not None
    page, caption = eeg_picture(window.eeg[0].numpy())
    spectra = spectrogram_picture(window.spectrogram[0].numpy(), rebuilt)
    return {
        "eeg_picture": as_data_uri(page, EEG_DPI, page_palette()),
        "spectrogram_picture": as_data_uri(spectra, SPECTRA_DPI),
        "caption": caption,
        "remarks": recordings.remarks,
    }


def rows_with_windows(material: Material, competition: Path) -> pl.DataFrame:
    """The material's rows with where their windows start, from a run's label rows. Raises RunError."""
    if not (competition / TRAIN_EEGS).is_dir():
        raise RunError(f"{competition}: no {TRAIN_EEGS} here; --competition wants the folder of these runs")
    first = next(iter(material.runs.values()))
    table = read_table(first / ROWS)
    wanted = ["label_id", "eeg_start", "spectrogram_start"]
    if absent := [column for column in wanted if column not in table.columns]:
        raise RunError(f"{first / ROWS} has no column {', '.join(absent)}: recordings cannot be found; train it again")
    return material.rows.join(table.select(wanted), on="label_id", how="left", maintain_order="left")


def draw_recordings(material: Material, competition: Path, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The pictures of these rows. Raises RunError."""
    rows = rows_with_windows(material, competition)
    bar = tqdm(numbers, desc="drawing recordings", unit="recording", disable=None)
    return {int(number): pictures_of(competition, rows.row(int(number), named=True)) for number in bar}
