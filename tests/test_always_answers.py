"""The hidden run: an answer is on disk before anything can fail, whatever fails is said, and the end is exit code 0."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import polars as pl
import pytest
from conftest import PROJECT

import infer.kernel
import infer.run
import infer.samples
import infer.submit
from common.blend import combine
from common.schema import SUBMISSION_COLUMNS, VOTES
from infer.ensemble import Ensemble
from infer.report import SubmissionReport
from infer.samples import read_sample
from infer.submit import submit
from infer.validate import CompetitionError, read_csv, validate

SLUG = infer.kernel.COMPETITION


@pytest.fixture
def kaggle(road, tmp_path):
    """A tree as Kaggle mounts it; a dataset in each of the two layouts."""
    inputs = tmp_path / "kaggle" / "input"
    for place, target in (
        (SLUG, road.competition),
        ("hms-tiny-image", road.datasets[0]),
        ("datasets/owner/hms-tiny-wave", road.datasets[1]),
    ):
        (inputs / place).parent.mkdir(parents=True, exist_ok=True)
        (inputs / place).symlink_to(target)
    (tmp_path / "kaggle" / "working").mkdir()
    return tmp_path / "kaggle"


@pytest.fixture
def hidden(monkeypatch):
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")


def votes(path):
    return pl.read_csv(path).select(VOTES).to_numpy()


def report_of(kaggle):
    return json.loads((kaggle / "working" / "report.json").read_text())


def test_datasets_of_both_layouts_are_found_at_once(road, kaggle, tmp_path, capsys):
    infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    submit(road.competition, road.datasets, road.blend, tmp_path / "out.csv")
    assert (kaggle / "working" / "submission.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()
    assert "submission.csv is right: 9 rows" in capsys.readouterr().out
    assert report_of(kaggle)["failure"] is None


def test_the_prior_is_there_before_the_first_model_runs_and_answers_replace_it(road, tmp_path, monkeypatch):
    monkeypatch.setattr(infer.run, "BATCH_SIZE", 2)
    out, seen, real = tmp_path / "out.csv", [], Ensemble.answer

    def answer(*given):
        assert validate(out, road.competition) == 9
        seen.append(votes(out))
        return real(*given)

    monkeypatch.setattr(Ensemble, "answer", answer)
    submit(road.competition, road.datasets, road.blend, out, early=True)
    assert len(seen) == 5
    for turn, done in enumerate([0, 1, 3, 5, 7]):
        np.testing.assert_allclose(seen[turn][done:], np.tile(road.blend.prior, (9 - done, 1)), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(seen[turn][:done], votes(out)[:done])
    assert np.abs(votes(out) - road.blend.prior).max(axis=1).min() > 1e-6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv"]


def test_the_command_writes_nothing_before_the_end(road, tmp_path, monkeypatch):
    monkeypatch.setattr(Ensemble, "answer", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        submit(road.competition, road.datasets, road.blend, tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


FAILURES = {
    "while loading": ("infer.submit", "load_models"),
    "while predicting": ("infer.run", "combine"),
    "while validating": ("infer.kernel", "validate"),
    "while looking for devices": ("infer.submit", "find_devices"),
}


@pytest.mark.parametrize("where", FAILURES)
def test_whatever_fails_in_the_hidden_run_the_answer_stands(road, kaggle, hidden, monkeypatch, capsys, where):
    def fail(*_):
        raise RuntimeError("nobody thought of this")

    module, name = FAILURES[where]
    monkeypatch.setattr(sys.modules[module], name, fail)
    infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    assert validate(kaggle / "working" / "submission.csv", road.competition) == 9
    assert report_of(kaggle)["failure"] == "RuntimeError: nobody thought of this"
    said = capsys.readouterr()
    assert "FAILED: RuntimeError: nobody thought of this; what was answered" in said.out
    assert "Traceback" in said.err and name in said.err
    monkeypatch.delenv("KAGGLE_IS_COMPETITION_RERUN")
    with pytest.raises(RuntimeError, match="nobody thought"):  # in public it costs nothing to stop
        infer.kernel.run_kernel(kaggle, road.blend_file.read_text())


def test_a_failure_after_some_answers_keeps_them(road, kaggle, hidden, monkeypatch):
    monkeypatch.setattr(infer.run, "BATCH_SIZE", 2)
    calls = []

    def fail_later(*given):
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("late")
        return combine(*given)

    monkeypatch.setattr(infer.run, "combine", fail_later)
    infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    prior = np.isclose(votes(kaggle / "working" / "submission.csv"), road.blend.prior, rtol=0, atol=1e-12).all(axis=1)
    assert prior.tolist() == [False] * 5 + [True] * 4


HANGING = """
import sys, time
from pathlib import Path
import infer.kernel, infer.run
infer.kernel.GRACE = 1.0 / 3600
infer.run.combine = lambda *given: time.sleep(600)
infer.kernel.run_kernel(Path(sys.argv[1]), Path(sys.argv[2]).read_text())
print("not reached")
"""


def test_a_run_that_hangs_is_ended_with_exit_code_0(road, kaggle, tmp_path):
    blend = tmp_path / "blend.json"
    blend.write_text(road.blend.model_copy(update={"hours": 6 / 3600}).model_dump_json(exclude_none=True))
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(kaggle), str(blend)],
        cwd=PROJECT,
        env=os.environ | {"KAGGLE_IS_COMPETITION_RERUN": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "FAILED: still not done after" in done.stdout and "not reached" not in done.stdout
    assert validate(kaggle / "working" / "submission.csv", road.competition) == 9
    assert report_of(kaggle)["failure"].startswith("still not done after")


# ---- recordings that hang


def hanging_eeg(competition):
    """The second EEG of the test set is a pipe that nobody writes into."""
    eeg_id = pl.read_csv(competition / "test.csv")["eeg_id"][1]
    path = competition / "test_eegs" / f"{eeg_id}.parquet"
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    return eeg_id, path, content


def test_a_read_that_hangs_costs_its_recording_only(road, competition, tmp_path):
    eeg_id, _, _ = hanging_eeg(competition)
    blend = road.blend.model_copy(update={"read_seconds": 0.3})
    report = submit(competition, road.datasets, blend, tmp_path / "out.csv")
    why = f"EEG {eeg_id}.parquet: not read within 0.3 s"
    assert report.fallbacks == [{"eeg_id": str(eeg_id), "answer": "blend without tiny-wave", "why": why}]
    assert report.warnings == ["1 EEGs were not read in time and are read once more"]
    submit(road.competition, road.datasets, road.blend, tmp_path / "clean.csv")
    clean, found = votes(tmp_path / "clean.csv"), votes(tmp_path / "out.csv")
    np.testing.assert_array_equal(np.delete(found, 1, axis=0), np.delete(clean, 1, axis=0))
    assert np.abs(found[1] - clean[1]).max() > 1e-6


def test_a_read_that_hangs_only_once_costs_nothing(road, competition, tmp_path):
    """As when a mounted disk stalls: the recording is there when all others are done."""
    _, path, content = hanging_eeg(competition)
    real, given_up = infer.run.Run.go_through, []

    def go_through(self, ids, *rest):
        if self.waiting:
            given_up.extend(self.waiting)
            path.unlink()
            path.write_bytes(content)
        real(self, ids, *rest)

    infer.run.Run.go_through = go_through
    try:
        blend = road.blend.model_copy(update={"read_seconds": 0.3})
        report = submit(competition, road.datasets, blend, tmp_path / "out.csv")
    finally:
        infer.run.Run.go_through = real
    submit(road.competition, road.datasets, road.blend, tmp_path / "clean.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "clean.csv").read_bytes()
    assert len(given_up) == 1 and report.fallbacks == []


def test_a_reader_that_fails_in_an_unforeseen_way_costs_its_recording_only(road, monkeypatch):
    eeg_id = pl.read_csv(road.competition / "test.csv")["eeg_id"][0]
    monkeypatch.setattr(infer.samples, "read_eeg", lambda path: 1 // 0)
    sample = read_sample(road.competition, eeg_id, 0, False)
    assert sample.eeg is None
    assert sample.unreadable == (f"EEG {eeg_id}.parquet: ZeroDivisionError: integer division or modulo by zero",)


def test_a_thread_that_waits_for_a_recording_does_not_hold_the_program(road, competition, tmp_path):
    hanging_eeg(competition)
    submit(competition, road.datasets, road.blend.model_copy(update={"read_seconds": 0.3}), tmp_path / "out.csv")
    assert all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())


# ---- the test table


def damage(competition):
    frame = pl.read_csv(competition / "test.csv").select("eeg_id")
    shares = {vote: pl.lit(1 / 6) for vote in VOTES}
    frame.with_columns(**shares).select(SUBMISSION_COLUMNS).write_csv(competition / "sample_submission.csv")
    (competition / "test.csv").write_text("eeg,spectrogram\n1,2\n")


def test_without_a_test_table_the_sample_submission_says_what_to_answer(road, competition, tmp_path):
    damage(competition)
    out = tmp_path / "out.csv"
    with pytest.raises(CompetitionError, match="no column spectrogram_id"):
        submit(competition, road.datasets, road.blend, out)
    report = submit(competition, road.datasets, road.blend, out, forgiving=True)
    assert read_csv(out)["eeg_id"].to_list() == read_csv(competition / "sample_submission.csv")["eeg_id"].to_list()
    assert "the ids of sample_submission.csv are answered" in report.warnings[0]
    assert len(report.rebuilt_spectrograms) == 9 and report.fallbacks == []
    assert votes(out).std(axis=0).max() > 0.003


def test_the_kernel_ends_well_even_without_the_competition(road, kaggle, hidden, capsys):
    (kaggle / "input" / SLUG).unlink()
    infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    assert "FAILED: MountError: no sample_submission.csv below" in capsys.readouterr().out


# ---- predictions against the training prior


def test_a_shift_of_the_class_means_is_a_warning():
    prior = (0.05, 0.18, 0.20, 0.13, 0.12, 0.32)
    rng = np.random.default_rng(0)
    like_training = rng.dirichlet(np.array(prior) * 3, size=400)
    report = SubmissionReport()
    report.note_answers(like_training, prior)
    assert report.warnings == [] and report.class_means["other"] == pytest.approx(0.32, abs=0.05)
    shifted = like_training.copy()
    shifted[:, [0, 5]] = shifted[:, [5, 0]]  # seizures everywhere
    report.note_answers(shifted, prior)
    assert len(report.warnings) == 1
    assert "seizure 0.3" in report.warnings[0] and "instead of 0.05" in report.warnings[0]
    assert "other 0.05 instead of 0.32" in report.warnings[0]
    assert "lpd" not in report.warnings[0]
    assert "class means (training prior): seizure 0.3" in "\n".join(report.lines())


def test_few_eegs_are_not_compared_with_the_prior():
    report = SubmissionReport()
    report.note_answers(np.tile([1.0, 0, 0, 0, 0, 0], (5, 1)), (0.05, 0.18, 0.20, 0.13, 0.12, 0.32))
    assert report.warnings == [] and report.class_means["seizure"] == 1.0
