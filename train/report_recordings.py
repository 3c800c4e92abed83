"""Recordings of a report: the labelled 10 s as a neurologist reads them, the 10 minutes around, votes, predictions."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from common.draw import SMALL, decibels, mark_seconds, new_figure, place, robust_limits, spectrogram_panel
from common.draw_eeg import (
    PAGE_HEIGHT,
    PAGE_WIDTH,
    display_traces,
    eeg_page,
    ekg_sensitivity,
    page_caption,
    sensitivity,
)
from common.records import RecordingError
from common.schema import FREQUENCIES, REGIONS, SPECTROGRAM_SECONDS, TRAIN_EEGS
from train.report_read import Material
from train.run_folder import ROWS, RunError, read_table
from train.show_find import Found, read_recordings
from train.show_pages import EEG_IN_SPECTROGRAM, LABELLED, SPAN

EEG_DPI, SPECTRA_DPI = 90, 76
EEG_COLOURS, SPECTRA_COLOURS = 20, 40  # lines on paper need few; so many shades make no steps that are seen
NAMES, EDGE = 26.0, 3.0  # mm left of the page, and around it
PANEL_WIDTH, PANEL_HEIGHT, PANEL_GAP = 74.0, 34.0, 4.0  # mm


def as_data_uri(figure: Figure, dpi: int, colours: int) -> tuple[str, int, int]:
    """A PNG of few colours, and its width and height in pixels."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    image = Image.open(drawn).convert("RGB")
    image.quantize(colours, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
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
    """eeg_picture and spectrogram_picture as (data URI, width, height), how the page is drawn, and remarks; or why there are none."""
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
        "eeg_picture": as_data_uri(page, EEG_DPI, EEG_COLOURS),
        "spectrogram_picture": as_data_uri(spectra, SPECTRA_DPI, SPECTRA_COLOURS),
        "caption": caption,
        "remarks": recordings.remarks,
    }


def rows_with_windows(material: Material, competition: Path) -> pl.DataFrame:
    """The material's rows with where their windows start, from a run's label rows. Raises RunError."""
    first = next(iter(material.runs.values()))
    table = read_table(first / ROWS)
    wanted = ["label_id", "eeg_start", "spectrogram_start"]
    if absent := [column for column in wanted if column not in table.columns]:
        raise RunError(f"{first / ROWS} has no column {', '.join(absent)}: recordings cannot be found; train it again")
    if not (competition / TRAIN_EEGS).is_dir():
        raise RunError(
            f"{competition}: no {TRAIN_EEGS} here; --competition wants the folder these runs were trained on"
        )
    return material.rows.join(table.select(wanted), on="label_id", how="left", maintain_order="left")


def draw_recordings(material: Material, competition: Path, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The pictures of these rows. Raises RunError."""
    rows = rows_with_windows(material, competition)
    bar = tqdm(numbers, desc="drawing recordings", unit="recording", disable=None)
    return {int(number): pictures_of(competition, rows.row(int(number), named=True)) for number in bar}
