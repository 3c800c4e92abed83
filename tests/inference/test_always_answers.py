"""The hidden run: an answer is on disk before anything can fail, whatever fails is said, and the end is exit code 0."""

import hashlib
import importlib
import json
import os
import sys

import numpy as np
import polars as pl
import pytest
import torch
from conftest import PROJECT, command, report_of, votes

import common.weights
import infer.ensemble
import infer.kernel
import infer.runner
import infer.submit
from common.blend import combine
from common.weights import WeightsError
from infer.ensemble import Ensemble
from infer.recordings import read_row
from infer.report import SubmissionReport
from infer.submit import submit
from infer.validate import validate


def ids(road):
    return pl.read_csv(road.competition / "test.csv")["eeg_id"].to_list()


def test_datasets_of_both_layouts_are_found_at_once(road, plain, kaggle, capsys):
    infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    assert (kaggle / "working" / "submission.csv").read_bytes() == plain[0].read_bytes()
    assert "submission.csv is right: 9 rows" in capsys.readouterr().out
    assert report_of(kaggle)["failure"] is None


def test_the_prior_is_there_before_the_first_model_runs_and_answers_replace_it(road, tmp_path, monkeypatch):
    monkeypatch.setattr(infer.runner, "BATCH_SIZE", 2)
    out, seen, real = tmp_path / "out.csv", [], Ensemble.predict_batch

    def predict_batch(*given):
        assert validate(out, road.competition) == 9
        seen.append(votes(out))
        return real(*given)

    monkeypatch.setattr(Ensemble, "predict_batch", predict_batch)
    submit(road.competition, road.datasets, road.blend, out, early=True)
    assert len(seen) == 5
    for turn, done in enumerate([0, 1, 3, 5, 7]):
        np.testing.assert_allclose(seen[turn][done:], np.tile(road.blend.prior, (9 - done, 1)), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(seen[turn][:done], votes(out)[:done])
    assert np.abs(votes(out) - road.blend.prior).max(axis=1).min() > 1e-6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv"]


def test_the_command_writes_nothing_before_the_end(road, tmp_path, monkeypatch):
    monkeypatch.setattr(Ensemble, "predict_batch", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        submit(road.competition, road.datasets, road.blend, tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


FAILURES = {
    "while loading": ("infer.submit", "load_models"),
    "while predicting": ("infer.runner", "combine"),
    "while validating": ("infer.kernel", "validate"),
    "while looking for devices": ("infer.submit", "find_devices"),
}


@pytest.mark.parametrize("where", FAILURES)
def test_whatever_fails_in_the_hidden_run_the_answer_stands(road, kaggle, hidden, monkeypatch, capsys, where):
    class PanicError(BaseException):
        """As polars has it: no Exception."""

    predicting, calls = where == "while predicting", []
    error = PanicError if predicting else RuntimeError

    def fail(*given):
        calls.append(given)
        if predicting and len(calls) <= 3:
            return combine(*given)
        raise error("nobody thought of this")

    monkeypatch.setattr(infer.runner, "BATCH_SIZE", 2)
    module, name = FAILURES[where]
    monkeypatch.setattr(sys.modules[module], name, fail)
    infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    assert validate(kaggle / "working" / "submission.csv", road.competition) == 9
    assert report_of(kaggle)["failure"] == f"{error.__name__}: nobody thought of this"
    if predicting:  # the answers until then stay
        found = votes(kaggle / "working" / "submission.csv")
        prior = np.isclose(found, road.blend.prior, rtol=0, atol=1e-12).all(axis=1)
        assert prior.tolist() == [False] * 5 + [True] * 4
    said = capsys.readouterr()
    assert f"FAILED: {error.__name__}: nobody thought of this; what was answered" in said.out
    assert "Traceback" in said.err and name in said.err
    if where == "while loading":
        monkeypatch.delenv("KAGGLE_IS_COMPETITION_RERUN")
        with pytest.raises(RuntimeError, match="nobody thought"):  # in public it costs nothing to stop
            infer.kernel.run_kernel(kaggle, road.blend_file.read_text())


def test_a_damaged_fold_stops_the_public_run_and_is_left_out_of_the_hidden_one(road, kaggle, weights, monkeypatch):
    damaged = weights / "hms-tiny-wave" / "fold1.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    mount = kaggle / "input" / "datasets" / "owner" / "hms-tiny-wave"
    mount.unlink()
    mount.symlink_to(damaged.parent)
    with pytest.raises(WeightsError, match=r"hms-tiny-wave/fold1\.safetensors"):
        infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    assert list((kaggle / "working").iterdir()) == []
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    assert validate(kaggle / "working" / "submission.csv", road.competition) == 9
    report = report_of(kaggle)
    assert [fold.split(" ")[0] for fold in report["dropped"]] == ["hms-tiny-wave/fold1.safetensors"]
    assert report["failure"] is None and report["models"]["tiny-wave"] == {"weight": 0.4, "nets": 1}


@pytest.mark.parametrize("written", [True, False])
def test_a_run_that_hangs_is_ended_with_exit_code_0(road, kaggle, hidden, monkeypatch, capsys, written):
    """The time is over while the first batch is blended."""
    timers, exits = [], []

    class Timer:
        def __init__(self, seconds, end):
            self.seconds, self.end = seconds, end
            timers.append(self)

        def start(self):
            pass

        cancel = start

    def ended(code):
        exits.append((code, report_of(kaggle)["failure"] if written else None, capsys.readouterr().out))

    monkeypatch.setattr(infer.kernel.threading, "Timer", Timer)
    monkeypatch.setattr(os, "_exit", ended)
    if not written:
        monkeypatch.setattr(infer.kernel, "write_report", lambda *given: 1 / 0)
    monkeypatch.setattr(infer.runner, "combine", lambda *given: timers[0].end() or 1 / 0)
    infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    why = f"still not done after {road.blend.hours + infer.kernel.GRACE:.3g} h, ended"
    ((code, failure, said),) = exits
    assert timers[0].seconds == (road.blend.hours + infer.kernel.GRACE) * 3600 < 9 * 3600 and timers[0].daemon
    assert code == 0 and failure == (why if written else None) and f"FAILED: {why}" in said
    assert validate(kaggle / "working" / "submission.csv", road.competition) == 9


@pytest.mark.parametrize("unwritable", [False, True])
def test_a_report_that_cannot_be_written_ends_nothing(road, kaggle, hidden, unwritable, monkeypatch):
    if unwritable:
        (kaggle / "working" / "report.json").mkdir()
    else:
        monkeypatch.setattr(SubmissionReport, "lines", lambda self: 1 // 0)
    infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    assert validate(kaggle / "working" / "submission.csv", road.competition) == 9


READER_THAT_HANGS = """
import threading
def run_kernel(root, blend):
    threading.Thread(target=threading.Event().wait).start()
    print("answered")
BLEND = ""
"""


def test_the_kernel_does_not_wait_for_readers_at_its_end():
    sys.path.insert(0, str(PROJECT / "kernels"))
    done = command("-c", READER_THAT_HANGS + importlib.import_module("build").RUN)
    assert (done.returncode, done.stdout) == (0, "answered\n")


def test_a_model_of_an_unknown_backbone_is_out_alone(road, weights, tmp_path):
    """Its checksums are right: what made it had another timm."""
    image = weights / "hms-tiny-image"
    config = (image / "config.json").read_text().replace("test_convnext", "convnext_of_tomorrow")
    (image / "config.json").write_text(config)
    manifest = json.loads((image / "manifest.json").read_text())
    manifest["config_sha256"] = hashlib.sha256(config.encode()).hexdigest()
    (image / "manifest.json").write_text(json.dumps(manifest))
    report = submit(road.competition, sorted(weights.iterdir()), road.blend, tmp_path / "out.csv", forgiving=True)
    assert list(report.models) == ["tiny-wave"] and "convnext_of_tomorrow" in report.dropped[0]
    assert not any(entry["answer"] == "prior" for entry in report.fallbacks)


def test_a_disk_error_in_one_fold_costs_that_fold(road, tmp_path, monkeypatch):
    real = common.weights.sha256_of

    def failing(path):
        if path.name == "fold1.safetensors" and "wave" in str(path):
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(common.weights, "sha256_of", failing)
    report = submit(road.competition, road.datasets, road.blend, tmp_path / "out.csv", forgiving=True)
    assert report.models["tiny-wave"]["nets"] == 1 and report.models["tiny-image"]["nets"] == 2
    assert report.dropped == ["hms-tiny-wave/fold1.safetensors: OSError: [Errno 5] Input/output error"]


def test_an_input_that_cannot_be_made_costs_its_batch_only_the_models_that_want_it(road, plain, tmp_path, monkeypatch):
    odd = torch.from_numpy(read_row(road.competition, ids(road)[4], 0, False).eeg)
    real = infer.ensemble.build_input

    def build(windows, config):
        if config.kind == "bipolar-sequence" and any(one.equal(odd) for one in windows.eeg):
            raise ValueError("nobody thought of this EEG")
        return real(windows, config)

    monkeypatch.setattr(infer.runner, "BATCH_SIZE", 2)
    monkeypatch.setattr(infer.ensemble, "build_input", build)
    with pytest.raises(ValueError, match="nobody thought"):
        submit(road.competition, road.datasets, road.blend, tmp_path / "out.csv")
    report = submit(road.competition, road.datasets, road.blend, tmp_path / "out.csv", forgiving=True)
    assert [(entry["eeg_id"], entry["answer"]) for entry in report.fallbacks] == [
        (str(eeg_id), "blend without tiny-wave")
        for eeg_id in ids(road)[3:5]  # batches of 1, 2, 2, 2, 2
    ]
    assert "nobody thought of this EEG" in report.warnings[0]
    clean, found = votes(plain[0]), votes(tmp_path / "out.csv")
    np.testing.assert_array_equal(np.delete(found, [3, 4], axis=0), np.delete(clean, [3, 4], axis=0))


def test_a_recording_that_cannot_be_rebuilt_costs_its_row(road, tmp_path, monkeypatch):
    real, broken = infer.submit.read_row, ids(road)[2]
    monkeypatch.setattr(infer.submit, "read_row", lambda *given: 1 // (given[1] != broken) and real(*given))
    report = submit(road.competition, road.datasets, road.blend, tmp_path / "out.csv", forgiving=True)
    assert [(entry["eeg_id"], entry["answer"]) for entry in report.fallbacks] == [(str(broken), "prior")]
    with pytest.raises(ZeroDivisionError):
        submit(road.competition, road.datasets, road.blend, tmp_path / "out.csv")


def test_a_full_disk_keeps_the_answers_before(road, tmp_path, monkeypatch):
    """Writing ends with an error after some bytes, and the file that was there is whole."""
    out, real, turns = tmp_path / "out.csv", os.fsync, []

    def fsync(number):
        turns.append(1)
        if len(turns) > 2:
            os.ftruncate(number, 100)
            raise OSError(28, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        submit(road.competition, road.datasets, road.blend, out, forgiving=True, early=True)
    assert validate(out, road.competition) == 9 and [path.name for path in tmp_path.iterdir()] == ["out.csv"]


# ---- predictions against the training prior


def test_a_shift_of_the_class_means_is_a_warning():
    prior = (0.05, 0.18, 0.20, 0.13, 0.12, 0.32)
    like_training = np.random.default_rng(0).dirichlet(np.array(prior) * 3, size=400)
    shifted = like_training.copy()
    shifted[:, [0, 5]] = shifted[:, [5, 0]]  # seizures everywhere
    sound, few, report = SubmissionReport(), SubmissionReport(), SubmissionReport()
    sound.note_means(like_training, prior)
    assert sound.warnings == [] and sound.class_means["other"] == pytest.approx(0.32, abs=0.05)
    few.note_means(np.tile([1.0, 0, 0, 0, 0, 0], (5, 1)), prior)  # too few to be compared with the prior
    assert few.warnings == [] and few.class_means["seizure"] == 1.0
    report.note_means(shifted, prior)
    (warning,) = report.warnings
    assert "seizure 0.3" in warning and "instead of 0.05" in warning and "other 0.05 instead of 0.32" in warning
    assert "lpd" not in warning and "class means (training prior): seizure 0.3" in "\n".join(report.lines())
