"""Pseudo labels, on whole trainings: votes held out change neither them nor a weight by a bit."""

import json
import shlex
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from store_stage import HEAD
from training_stage import interrupted, same_weights, small, stage, write_config

from common.schema import VOTES
from train import __main__ as verbs
from train.data.labels import label_rows
from train.engine import loop
from train.engine.pseudo_labels import RunError, plan_pseudo
from train.engine.run import RunOptions, run_experiment
from train.engine.run_folder import probability_columns
from train.simulate.recording_files import write_eeg

LEARNING = {"epochs": 2, "batch_size": 4, "learning_rate": 4e-3, "augment": {"mirror": 0.5}}
SOURCE = small(name="source", folds=3, stages=[LEARNING])
STUDENT = small(name="student", folds=3, stages=[LEARNING | {"pseudo": 1.0}])


def write_competition(folder, other_votes=()):
    """Six patients, each with an EEG of noise, one row of few and one of many votes; both cast at random.

    Those in `other_votes` are cast anew; all else is the same.
    """
    noise, votes, again = (np.random.default_rng(seed) for seed in (5, 6, 7))
    (folder / "train_eegs").mkdir(parents=True)
    lines = []
    for k in range(6):
        signal = noise.normal(0, 30, (10_800, 20)).astype(np.float32)
        write_eeg(folder / f"train_eegs/{k}.parquet", signal.T)
        for i, n_votes in enumerate((4, 12)):
            first, second = votes.multinomial(n_votes, [1 / 6] * 6), again.multinomial(n_votes, [1 / 6] * 6)
            cast = ",".join(map(str, second if k in other_votes else first))
            consensus = "Seizure" if k % 2 else "Other"
            lines.append(f"{k},{2 * i},{k},{2 * i},{10 * k + i},{k},{consensus},{cast}")
    (folder / "train.csv").write_text("\n".join([HEAD, *lines]) + "\n")
    return folder


def train_both(folder, other_votes=()):
    """A competition, the models that teach, and the student's models of fold 0 and of all rows."""
    competition = write_competition(folder / "competition", other_votes)
    source = run_experiment(SOURCE, competition, folder, RunOptions(folds="all,pairs"))
    student = run_experiment(STUDENT, competition, folder, RunOptions(folds="0,full", pseudo=source))
    return SimpleNamespace(competition=competition, source=source, student=student)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_both(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def retrained(tmp_path_factory, trained):
    """The same with other votes of the patients in fold 0."""
    folds = pl.read_csv(trained.source / "folds.csv")
    return train_both(tmp_path_factory.mktemp("retrained"), folds.filter(fold=0)["patient_id"].to_list())


def arrays(case, held_out):
    rows = pl.read_parquet(case.source / "rows.parquet")
    return plan_pseudo(case.source, case.source / "none", STUDENT, rows, [held_out])[held_out].probabilities


def naive(case):
    """Out-of-fold predictions of the ordinary models, as pseudo labels are usually made."""
    return pl.read_parquet(case.source / "oof.parquet").sort("label_id").drop("eeg_id", "spectrogram_id")


@pytest.mark.slow
def test_votes_held_out_change_no_pseudo_label_by_a_bit(trained, retrained):
    fold = pl.read_parquet(trained.source / "rows.parquet")["fold"].to_numpy()
    before, after = arrays(trained, (0,)), arrays(retrained, (0,))
    few = np.isfinite(before).all(axis=1)
    assert few.sum() == 4 and not few[fold == 0].any()
    assert before.tobytes() == after.tobytes()
    for held_out in ((1,), (2,), ()):  # those votes do matter where they may
        assert arrays(trained, held_out).tobytes() != arrays(retrained, held_out).tobytes()
    usual = [naive(case).filter(pl.col("fold") != 0) for case in (trained, retrained)]
    assert usual[0].select("label_id", *VOTES).equals(usual[1].select("label_id", *VOTES))
    assert (usual[0]["seizure"] != usual[1]["seizure"]).all()  # the usual ones would have leaked


@pytest.mark.slow
def test_votes_held_out_change_no_weight_by_a_bit(trained, retrained):
    fold, full = "fold0/last.safetensors", "full/last.safetensors"
    assert same_weights(trained.student / fold, retrained.student / fold)
    assert not same_weights(trained.student / fold, trained.source / fold)  # pseudo labels do matter
    assert not same_weights(trained.student / full, retrained.student / full)  # and so do those votes, elsewhere


def test_what_was_used_is_written_down(trained):
    known = json.loads((trained.student / "fold0/fold.json").read_text())["pseudo"]
    assert known.pop("sha256") and known == {"run": "source", "models": ["fold0and1", "fold0and2"], "rows": 4}
    known = json.loads((trained.student / "full/fold.json").read_text())["pseudo"]
    assert known["models"] == ["fold0", "fold1", "fold2"] and known["rows"] == 6
    assert json.loads((trained.source / "fold0/fold.json").read_text())["pseudo"] is None


def test_training_sees_the_last_epochs_predictions(trained, tmp_path, monkeypatch):
    """With a share of 1 the targets of the rows with few votes are what the pairs' models said, else the votes."""
    seen, targets_of = {}, loop.targets_of

    def watched(data, rows, stage, device):
        target, n_votes = targets_of(data, rows, stage, device)
        seen.update(zip(rows.tolist(), target.tolist(), strict=True))
        return target, n_votes

    monkeypatch.setattr(loop, "targets_of", watched)
    run_experiment(STUDENT, trained.competition, tmp_path, RunOptions(folds="0", pseudo=trained.source))
    rows = label_rows(trained.competition).join(pl.read_csv(trained.source / "folds.csv"), on="patient_id")
    assert sorted(seen) == [k for k, fold in enumerate(rows["fold"]) if fold]
    for k, target in seen.items():
        row = rows.row(k, named=True)
        expected = np.array([row[name] for name in VOTES]) / row["total_votes"]
        if row["total_votes"] < 10:
            oof = pl.read_parquet(trained.source / f"fold0and{row['fold']}/oof.parquet")
            (expected,) = oof.filter(label_id=row["label_id"]).select(probability_columns("last")).rows()
        np.testing.assert_allclose(target, expected, atol=1e-7)


# ---- runs that go on, and the command


def other_source(source, folder):
    """The same run, one of its models trained again and a little different."""
    shutil.copytree(source, folder)
    path = folder / "fold0and2/oof.parquet"
    table, (first, second, *_) = pl.read_parquet(path), probability_columns("last")
    table.with_columns(pl.col(first) * (1 - 1e-9), pl.col(second) + pl.col(first) * 1e-9).write_parquet(path)
    return folder


def test_a_run_goes_on_with_the_same_pseudo_labels_only(trained, tmp_path):
    changed = other_source(trained.source, tmp_path / "changed/source")
    with interrupted():
        run_experiment(STUDENT, trained.competition, tmp_path, RunOptions(folds="0", pseudo=trained.source))
    assert (tmp_path / "student/fold0/state.pt").exists()
    refused = r"student/fold0 was trained with pseudo labels of run source \(fold0and1, fold0and2\)"
    for folds in ("0", "1"):  # the models of one run share their pseudo labels' source
        with pytest.raises(RunError, match=refused):
            options = RunOptions(folds=folds, pseudo=changed, resume=True)
            run_experiment(STUDENT, trained.competition, tmp_path, options)
    assert not (tmp_path / "student/fold1").exists()
    same = shutil.copytree(trained.source, tmp_path / "elsewhere/source")
    run_experiment(STUDENT, trained.competition, tmp_path, RunOptions(folds="0", pseudo=same, resume=True))
    assert same_weights(tmp_path / "student/fold0/last.safetensors", trained.student / "fold0/last.safetensors")


@pytest.mark.slow
def test_the_command_names_the_command_that_is_missing(trained, tmp_path, monkeypatch, capsys):
    def say(*words):
        monkeypatch.setattr(sys, "argv", ["train", *map(str, words)])
        code = verbs.main()
        return code, capsys.readouterr().err

    source = write_config(small(name="source", folds=3, stages=[stage()]), tmp_path)
    config = write_config(small(name="student", folds=3, stages=[stage(pseudo=0.5)]), tmp_path)
    places = ("--competition", trained.competition, "--out", tmp_path / "runs")
    student = ("run", config, *places, "--folds", "2,full")
    assert say("run", source, *places)[0] == 0
    code, error = say(*student, "--pseudo", tmp_path / "runs/source")
    assert code == 1 and "fold2: no pseudo labels for 4 rows" in error and not (tmp_path / "runs/student").exists()
    missing = shlex.split(error[error.index("python -m train") :].replace("DIR", str(trained.competition)))[3:]
    missing[1] = source
    assert say(*missing)[0] == 0
    code, error = say(*student, "--pseudo", tmp_path / "runs/source")
    assert code == 0, error
    assert json.loads((tmp_path / "runs/student/fold2/fold.json").read_text())["pseudo"]["rows"] == 4
    code, error = say(*student[:-2], "--folds", "pairs", "--resume", "--pseudo", tmp_path / "runs/source")
    assert code == 1 and "leave 'pairs' out of --folds" in error
    code, error = say(*student, "--resume")
    assert code == 1 and "--pseudo RUN says whose" in error
    code, error = say("run", source, *places, "--resume", "--pseudo", tmp_path / "runs/source")
    assert code == 1 and "no stage of this config has a share of them" in error
