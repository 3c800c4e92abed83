"""`make experiments-small`: its configs, its claims, its processes."""

import re
from pathlib import Path

import numpy as np
import pytest
from run_samples import make_rows, write_run

from train.engine.run import merge_folds
from train.engine.run_folder import read_run
from train.experiment import load_experiment

ROOT = Path(__file__).resolve().parents[2]

import small_experiments as small  # noqa: E402


def test_configs_differ_from_the_baseline_in_what_their_name_says():
    experiments = {path.stem: load_experiment(path) for path in small.CONFIGS}
    base = experiments.pop("small-baseline")
    same = {"small-vote-log": "input model", "small-two-stage": "input model", "small-vit": "input"}
    same |= dict.fromkeys(("small-global", "small-percentiles", "small-eeg-mel", "small-raw-image"), "model training")
    for name, experiment in experiments.items():
        for part in same.get(name, "").split():
            assert getattr(experiment, part) == getattr(base, part), f"{name}: {part}"
        assert experiment.training.folds == base.training.folds == 2
    assert [stage.loss for stage in experiments["small-vote-log"].training.stages] == ["vote-log"]


def test_claims_are_of_these_experiments_and_on_the_page():
    page = (ROOT / "docs" / "experiments-small.md").read_text(encoding="utf-8")
    for claim in small.CLAIMS:
        assert {claim.better, claim.than} <= {*small.NAMES, small.BLEND, "best"} and claim.better != claim.than
        assert f"| {claim.text} |" in page
    assert set(re.findall(r"\| (small-[a-z-]+):", page)) == set(small.NAMES)


def test_claims_are_compared_by_paired_differences(tmp_path):
    rows = make_rows(n_patients=30, folds=2)
    for number, name in enumerate(small.NAMES):
        run = write_run(tmp_path / "runs" / name, rows, seed=number, folds=2)
        merge_folds(run, read_run(run))
    kl, patient = small.losses(tmp_path)
    many = rows.select("^.*_vote$").sum_horizontal() >= 10
    assert set(kl) == {*small.NAMES, "blend"} and all(len(values) == many.sum() for values in kl.values())
    assert kl["blend"].mean() < min(kl[name].mean() for name in small.NAMES)  # of nine random ones, the mean is best
    assert sorted(np.unique(patient)) == sorted(rows.filter(many)["patient_id"].unique())
    for claim, compared in zip(small.CLAIMS, small.compare(tmp_path), strict=True):
        best = min(small.NAMES, key=lambda name: kl[name].mean())
        difference = (kl[claim.better] - kl[best if claim.than == "best" else claim.than]).mean()
        assert compared["difference"] == pytest.approx(difference)
        assert compared["low"] < difference < compared["high"]
        below, above = compared["high"] < 0, compared["low"] > 0
        assert compared["says"] == ("shows" if below else "the opposite shows" if above else "not told apart")
    assert small.compare(tmp_path)[-1]["says"] == "shows"


# Leaves a file, and waits for those of the others.
MEET = """
import pathlib, sys, time
folder, own, number = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
(folder / own).touch()
while len(list(folder.iterdir())) < number:
    time.sleep(0.05)
print("met")
"""


def test_commands_run_side_by_side_and_none_begins_after_a_failure(tmp_path, capsys):
    (tmp_path / "here").mkdir()
    small.run_together({k: ("-c", MEET, tmp_path / "here", k, "3") for k in "abc"}, tmp_path / "logs", 3)
    assert (tmp_path / "logs/c.log").read_text() == "met\n"
    commands = dict.fromkeys(("bad", "never", "neither"), ("-c", "raise SystemExit('no such thing')"))
    with pytest.raises(SystemExit, match=r"bad ended with exit code 1(?s:.*)no such thing"):
        small.run_together(commands, tmp_path / "logs", 1)
    assert "bad: begins" in capsys.readouterr().out and not (tmp_path / "logs/neither.log").exists()
