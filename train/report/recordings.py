"""Recordings of a report: the labelled 10 s as a neurologist reads them, the 10 minutes around, votes, predictions."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from common.records import RecordingError
from common.schema import REGIONS, TRAIN_EEGS
from train.engine.run_folder import ROWS, RunError, read_table
from train.plots.eeg import PAGE_HEIGHT, PAGE_WIDTH, Traces, display_traces, eeg_page, page_caption
from train.plots.find import Found, read_recordings
from train.plots.pages import LABELLED, Spectra, competition_spectra, draw_spectra
from train.plots.style import FAINT, GRID, INK, LEFT, MISSING, RIGHT, in_few_colours, new_figure, place, shades
from train.report.load import ReportData

EEG_DPI, SPECTRA_DPI = 86, 66
# Sixteen colours, of four bits a pixel, are enough for a page of lines.
PAGE_COLOURS = [*(shade for ink in (LEFT, RIGHT, INK, FAINT) for shade in shades(ink, 4)[1:]), (1, 1, 1)]
PAGE_COLOURS += [to_rgb(ink) for ink in (GRID, MISSING)]
SPECTRA_COLOURS = 40
NAMES, EDGE = 26.0, 3.0  # mm left of the page, and around it
PANEL_WIDTH, PANEL_HEIGHT, PANEL_GAP = 74.0, 34.0, 4.0  # mm


def as_data_uri(image: Image.Image) -> tuple[str, int, int]:
    """A PNG, and its width and height in pixels."""
    small = io.BytesIO()
    image.save(small, "PNG", compress_level=7)
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode(), *image.size


def eeg_picture(traces: Traces) -> Figure:
    """The labelled 10 s."""
    figure = new_figure(NAMES + PAGE_WIDTH + EDGE, PAGE_HEIGHT + EDGE + 8)
    eeg_page(place(figure, NAMES, EDGE, PAGE_WIDTH, PAGE_HEIGHT), traces, LABELLED)
    return figure


def spectrogram_picture(spectra: Spectra) -> Figure:
    """The four regions side by side; between the white lines what the experts labelled."""
    figure = new_figure(13 + len(REGIONS) * (PANEL_WIDTH + PANEL_GAP), PANEL_HEIGHT + 17)
    draw_spectra(figure, spectra, (11, 6), (PANEL_WIDTH, PANEL_HEIGHT), PANEL_GAP)
    return figure


def pictures_of(competition: Path, row: dict[str, Any]) -> dict[str, Any]:
    """eeg_picture and spectrogram_picture (data URI, width, height), caption and remarks; or `failure`, the reason."""
    found = Found(row["eeg_id"], row["patient_id"], row["spectrogram_id"], row)
    try:
        recordings = read_recordings(competition, found)
    except RecordingError as error:
        return {"failure": f"cannot be drawn: {error}"}
    eeg, spectrogram = recordings.window_arrays()
    traces = display_traces(eeg)
    spectra = competition_spectra(spectrogram, rebuilt=recordings.spectrogram is None)
    return {
        "eeg_picture": as_data_uri(in_few_colours(eeg_picture(traces), EEG_DPI, PAGE_COLOURS)),
        "spectrogram_picture": as_data_uri(in_few_colours(spectrogram_picture(spectra), SPECTRA_DPI, SPECTRA_COLOURS)),
        "caption": page_caption(traces),
        "remarks": recordings.remarks,
    }


def rows_with_windows(data: ReportData, competition: Path) -> pl.DataFrame:
    """The data's rows with where their windows start, from a run's label rows. Raises RunError."""
    if not (competition / TRAIN_EEGS).is_dir():
        raise RunError(f"{competition}: no {TRAIN_EEGS} here; --competition wants the folder of these runs")
    first = next(iter(data.runs.values()))
    table = read_table(first / ROWS)
    wanted = ["label_id", "eeg_start", "spectrogram_start"]
    if absent := [column for column in wanted if column not in table.columns]:
        raise RunError(f"{first / ROWS} has no column {', '.join(absent)}: recordings cannot be found; train it again")
    return data.rows.join(table.select(wanted), on="label_id", how="left", maintain_order="left")


def draw_recordings(data: ReportData, competition: Path, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The pictures of these rows. Raises RunError."""
    rows = rows_with_windows(data, competition)
    bar = tqdm(numbers, desc="drawing recordings", unit="recording", disable=None)
    return {int(number): pictures_of(competition, rows.row(int(number), named=True)) for number in bar}
