"""Every fault planted in a sound competition is found by the doctor: its name, its severity, the exit code.

And training agrees: it refuses what the doctor says stops it, and nothing else.
"""

import os

import polars as pl
import pytest
from doctor_faults import FILE_FAULTS, KNOW, LOST, NO_ANSWER, STOPS, TABLE_FAULTS
from doctor_stage import copy_of, run_doctor

from common.errors import KitError
from train.data.folds import make_folds
from train.data.labels import label_rows, read_train_table
from train.data.recording_kinds import RECORDING_KINDS
from train.data.store_build import open_store
from train.doctor import measure
from train.doctor.check import doctor

SEVERITIES = (STOPS, NO_ANSWER, LOST, KNOW)
EXAMINE = measure.examine


@pytest.fixture(scope="module")
def sound(road):
    return road.competition


@pytest.fixture(scope="module")
def measured():
    return {}


@pytest.fixture(autouse=True)
def measured_once(measured, monkeypatch):
    """Files that a fault leaves alone are links to the sound ones: these are measured once for all tests."""

    def examine(source):
        status = os.stat(source.path)
        key = status.st_ino, status.st_mtime_ns, source.folder, source.id, source.starts, source.patient
        if status.st_nlink == 1 or key not in measured:
            measured[key] = EXAMINE(source)
        return measured[key]

    monkeypatch.setattr(measure, "examine", examine)


@pytest.fixture
def usual(sound, measured_once):
    """The checks with cases in the sound competition: none may stop anything."""
    return {(finding.check, finding.cases) for finding in doctor(sound, folds=2).findings}


def training_refuses(competition, store=None):
    """Whether training stops before its first step: at the labels, the folds or, with a store, at the recordings."""
    try:
        make_folds(label_rows(competition), 2)
        table = read_train_table(competition)
        for kind in RECORDING_KINDS if store else ():
            open_store(kind, competition, store, table[kind.column])
    except KitError:
        return True
    return False


def test_training_takes_the_sound_competition(sound, usual, tmp_path):
    assert not training_refuses(sound, tmp_path / "store") and not {c for c, _ in usual} & {"missing", "damaged"}


@pytest.mark.parametrize("fault", [*TABLE_FAULTS, *FILE_FAULTS], ids=str)
def test_a_planted_fault_is_found(fault, sound, usual, tmp_path, monkeypatch, capsys):
    copy = copy_of(sound, tmp_path / "competition")
    named = str(fault.plant(copy))
    code, said, report = run_doctor(monkeypatch, capsys, copy.folder, "--folds", "2")
    said = " ".join(said.split())
    new = [f for f in report["findings"] if (f["check"], tuple(f["cases"])) not in usual]
    [finding] = [f for f in new if f["check"] == fault.check and any(named in case for case in f["cases"])]
    assert finding["severity"] == fault.severity
    assert finding["count"] == len(finding["cases"]) and finding["todo"] in said and finding["what"] in said
    if finding["count"] <= 3:
        assert named in said
    # Nothing worse than what was planted, and the exit code says the same.
    assert min(SEVERITIES.index(f["severity"]) for f in new) == SEVERITIES.index(fault.severity)
    stops = fault.severity == STOPS
    assert code == int(stops) and report["can_start"] is not stops
    if fault in TABLE_FAULTS:
        assert training_refuses(copy.folder) is stops


@pytest.mark.slow
@pytest.mark.parametrize("fault", FILE_FAULTS, ids=str)
def test_training_refuses_the_recordings_that_stop_it_and_no_others(fault, sound, tmp_path):
    copy = copy_of(sound, tmp_path / "competition")
    fault.plant(copy)
    assert training_refuses(copy.folder, tmp_path / "store") is (fault.severity == STOPS)


@pytest.mark.parametrize("wrong", ["two folds", "no fold", "too many", None])
def test_folds_that_cannot_be_used_stop_training(wrong, sound, tmp_path, monkeypatch, capsys):
    patients = sorted(pl.read_csv(sound / "train.csv")["patient_id"].unique())
    lines = [f"{patient},{k % 2}" for k, patient in enumerate(patients)]
    lines += [f"{patients[0]},1"] if wrong == "two folds" else []
    file = tmp_path / "folds.csv"
    file.write_text("\n".join(["patient_id,fold", *(lines[1:] if wrong == "no fold" else lines)]) + "\n")
    folds = "5" if wrong == "too many" else file
    code, _, report = run_doctor(monkeypatch, capsys, copy_of(sound, tmp_path / "c").folder, "--folds", folds)
    stopping = [finding for finding in report["findings"] if finding["severity"] == STOPS]
    assert code == len(stopping) == bool(wrong)
    for finding in stopping:
        assert finding["check"] == "folds"
        assert (str(len(patients)) if wrong == "too many" else str(patients[0])) in finding["cases"][0]
