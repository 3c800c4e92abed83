"""Mistakes a user really makes, found out before they cost anything."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from sandbox_stage import SANDBOX, Stage, need_namespaces

from common.command_line import parse
from common.errors import KitError
from common.records import RecordingError
from infer.__main__ import app
from infer.validate import SubmissionError, score
from train.data.labels import label_rows
from train.data.windows import TrainingWindows
from train.engine.run import RunOptions, run_experiment, train_model
from train.engine.run_folder import RunError, read_run, read_table
from train.export import export


def build(*options):
    command = [sys.executable, "kernels/build.py", *map(str, options)]
    return subprocess.run(command, cwd=SANDBOX.parents[1], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("blend", "reason"),
    [
        ('{"models": {}}', "prior: Field required"),
        ('{"models": {"a": 0.5}, "prior": [1, 0, 0, 0, 0, 0]}', "weights must sum to 1, they sum to 0.5"),
    ],
)
def test_a_blend_the_kernel_would_refuse_is_not_built(tmp_path, blend, reason):
    (tmp_path / "blend.json").write_text(blend)
    done = build("--blend", tmp_path / "blend.json", "--out", tmp_path / "kernel")
    assert done.returncode == 1 and reason in done.stderr
    assert not (tmp_path / "kernel").exists() and "Traceback" not in done.stderr


def test_building_again_keeps_the_owner(tmp_path):
    assert build("--out", tmp_path).returncode == 0
    file = tmp_path / "kernel-metadata.json"
    file.write_text(file.read_text().replace("OWNER/", "somebody/"))
    assert build("--out", tmp_path, "--check").returncode == 0 and build("--out", tmp_path).returncode == 0
    assert json.loads(file.read_text())["id"] == "somebody/hms-inference"


def test_exporting_again_keeps_the_owner(road, tmp_path):
    file = export(road.runs[0], tmp_path) / "dataset-metadata.json"
    file.write_text(file.read_text().replace("OWNER/", "somebody/"))
    assert json.loads((export(road.runs[0], tmp_path) / file.name).read_text())["id"].startswith("somebody/hms-")


def test_a_submission_that_cannot_be_written_is_not_predicted(road, tmp_path):
    words = ["submit", "--competition", str(road.competition), "--weights", str(road.weights), "--out", str(tmp_path)]
    with pytest.raises(SubmissionError, match="it is no file"):
        parse(app, words)()


@pytest.mark.parametrize("vote", ["inf", "-3", ""])
def test_a_broken_solution_scores_nothing(tmp_path, vote):
    head = "eeg_id,seizure_vote,lpd_vote,gpd_vote,lrda_vote,grda_vote,other_vote"
    (tmp_path / "submission.csv").write_text(f"{head}\n1,0.5,0.5,0,0,0,0\n\n")
    (tmp_path / "solution.csv").write_text(f"{head}\n1,{vote},5,0,0,0,0\n")
    with pytest.raises(SubmissionError, match=r"solution\.csv has a row without votes, or a vote"):
        score(tmp_path / "submission.csv", tmp_path / "solution.csv")
    (tmp_path / "solution.csv").write_text(f"{head}\n1,5,5,0,0,0,0\n")
    assert score(tmp_path / "submission.csv", tmp_path / "solution.csv") == (pytest.approx(0), 1)


def test_a_window_outside_its_recording_is_refused(road):
    rows = label_rows(road.competition)[:2].with_columns(eeg_start=pl.Series([0, 10_000_000]))
    config = read_run(road.runs[1]).input
    assert TrainingWindows(road.competition, rows[:1], config).cut(np.array([0])).eeg.shape == (1, 20, 10_000)
    with pytest.raises(RecordingError, match=r"starts at 10000000, the recording has \d+: its offset in train\.csv"):
        TrainingWindows(road.competition, rows, config)


def test_damaged_files_of_a_run_are_named(road, tmp_path):
    run = shutil.copytree(road.runs[0], tmp_path / "run")
    (run / "oof.parquet").write_bytes(b"half")
    with pytest.raises(RunError, match=r"oof\.parquet: not a readable parquet"):
        read_table(run / "oof.parquet")
    (run / "config.json").write_text("{")
    with pytest.raises(KitError, match=r"config\.json is damaged"):
        read_run(run)


@pytest.mark.slow
def test_an_ended_sandbox_ends_its_kernel(tmp_path):
    need_namespaces()
    stage = Stage(tmp_path)
    (stage.kernel / "kernel.py").write_text("import time\nprint('started', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-u", str(SANDBOX), str(stage.kernel), "--competition", str(stage.competition)]
    command += ["--datasets", str(stage.dataset), "--out", str(stage.out)]
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"TMPDIR": str(tmp_path / "tmp")})
    while "started" not in process.stdout.readline():
        assert process.poll() is None
    assert list((tmp_path / "tmp").iterdir())
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert process.stdout.read() == ""  # the kernel held this pipe's other end: it is gone
    assert time.monotonic() - before < 30 and not list((tmp_path / "tmp").iterdir())


def test_an_export_without_a_checkpoint_writes_nothing(road, tmp_path):
    run = shutil.copytree(road.runs[0], tmp_path / "run")
    (run / "fold1" / "last.safetensors").unlink()
    with pytest.raises(RunError, match=r"fold1/last\.safetensors missing"):
        export(run, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_a_finished_fold_can_be_blended_though_the_next_one_fails(road, tmp_path, monkeypatch):
    def fail_in_fold_1(experiment, data, rows, run, member, *rest):
        if member.held_out == (1,):
            raise KeyboardInterrupt
        return train_model(experiment, data, rows, run, member, *rest)

    monkeypatch.setattr("train.engine.run.train_model", fail_in_fold_1)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(read_run(road.runs[1]), road.competition, tmp_path, RunOptions())
    table = read_table(tmp_path / road.runs[1].name / "oof.parquet")
    assert table["fold"].unique().to_list() == [0]
