"""A disk that stalls: a read that hangs costs its own recording, and that one is read once more."""

import os
import shutil
import threading

import numpy as np
import polars as pl
import pytest
from blend_samples import PRIOR
from conftest import votes

import infer.recordings
import infer.runner
import infer.submit
from common.blend import Blend
from infer.budget import Budget
from infer.recordings import Sample, read_sample
from infer.report import SubmissionReport
from infer.runner import READING, Run
from infer.submit import submit


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
    real, given_up = infer.runner.Run.go_through, []

    def go_through(self, ids, *rest):
        if self.waiting:
            given_up.extend(self.waiting)
            path.unlink()
            path.write_bytes(content)
        real(self, ids, *rest)

    infer.runner.Run.go_through = go_through
    try:
        blend = road.blend.model_copy(update={"read_seconds": 0.3})
        report = submit(competition, road.datasets, blend, tmp_path / "out.csv")
    finally:
        infer.runner.Run.go_through = real
    submit(road.competition, road.datasets, road.blend, tmp_path / "clean.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "clean.csv").read_bytes()
    assert len(given_up) == 1 and report.fallbacks == []


def test_a_reader_that_fails_in_an_unforeseen_way_costs_its_recording_only(road, monkeypatch):
    eeg_id = pl.read_csv(road.competition / "test.csv")["eeg_id"][0]
    monkeypatch.setattr(infer.recordings, "read_eeg", lambda path: 1 // 0)
    sample = read_sample(road.competition, eeg_id, 0, False)
    assert sample.eeg is None
    assert sample.unreadable == (f"EEG {eeg_id}.parquet: ZeroDivisionError: integer division or modulo by zero",)


def test_a_thread_that_waits_for_a_recording_does_not_hold_the_program(road, competition, tmp_path):
    hanging_eeg(competition)
    submit(competition, road.datasets, road.blend.model_copy(update={"read_seconds": 0.3}), tmp_path / "out.csv")
    assert all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())


def test_a_weights_folder_whose_reading_hangs_costs_its_model_only(road, tmp_path, monkeypatch):
    monkeypatch.setattr(infer.submit, "LOADING_SECONDS", 3.0)
    image, wave = road.datasets
    folder = shutil.copytree(wave, tmp_path / wave.name)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    report = submit(road.competition, [folder, image], road.blend, tmp_path / "out.csv", forgiving=True)
    assert f"{wave.name}: not loaded within 3 s" in report.dropped
    alone = submit(road.competition, [image], road.blend, tmp_path / "alone.csv", forgiving=True)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    assert report.models == alone.models


class Silent:
    """An ensemble without nets."""

    members = ()

    def answer(self, samples, active, is_over):
        return {}, {}


@pytest.mark.parametrize(("slow", "hours"), [(False, 10.0), (True, 1.0)])
def test_a_stall_is_not_forecast_for_the_recordings_to_come(slow, hours):
    now = [0.0]
    budget = Budget(9 * 3600, lambda: now[0])
    run = Run(Silent(), {}, Blend(models={}, prior=PRIOR), budget, SubmissionReport())
    now[0] = 3600.0  # one EEG took an hour
    run.answer([Sample(1, None, None, slow=slow)], since=0.0)
    assert budget.predicted(run.parts(), 9) == pytest.approx(hours * 3600)
    assert run.costs[READING] == 3600.0
