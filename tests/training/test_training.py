"""A whole small training: its schedule, its resumption, its scores."""

from unittest import mock

import numpy as np
import polars as pl
import pytest
from training_stage import EPOCHS, assert_same_run, interrupted, same_weights, small, write_competition

from common.schema import PATTERNS, VOTES
from train.data.labels import label_rows
from train.data.store_build import StoreError
from train.data.windows import TrainingWindows
from train.engine.plan import parse_folds
from train.engine.run import RunOptions, run_experiment
from train.engine.run_folder import RunError


@pytest.fixture(scope="module")
def run(noise, tmp_path_factory):
    return run_experiment(small(), noise, tmp_path_factory.mktemp("runs"), RunOptions())


def test_out_of_fold_table_is_whole(run, noise):
    oof, rows = pl.read_parquet(run / "oof.parquet"), label_rows(noise)
    assert {"label_id", "eeg_id", "fold", *VOTES, *PATTERNS} <= set(oof.columns)
    assert sorted(oof["label_id"]) == sorted(rows["label_id"]) and oof.height == 16
    np.testing.assert_allclose(oof.select(PATTERNS).to_numpy().sum(axis=1), 1, atol=1e-12)
    assert oof.group_by("patient_id").agg(pl.col("fold").n_unique())["fold"].max() == 1
    assert oof.join(rows, on=["label_id", "eeg_id", *VOTES]).height == 16
    last = pl.read_parquet(run / "fold1/oof.parquet").select(f"{p}_last" for p in PATTERNS)
    assert last.rows() == oof.filter(fold=1).select(PATTERNS).rows() and not (run / "fold0/state.pt").exists()


def test_a_run_is_not_overwritten_nor_continued_as_another(run, noise):
    before = (run / "oof.parquet").read_bytes()
    with pytest.raises(RunError, match="exists: --resume continues it"):
        run_experiment(small(), noise, run.parent, RunOptions())
    with pytest.raises(RunError, match="must be the same experiment"):
        run_experiment(small(seed=7), noise, run.parent, RunOptions(resume=True))
    assert (run / "oof.parquet").read_bytes() == before


def test_a_run_is_not_continued_on_other_labels(run, noise, tmp_path):
    other = write_competition(tmp_path / "other")
    table = (other / "train.csv").read_text()
    (other / "train.csv").write_text(table.replace("Other,0,0,1,0,1,12", "Other,0,0,1,0,1,13"))
    with pytest.raises(RunError, match="made on other data"):
        run_experiment(small(), other, run.parent, RunOptions(resume=True))


def test_training_interrupted_again_and_again_ends_the_same(run, noise, tmp_path):
    for resume in (False, True, True):  # eight steps
        with interrupted(2):
            run_experiment(small(), noise, tmp_path, RunOptions(folds="0", resume=resume))
        assert len(list(tmp_path.glob("*/fold0/state.pt"))) == 1
    again = run_experiment(small(), noise, tmp_path, RunOptions(folds="0", resume=True))
    assert_same_run(again / "fold0", run / "fold0")
    assert not same_weights(run / "fold0/last.safetensors", run / "fold1/last.safetensors")


def test_only_training_windows_are_shifted_and_each_epoch_anew(noise, tmp_path, monkeypatch):
    batches = mock.Mock(side_effect=TrainingWindows.batches)
    monkeypatch.setattr(TrainingWindows, "batches", lambda *given: batches(*given))
    run_experiment(small(), noise, tmp_path, RunOptions(folds="0"))
    given = [(*call.args, None)[4] for call in batches.call_args_list]
    assert [shifts is not None for shifts in given] == [True, False] * EPOCHS + [False, False] + [False] * 2
    first, second = given[0], given[2]
    assert first.shape == (8,) and 0 < np.abs(first).max() <= 2 and not np.array_equal(first, second)


def test_missing_recording_is_named_before_training(tmp_path):
    incomplete = write_competition(tmp_path / "incomplete", without=3)
    with pytest.raises(StoreError, match=r"1 of 8 recordings of train\.csv are not there, first 3\.parquet"):
        run_experiment(small(), incomplete, tmp_path / "runs", RunOptions())
    assert not (tmp_path / "runs").exists()


def test_fold_choices():
    assert parse_folds("all", 3) == [(0,), (1,), (2,)] and parse_folds("2,0, 2", 3) == [(0,), (2,)]
    assert parse_folds("full,1", 3) == [(1,), ()] and parse_folds("pairs", 3) == [(0, 1), (0, 2), (1, 2)]
    for text in ("3", "-1", "", "0,,1", "x"):
        with pytest.raises(RunError, match="numbers from 0 to 2"):
            parse_folds(text, 3)
