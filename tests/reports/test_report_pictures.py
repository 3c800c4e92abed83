"""Recordings on the report page, and the page in a real browser: wide and narrow, light and dark, offline."""

import base64
import io
import os
import re
import shutil

import numpy as np
import polars as pl
import pytest
from browser import CHROMIUM, ask
from PIL import Image
from report_samples import section, train, words_of

from common.schema import ELECTRODES
from train.report import recordings as report_recordings
from train.report.data_quality import PLACES
from train.report.load import load_report_data

PICTURE = re.compile(r'<img src="data:image/png;base64,([^"]+)" width="(\d+)" height="(\d+)"')


@pytest.fixture(scope="module")
def page(road, tmp_path_factory):
    """A whole page: two runs, their blend, Bayes floor, doctor; one of its EEGs is damaged."""
    folder = tmp_path_factory.mktemp("report")
    competition = folder / "competition"
    for part in ("train_eegs", "train_spectrograms"):
        shutil.copytree(road.competition / part, competition / part, copy_function=os.link)
    data = load_report_data([*road.runs, road.fitted_blend], None)
    worst = data.rows.filter(data.scored)["eeg_id"][0]
    (competition / "train_eegs" / f"{worst}.parquet").unlink()
    (competition / "train_eegs" / f"{worst}.parquet").write_bytes(b"damaged")
    found = folder / "doctor.json"
    assert train("doctor", "--competition", road.competition, "--folds", 2, "--json", found) == 0
    truth, out = road.competition / "truth" / "train_probabilities.csv", folder / "report.html"
    given = ("--competition", competition, "--truth", truth, "--doctor", found)
    assert train("report", *road.runs, road.fitted_blend, *given, "--out", out) == 0
    return out, worst


def test_each_recording_has_its_eeg_and_its_spectrogram(page):
    text = section(page[0].read_text(), "recordings")
    cards = text.count('<details class="rec">')
    pictures = PICTURE.findall(text)
    failed = text.count('class="failure"')
    assert cards > 4 and failed == 1 and len(pictures) == 2 * (cards - failed)
    assert f"{page[1]}.parquet: not a readable parquet file" in words_of(text)
    for data, width, height in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.size == (int(width), int(height)) and image.mode == "P"
        grey = np.asarray(image.convert("L"))
        assert 0.005 < (grey < 200).mean() < 0.95  # neither blank nor full
    assert len(page[0].read_bytes()) < 8e6


def test_the_floor_and_the_doctor_are_on_it(page):
    text = page[0].read_text()
    top = words_of(section(text, "top"))
    assert "of the way to the Bayes floor of" in top or "no better" in top
    assert section(text, "data").count('class="electrode"') == 2 * len(PLACES)
    assert "The doctor says: largest amplitude" in words_of(section(text, "recordings"))


def test_the_window_drawn_is_the_labelled_one(road, monkeypatch):
    """By hand: the samples of the file that the row's windows are around."""
    data = load_report_data(road.runs, None)
    drawn = []
    monkeypatch.setattr(report_recordings, "display_traces", drawn.append)
    for name in ("eeg_picture", "page_caption", "spectrogram_picture", "in_few_colours", "as_data_uri"):
        monkeypatch.setattr(report_recordings, name, lambda *_: None)
    windows = pl.read_csv(road.competition / "train.csv")
    for number in range(5):
        row = data.rows.row(number, named=True)
        report_recordings.draw_recordings(data, road.competition, [number])
        votes = [column for column in row if column.endswith("_vote")]
        same = windows.filter(pl.col("eeg_id") == row["eeg_id"], *(pl.col(vote) == row[vote] for vote in votes))
        offset = same["eeg_label_offset_seconds"].sort()
        start = int(offset[(offset - (offset.min() + offset.max()) / 2).abs().arg_min()] * 200)
        file = pl.read_parquet(road.competition / "train_eegs" / f"{row['eeg_id']}.parquet")
        wanted = file[start : start + 10_000]["Cz"].to_numpy()
        assert np.array_equal(drawn[-1][ELECTRODES.index("Cz")], wanted, equal_nan=True)


# ---- in a browser

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt install chromium)")
# The contrast is of letters and the paper behind them, as WCAG counts it.
FACTS = """() => {
  const light = c => c.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((s, v, k) => s + v * [0.2126, 0.7152, 0.0722][k], 0);
  const rgb = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const background = rgb(getComputedStyle(document.body).backgroundColor), paper = light(background);
  const contrasts = [...document.querySelectorAll('p, td, th, h2, dt, .lede')].map(e => {
    const ink = light(rgb(getComputedStyle(e).color));
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05); });
  const fits = () => document.documentElement.scrollWidth <= innerWidth, closed = fits();
  document.querySelectorAll('details').forEach(d => d.open = true);
  return {
    width: innerWidth, fits: closed && fits(), background: background, contrast: Math.min(...contrasts),
    dark: matchMedia('(prefers-color-scheme: dark)').matches,
    images: [...document.images].every(i => i.complete && i.naturalWidth > 0) && document.images.length,
    lost: [...document.links].filter(a => !document.querySelector(a.getAttribute('href'))).length,
    loaded: performance.getEntriesByType('resource').map(e => e.name).filter(name => !name.startsWith('data:')),
  };
}"""


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (400, False), (400, True)])
def test_in_a_browser_everything_is_there_and_nothing_sticks_out(page, width, dark):
    facts, console = ask(page[0], width, dark, FACTS)
    assert facts["width"] == width and facts["fits"] and facts["lost"] == 0
    assert facts["images"] == len(PICTURE.findall(page[0].read_text()))
    assert facts["dark"] == dark and (max(facts["background"]) < 60) == dark
    assert facts["contrast"] > 4.5
    assert not console and not facts["loaded"]
