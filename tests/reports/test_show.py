"""Pictures: the command writes what was asked, axes tell the truth, gaps are seen, the docs can be made again."""

import re
import runpy
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from conftest import PROJECT
from eeg_samples import NAMES, eeg_like
from matplotlib.patches import Rectangle
from PIL import Image

import train.__main__
from common.inputs.base import Windows
from common.inputs.build import input_shape
from common.inputs.config import KaggleImage
from train.experiment import Experiment
from train.plots.eeg import GROUPS, LINES, PAGE_HEIGHT, PAGE_PAIRS, display_traces, eeg_page
from train.plots.find import ShowError, find, read_tables
from train.plots.model_inputs import with_own_constants
from train.plots.style import new_figure, place

SHIFTED = "[[training.stages]]\nepochs = 1\naugment.mirror = 0.5\naugment.shift = 10.0\n"


@pytest.fixture
def show(monkeypatch, capsys, tmp_path):
    """Runs `train show WORDS`; gives exit code, output, errors. Pictures go to tmp_path/shown."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["train", "show", *map(str, words), "--out", str(tmp_path / "shown")])
        capsys.readouterr()
        return train.__main__.main(), *capsys.readouterr()

    return run


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def assert_picture(path, least_width, least_height):
    picture = pixels(path)
    assert picture.shape[0] >= least_height and picture.shape[1] >= least_width
    assert 0.01 < (picture.min(axis=2) < 200).mean() < 0.9  # neither blank nor full


# ---- the command


def test_a_train_eeg_with_votes_and_predictions(show, road, tmp_path):
    eeg_id = pl.read_csv(road.competition / "train.csv")["eeg_id"][0]
    config = road.folder / "tiny-image.toml"
    words = (eeg_id, "--competition", road.competition, "--config", config, road.folder / "tiny-wave.toml")
    code, shown, errors = show(*words, "--runs", *road.runs)
    assert code == 0, errors
    names = [f"{eeg_id}-eeg.png", f"{eeg_id}-inputs.png"]
    assert all(f"wrote {tmp_path / 'shown' / name}\n" in shown for name in names)
    assert sorted(path.name for path in (tmp_path / "shown").iterdir()) == names
    assert_picture(tmp_path / "shown" / names[0], 1300, 3500)
    assert_picture(tmp_path / "shown" / names[1], 1300, 450)
    with_predictions = (tmp_path / "shown" / names[0]).read_bytes()
    assert show(*words)[0] == 0
    assert (tmp_path / "shown" / names[0]).read_bytes() != with_predictions


def test_the_window_is_that_of_the_label(road):
    table = pl.read_csv(road.competition / "train.csv")
    tables = read_tables(road.competition, None)
    counts = tables["train"].group_by("eeg_id").len().filter(pl.col("len") > 1)
    assert counts.height, "the simulation has no EEG with two vote vectors"
    rows = tables["train"].filter(pl.col("eeg_id") == counts["eeg_id"][0])
    most = find(road.competition, tables, rows["eeg_id"][0], None).label
    assert most["total_votes"] == rows["total_votes"].max()
    for label_id in table.filter(pl.col("eeg_id") == rows["eeg_id"][0])["label_id"]:
        chosen = find(road.competition, tables, rows["eeg_id"][0], label_id).label
        given = table.filter(pl.col("label_id") == label_id)
        assert all(chosen[vote] == given[vote][0] for vote in given.columns if vote.endswith("_vote"))


def test_a_test_eeg_without_spectrogram_and_with_a_gap(show, competition, tmp_path):
    row = pl.read_csv(competition / "test.csv").row(0, named=True)
    path = competition / "test_eegs" / f"{row['eeg_id']}.parquet"
    config = PROJECT / "train" / "configs" / "kaggle-b2.toml"
    words = (row["eeg_id"], "--competition", competition, "--config", config)
    assert show(*words)[0] == 0
    whole = pixels(tmp_path / "shown" / f"{row['eeg_id']}-eeg.png")
    eeg = pl.read_parquet(path).with_row_index()
    gap = pl.col("index").is_between(4200, 5000)
    eeg.with_columns(pl.when(gap).then(None).otherwise(pl.col("T3")).alias("T3")).drop("index").write_parquet(path)
    (competition / "test_spectrograms" / f"{row['spectrogram_id']}.parquet").unlink()
    assert show(*words)[0] == 0
    assert_picture(tmp_path / "shown" / f"{row['eeg_id']}-inputs.png", 1300, 450)
    broken = pixels(tmp_path / "shown" / f"{row['eeg_id']}-eeg.png")
    assert broken.shape[0] > whole.shape[0]  # lines that say what is missing
    grey = (broken == 0xDC).all(axis=2).sum()
    assert grey > (whole == 0xDC).all(axis=2).sum() + 10_000


def test_augmented_windows_differ_and_are_the_same_again(show, road, tmp_path):
    eeg_id = pl.read_csv(road.competition / "train.csv")["eeg_id"][0]
    config = tmp_path / "moved.toml"
    config.write_text('[input]\nkind = "eeg-mel-image"\n' + SHIFTED)
    words = (eeg_id, "--competition", road.competition, "--config", config, "--augmented")
    assert show(*words)[0] == 0
    path = tmp_path / "shown" / f"{eeg_id}-augmented.png"
    assert_picture(path, 2500, 450)
    first, width = path.read_bytes(), 670
    picture = pixels(path)
    panels = [picture[95:480, 80 + k * width : 590 + k * width] for k in range(4)]
    assert all((panels[0] != panel).mean() > 0.2 for panel in panels[1:])
    assert show(*words)[0] == 0 and path.read_bytes() == first
    config.write_text('[input]\nkind = "eeg-mel-image"\n')
    path.unlink()
    assert "no stage of moved alters its windows" in show(*words)[1] and not path.exists()


def test_training_constants_are_the_windows_own():
    experiment = Experiment(name="measured", input=KaggleImage(standardise="training"))
    spectrogram = torch.from_numpy(np.exp(np.random.default_rng(0).normal(1, 2, (1, 4, 100, 300)))).float()
    config, name = with_own_constants(experiment, Windows(None, spectrogram))
    assert "measured on this window alone" in name and config.standardise.mean == pytest.approx(1, abs=0.1)
    with pytest.raises(ShowError, match="measured: constants of the training rows: not one spectrogram"):
        with_own_constants(experiment, Windows(None, spectrogram * torch.nan))


def test_errors_say_what_there_is(show, road, competition, tmp_path):
    known = pl.read_csv(road.competition / "train.csv")["eeg_id"][0]
    eeg_id = pl.read_csv(competition / "test.csv")["eeg_id"][0]
    unfit = tmp_path / "unfit.toml"
    images = '[[input.images]]\nkind = "raw-image"\n[[input.images]]\nkind = "eeg-mel-image"\n'
    unfit.write_text('[input]\nkind = "combined-image"\n' + images)
    (competition / "test_eegs" / f"{eeg_id}.parquet").write_bytes(b"not parquet")
    for folder, words, said in (
        (road.competition, [known + 1], rf"is not among the \d+ EEGs of train.csv .*{known}"),
        (tmp_path, [known], "no train.csv or test.csv here"),
        (road.competition, [known, "--split", "test"], "EEGs of test.csv"),
        (road.competition, [known, known, "--label", 1], "--label 1 belongs to one EEG"),
        (road.competition, [known, "--label", 7], rf"--label 7 is no label of EEG {known}; its label rows are \d+"),
        (road.competition, [known, "--config", unfit], "unfit: images of .* give them a size"),
        (competition, [eeg_id, "--label", 1], "has no labels"),
        (competition, [eeg_id], f"{eeg_id}.parquet: not a readable parquet"),
    ):
        code, _, errors = show(*words, "--competition", folder)
        assert code == 1 and re.search(said, errors), errors
    assert not (tmp_path / "shown").exists()


# ---- the EEG page


def test_page_has_the_double_banana_in_the_neurologists_order():
    names = [" ".join(pair[0] for pair in pairs) + " " + pairs[-1][1] for _, _, pairs in GROUPS]
    assert names == ["Fp1 F7 T3 T5 O1", "Fp2 F8 T4 T6 O2", "Fp1 F3 C3 P3 O1", "Fp2 F4 C4 P4 O2", "Fz Cz Pz"]
    steps = np.diff(LINES)
    assert [k + 1 for k in np.flatnonzero(steps > steps.min())] == [4, 8, 12, 16, 18]  # a gap after each group


def test_negative_is_up_and_gaps_break_the_trace():
    eeg = np.zeros((20, 10_000), dtype=np.float32)
    pulse = slice(5_000, 5_020)
    eeg[NAMES.index("F7"), pulse] = 300  # F7-T3 positive: down; Fp1-F7 negative: up
    eeg[NAMES.index("O2"), 4_400:4_800] = np.nan
    axes = place(new_figure(180, 140), 20, 10, 130, 100)
    eeg_page(axes, replace(display_traces(eeg), scale=30, ekg_scale=30), 20)
    lines = [path.vertices for path in axes.collections[0].get_paths()]
    down, up = PAGE_PAIRS.index(("F7", "T3")), PAGE_PAIRS.index(("Fp1", "F7"))
    low, high = axes.get_ylim()
    assert (low, high) == (PAGE_HEIGHT, 0)
    assert np.nanmax(lines[down][:, 1]) - LINES[down] > 5 and LINES[up] - np.nanmin(lines[up][:, 1]) > 5
    assert axes.get_xlim() == (20, 30)
    silent = [k for k, pair in enumerate(PAGE_PAIRS) if "O2" in pair]
    shaded = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert sorted(patch.get_y() + patch.get_height() / 2 for patch in shaded) == [LINES[k] for k in silent]
    assert all((patch.get_x(), patch.get_width()) == pytest.approx((22, 2)) for patch in shaded)
    for lane, line in enumerate(lines):
        assert np.flatnonzero(np.isnan(line[:, 1])).tolist() == (list(range(400, 800)) if lane in silent else [])


def test_sensitivity_follows_the_eeg_and_no_artefact():
    eeg = eeg_like(3) * 10
    plain = display_traces(eeg).scale
    assert plain / 10 == pytest.approx(display_traces(eeg_like(3)).scale, rel=0.5)
    eeg[NAMES.index("F7"), 2_000:9_000] *= 1000
    assert display_traces(eeg).scale <= 2 * plain
    assert display_traces(np.full((20, 10_000), np.nan, dtype=np.float32)).scale == 7


# ---- docs


DOCS = PROJECT / "docs"


@pytest.fixture(scope="module")
def maker():
    return runpy.run_path(str(DOCS / "make_pictures.py"), run_name="docs")


def test_every_snippet_of_the_docs_builds_the_shape_it_says(maker):
    snippets = maker["snippets"]()
    text = (DOCS / "inputs.md").read_text()
    assert len(snippets) == text.count("```toml") == text.count("![") == text.count("\n### ") >= 20
    for config, shape, path in snippets:
        assert " x ".join(map(str, input_shape(config))) == shape, path.name
    assert {path for *_, path in snippets} == set((DOCS / "inputs").iterdir())


def test_a_picture_of_the_docs_is_made_again(maker, tmp_path, monkeypatch):
    config, shape, path = next(s for s in maker["snippets"]() if s[2].stem == "eeg-mel")
    made = tmp_path / path.name
    functions = maker["draw_inputs"].__globals__
    monkeypatch.setitem(functions, "DOCS", tmp_path)
    monkeypatch.setitem(functions, "snippets", lambda: [(config, shape, made)])
    maker["draw_inputs"](Windows(torch.from_numpy(eeg_like(4))[None], None))
    assert Image.open(made).size == Image.open(path).size and made.stat().st_size < 250e3
