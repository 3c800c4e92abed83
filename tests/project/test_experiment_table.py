"""The table of experiments: its cells, its copy in the docs, local results beside what was published."""

import runpy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from run_samples import write_run
from scipy.special import rel_entr

from common.blend import load_blend
from common.schema import VOTES
from train.engine.published import as_published
from train.engine.run_folder import RunError
from train.experiment import load_experiment
from train.experiments.table import FLOOR_HEADS, HEADS, LOCAL_HEADS, as_text, other_runs, table_of

PROJECT = Path(__file__).resolve().parents[2]
CONFIGS = {path.stem: load_experiment(path) for path in sorted((PROJECT / "train" / "configs").glob("*.toml"))}
BLENDS = {path.stem: load_blend(path) for path in sorted((PROJECT / "train" / "blends").glob("*.json"))}


# ---- the table


def column(table, head, name):
    return next(line[table[0].index(head)] for line in table[1:] if line[table[0].index("name")] == name)


def test_table_has_a_line_for_each():
    table = table_of(None, None)
    names = [line[1] for line in table[1:]]
    assert sorted(names) == sorted([*CONFIGS, *BLENDS]) and table[0] == HEADS
    assert all(len(line) == len(HEADS) and all(line) for line in table)
    assert names[0] == "kaggle-b2" and names.index("kaggle-pair") > names.index("kaggle-and-global-b2")
    text = as_text(table).splitlines()
    start = text[0].index("name")
    assert all(line[start:].startswith(f"{name} ") for line, name in zip(text[1:], names, strict=False))
    assert (
        text[len(table)].startswith("* not read on all")
        and "kaggle-pair = 0.5 kaggle-b2 + 0.5 kaggle-global-b2" in text
    )


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        (
            "kaggle-global-two-stage-b0",
            "Kaggle global, training constants | efficientnet_b0 | kl, xloss | mosaic | 2+4 (N <= 4), 5 (N >= 4)"
            " | 0.4240* | - | schedule, selection, stat-constants, middle-window",
        ),
        (
            "kaggle-and-percentiles-cutmix-b2",
            "Kaggle image + percentiles, by panel, by image | efficientnet_b2 | vote-log | cutmix | 6 | 0.6767 | 0.42"
            " | schedule, selection, cutmix-axis, middle-window",
        ),
        (
            "wave-squeezeformer",
            "EEG waves at 100 Hz | squeezeformer, 3 x 128 | kl (few votes fade) | shift, mirror, reverse | 20"
            " | 0.2570* | 0.25 | -",
        ),
        ("eeg-two-stage-pair", "2 models | ensemble | - | - | - | 0.4608* | 0.37 | -"),
    ],
)
def test_cells_say_what_an_experiment_is(name, cells):
    assert " | ".join(next(line[2:] for line in table_of(None, None)[1:] if line[1] == name)) == cells


def test_the_table_in_the_docs_is_made_by_a_command(tmp_path):
    """What it says is right; an experiment that is not there yet comes with the next `python docs/make_tables.py`."""
    maker = runpy.run_path(str(PROJECT / "docs" / "make_tables.py"), run_name="docs")
    page = (PROJECT / "docs" / "experiments.md").read_text(encoding="utf-8")
    before, after = (part.splitlines() for part in (page, maker["with_table"](page)))
    assert [line for line in before if line not in after] == []
    shorter = "\n".join(line for line in after if "| wave-bipolar |" not in line)
    assert maker["with_table"](shorter).splitlines() == after


# ---- local results

rng = np.random.default_rng(3)
LOCAL_VOTES = np.vstack([rng.multinomial(n, np.full(6, 1 / 6)) for n in (3, 4, 12, 15, 2, 4, 11, 20)])
LOCAL_VOTES[1], LOCAL_VOTES[5] = (4, 0, 0, 0, 0, 0), (2, 2, 0, 0, 0, 0)
FOLD = np.array([0, 0, 0, 0, 1, 1, 1, 1])


IDS = {key: np.arange(8) for key in ("label_id", "eeg_id", "spectrogram_id", "patient_id")}
ROWS = pl.DataFrame(IDS | dict(zip(VOTES, LOCAL_VOTES.T, strict=True)) | {"fold": FOLD})


def write_local(run, config, last, best):
    """A run whose first two folds are finished."""
    write_run(run, ROWS, experiment=config, finished=(0, 1), predictions=(last, best))


def kl(prediction, chosen=slice(None)):
    target = LOCAL_VOTES / LOCAL_VOTES.sum(axis=1, keepdims=True)
    return f"{rel_entr(target, prediction).sum(axis=1)[chosen].mean():.4f}"


def test_local_results_stand_beside_the_published(tmp_path):
    last, best, other = (rng.dirichlet(np.ones(6) * 4, 8) for _ in range(3))
    runs, config = tmp_path / "runs", CONFIGS["kaggle-two-stage-b0"]
    write_local(runs / config.name, config, last, best)
    mended = as_published(config)
    write_local(runs / mended.name, mended, last, best)
    sibling = CONFIGS["kaggle-global-two-stage-b0"]
    write_local(runs / sibling.name, sibling, other, best)
    truth = tmp_path / "truth.csv"
    floor = rng.dirichlet(np.ones(6) * 4, 8)
    pl.DataFrame({"label_id": np.arange(8)} | dict(zip(VOTES, floor.T, strict=True))).write_csv(truth)

    table = table_of(runs, truth)
    assert table[0] == HEADS + LOCAL_HEADS + FLOOR_HEADS
    n_votes = LOCAL_VOTES.sum(axis=1)
    many, last_stage = n_votes >= 10, [1, 2, 3, 6, 7]
    shares = LOCAL_VOTES / n_votes[:, None]
    prior = np.stack([shares[many & (fold != FOLD)].mean(axis=0) for fold in FOLD])
    found = {line[1]: line[len(HEADS) :] for line in table[1:]}

    def expected(epoch, prediction):
        beside = [kl(prediction), kl(prior), kl(prediction, many), kl(prior, many), kl(prediction, last_stage)]
        return ["2 of 5", epoch, *beside, kl(floor), kl(floor, many)]

    assert found[config.name] == expected("last", last)
    assert found[mended.name] == expected("best", best)
    assert found["kaggle-two-stage-pair"] == expected("last", (last + other) / 2)
    assert set(map(tuple, (found["kaggle-and-eeg-two-stage"], found["kaggle-b2"]))) == {("",) * 9}
    assert column(table, "CV", mended.name) == "0.4142*"


def test_members_scored_on_different_rows_are_not_mixed(tmp_path):
    predictions = rng.dirichlet(np.ones(6), (2, 8))
    for name in BLENDS["kaggle-pair"].models:
        write_local(tmp_path / name, CONFIGS[name], *predictions)
    (tmp_path / "kaggle-b2" / "fold1" / "oof.parquet").unlink()
    table = table_of(tmp_path, None)
    assert (
        column(table, "folds", "kaggle-pair") == "members' rows differ"
        and column(table, "folds", "kaggle-b2") == "1 of 5"
    )


def test_a_run_of_another_config_and_runs_of_no_config_are_told_apart(tmp_path):
    predictions = rng.dirichlet(np.ones(6), (2, 8))
    write_local(tmp_path / "kaggle-b2", CONFIGS["kaggle-plain-b2"], *predictions)
    write_local(tmp_path / "my-own", CONFIGS["kaggle-b2"], *predictions)
    table = table_of(tmp_path, None)
    assert column(table, "folds", "kaggle-b2") == "run of another config" and column(table, "KL", "kaggle-b2") == ""
    assert other_runs(tmp_path, table) == ["my-own"]
    for runs, truth, why in ((tmp_path / "no", None, "not there"), (None, tmp_path, "say with --runs where they are")):
        with pytest.raises(RunError, match=why):
            table_of(runs, truth)
