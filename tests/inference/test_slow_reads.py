"""A disk that stalls: a read that hangs costs its own recording, and that one is read once more."""

import os
import threading

import numpy as np
import polars as pl
import pytest
from blend_samples import PRIOR
from conftest import votes

import infer.recordings
import infer.submit
from common.blend import Blend
from common.records import read_eeg
from infer.budget import Budget
from infer.recordings import RowRecordings, read_row
from infer.report import SubmissionReport
from infer.runner import READING, Runner
from infer.submit import submit
from infer.timeout import with_timeout


def test_a_read_that_hangs_is_given_up_and_does_not_hold_the_program(tmp_path):
    os.mkfifo(tmp_path / "7.parquet")  # a pipe that nobody writes into
    with pytest.raises(TimeoutError):
        with_timeout(lambda: read_eeg(tmp_path / "7.parquet"), 0.01)
    waiting = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    assert waiting and all(thread.daemon for thread in waiting)
    os.close(os.open(tmp_path / "7.parquet", os.O_RDWR | os.O_NONBLOCK))  # the reader finds the end of the file


@pytest.mark.parametrize("times", [1, 2])
def test_a_recording_that_hangs_is_read_once_more(road, plain, tmp_path, monkeypatch, times):
    """Once, as when a mounted disk stalls: nothing is lost. Always: the other model answers its row alone."""
    eeg_id = pl.read_csv(road.competition / "test.csv")["eeg_id"][1]
    reads, real = [], read_eeg

    def hanging(path):
        if path.stem == str(eeg_id):
            reads.append(path)
            if len(reads) <= times:
                raise TimeoutError
        return real(path)

    monkeypatch.setattr(infer.recordings, "read_eeg", hanging)
    report = submit(road.competition, road.datasets, road.blend, tmp_path / "out.csv")
    assert report.warnings == ["1 EEGs were not read in time and are read once more"] and len(reads) == 2
    clean, found = votes(plain[0]), votes(tmp_path / "out.csv")
    np.testing.assert_array_equal(np.delete(found, 1, axis=0), np.delete(clean, 1, axis=0))
    if times == 1:
        assert report.fallbacks == [] and (found == clean).all()
    else:
        why = f"EEG {eeg_id}.parquet: not read within 60 s"
        assert report.fallbacks == [{"eeg_id": str(eeg_id), "answer": "blend without tiny-wave", "why": why}]
        assert np.abs(found[1] - clean[1]).max() > 1e-6


def test_a_reader_that_fails_in_an_unforeseen_way_costs_its_recording_only(road, monkeypatch):
    class PanicError(BaseException):
        """As polars has it: no Exception."""

    def panic(path):
        raise PanicError("index out of bounds")

    eeg_id = pl.read_csv(road.competition / "test.csv")["eeg_id"][0]
    monkeypatch.setattr(infer.recordings, "read_eeg", panic)
    row = read_row(road.competition, eeg_id, 0, False)
    assert row.eeg is None and row.unreadable == [f"EEG {eeg_id}.parquet: PanicError: index out of bounds"]


def test_a_weights_folder_whose_reading_hangs_costs_its_model_only(road, tmp_path, monkeypatch):
    image, wave = road.datasets
    alone = submit(road.competition, [image], road.blend, tmp_path / "alone.csv", forgiving=True)
    real = infer.submit.load_weights

    def hanging(folder, *rest):
        if folder == wave:
            raise TimeoutError
        return real(folder, *rest)

    monkeypatch.setattr(infer.submit, "load_weights", hanging)
    report = submit(road.competition, [wave, image], road.blend, tmp_path / "out.csv", forgiving=True)
    assert f"{wave.name}: not loaded within 1200 s" in report.dropped
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    assert report.models == alone.models


class NoNets:
    """An ensemble without nets on a clock that stands."""

    folds, forgiving = (), False

    def __init__(self):
        self.now = 0.0
        self.budget = Budget(9 * 3600, lambda: self.now)

    def predict_batch(self, batch, active):
        return {}, {}

    def by_input(self, active):
        return {}


@pytest.mark.parametrize(("slow", "hours"), [(False, 10.0), (True, 1.0)])
def test_a_stall_is_not_forecast_for_the_recordings_to_come(slow, hours):
    ensemble = NoNets()
    runner = Runner(ensemble, {}, Blend(models={}, prior=PRIOR), SubmissionReport())
    ensemble.now = 3600.0  # one EEG took an hour
    runner.predict_batch([RowRecordings(1, slow=slow)], since=0.0)
    assert runner.predicted_seconds(9) == pytest.approx(hours * 3600)
    assert runner.costs[READING] == 3600.0
