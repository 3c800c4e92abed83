"""Every fault planted in a sound competition is found by the doctor: its name, its severity, the exit code.

And training agrees: it refuses what the doctor says stops it, and nothing else.
"""

import signal

import polars as pl
import pytest
from doctor_faults import FAULTS, KNOW, LOST, NO_ANSWER, STOPS
from doctor_stage import copy_of, run_doctor, sound_competition

from common.errors import KitError
from common.schema import ELECTRODES
from train.folds import make_folds
from train.labels import label_rows, read_train_table
from train.store_build import hold_half
from train.store_index import HALVES

SEVERITIES = (STOPS, NO_ANSWER, LOST, KNOW)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return sound_competition(tmp_path_factory)


@pytest.fixture(scope="module")
def usual(sound):
    """The checks with cases in the sound competition: none may stop anything."""
    from train.doctor.check import doctor

    return {(finding.check, finding.cases) for finding in doctor(sound, folds=2).findings}


@pytest.fixture(autouse=True)
def same_handlers():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def training_refuses(competition, store):
    """Whether training stops before its first step: at the labels, the folds or the recordings."""
    try:
        make_folds(label_rows(competition), 2)
        table = read_train_table(competition)
        for half in HALVES:
            hold_half(half, competition, store, table[half.column], workers=1)[0].close()
    except KitError:
        return True
    return False


def test_training_takes_the_sound_competition(sound, usual, tmp_path):
    assert not training_refuses(sound, tmp_path / "store") and not {c for c, _ in usual} & {"missing", "damaged"}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_found(fault, sound, usual, tmp_path, monkeypatch, capsys):
    copy = copy_of(sound, tmp_path / "competition")
    named = str(fault.plant(copy))
    code, said, report = run_doctor(monkeypatch, capsys, copy.folder, "--folds", "2")
    new = [f for f in report["findings"] if (f["check"], tuple(f["cases"])) not in usual]
    [finding] = [f for f in new if f["check"] == fault.check and any(named in case for case in f["cases"])]
    assert finding["severity"] == fault.severity
    assert finding["count"] == len(finding["cases"]) and finding["todo"] in said and finding["what"] in said
    if finding["count"] <= 3:
        assert named in said
    # Nothing worse than what was planted, and the exit code and training itself say the same.
    assert min(SEVERITIES.index(f["severity"]) for f in new) == SEVERITIES.index(fault.severity)
    stops = fault.severity == STOPS
    assert code == int(stops) and report["can_start"] is not stops
    assert training_refuses(copy.folder, tmp_path / "store") is stops


@pytest.mark.parametrize("wrong", ["two folds", "no fold", "too many"])
def test_folds_that_cannot_be_used_stop_training(wrong, sound, tmp_path, monkeypatch, capsys):
    patients = sorted(pl.read_csv(sound / "train.csv")["patient_id"].unique())
    lines = [f"{patient},{k % 2}" for k, patient in enumerate(patients)]
    lines += [f"{patients[0]},1"] if wrong == "two folds" else []
    file = tmp_path / "folds.csv"
    file.write_text("\n".join(["patient_id,fold", *(lines[1:] if wrong == "no fold" else lines)]) + "\n")
    folds = "5" if wrong == "too many" else file
    code, _, report = run_doctor(monkeypatch, capsys, copy_of(sound, tmp_path / "c").folder, "--folds", folds)
    [finding] = [f for f in report["findings"] if f["severity"] == STOPS]
    assert code == 1 and finding["check"] == "folds" and report["folds"] is None
    assert (str(len(patients)) if wrong == "too many" else str(patients[0])) in finding["cases"][0]


def test_a_table_of_folds_is_counted(sound, tmp_path, monkeypatch, capsys):
    table = pl.read_csv(sound / "train.csv")
    patients = sorted(table["patient_id"].unique())
    file = tmp_path / "folds.csv"
    file.write_text("\n".join(["patient_id,fold", *(f"{p},{int(k == 0)}" for k, p in enumerate(patients))]) + "\n")
    code, said, report = run_doctor(monkeypatch, capsys, copy_of(sound, tmp_path / "c").folder, "--folds", file)
    rows = label_rows(sound)
    held_out = rows.filter(pl.col("patient_id") == patients[0]).height
    assert code == 0 and "no patient is in two" in said
    assert report["folds"]["patients"] == [len(patients) - 1, 1]
    assert report["folds"]["rows"] == [rows.height - held_out, held_out]
    assert len(ELECTRODES) == len(report["electrodes"]["train_eegs"])
