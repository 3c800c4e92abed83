"""Broken recordings: every row is answered, every fault is named, the sound rows beside them stay as they were."""

import importlib
import os
import shutil
import sys

import numpy as np
import polars as pl
import pytest
from conftest import PROJECT

import infer.recordings
from common.schema import REGIONS, VOTES
from common.signal.spectrogram import CENTRE_COLUMNS
from infer.recordings import read_row
from infer.submit import submit
from infer.validate import validate

sys.path.insert(0, str(PROJECT / "kernels"))  # it is a folder, not a package
damage, faults, outcomes = (importlib.import_module(f"drilling.{name}") for name in ("damage", "faults", "outcomes"))
hidden_test = importlib.import_module("drilling.hidden_test")
BASE, CASES, ID = hidden_test.BASE, faults.CASES, hidden_test.ID
NEEDS = {"tiny-image": (False, True), "tiny-wave": (True, False)}


@pytest.fixture(scope="module")
def broken(road, tmp_path_factory):
    """A competition with the simulated test set, a sound base and a row for each fault."""
    folder = tmp_path_factory.mktemp("broken") / "competition"
    hidden_test.write_hidden_test(road.competition, folder, CASES)
    return folder


def given_up(reader):
    """The reader; a pipe that nobody writes into is given up at once."""

    def read(path):
        if path.is_fifo():
            raise TimeoutError
        return reader(path)

    return read


def read_answers(path):
    return {eeg_id: np.array(values) for eeg_id, *values in pl.read_csv(path).select("eeg_id", *VOTES).iter_rows()}


@pytest.fixture(scope="module")
def outcome(road, broken):
    """The answers by eeg_id, and the report."""
    blend = road.blend.model_copy(update={"read_seconds": faults.READ_SECONDS})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("read_eeg", "read_spectrogram"):
            patch.setattr(infer.recordings, name, given_up(getattr(infer.recordings, name)))
        report = submit(broken, road.datasets, blend, broken / "out.csv")
    assert validate(broken / "out.csv", broken) == report.rows
    return read_answers(broken / "out.csv"), report


def said_of(report, number):
    """What the report says of one EEG, without the eeg_id, which is written ID."""
    return {
        kind: [
            tuple(text.replace(str(number), "ID") for key, text in entry.items() if key != "eeg_id")
            for entry in getattr(report, kind)
            if entry["eeg_id"] == str(number)
        ]
        for kind in ("repaired", "rebuilt_spectrograms", "fallbacks")
    }


@pytest.mark.parametrize("fault", CASES)
def test_the_fault_is_named(outcome, fault):
    case, said = CASES[fault], said_of(outcome[1], ID[fault])
    if os.geteuid() == 0 and damage.forbidden in (case.eeg, case.spectrogram):
        pytest.skip("root may read every file; the drill's sandbox takes that away")
    must = faults.expected(case, NEEDS)
    assert outcomes.same_report(must, said), (must, said)
    if fault == "both broken":  # two long reasons of polars in one line
        assert said["fallbacks"][0][1].count("not a readable parquet file") == 2


def test_what_must_be_said_is_told_apart():
    """Else the comparison above could not fail."""
    must = {"repaired": [("EEG: one (...)",)], "fallbacks": []}
    assert outcomes.same_report(must, {"repaired": [("EEG: one (any\nthing)",)], "fallbacks": []})
    for said in ([], [("EEG: one",)], [("EEG: one (x) ",)], [("EEG: one (x)",)] * 2, [("EEG: one (x)", "more")]):
        assert not outcomes.same_report(must, {"repaired": said, "fallbacks": []})
    assert not outcomes.same_report(must, {"repaired": [("EEG: one ()",)], "fallbacks": [("prior", "x")]})


@pytest.mark.parametrize("fault", [name for name, case in CASES.items() if case.same])
def test_harmless_faults_change_nothing(outcome, fault):
    np.testing.assert_allclose(outcome[0][ID[fault]], outcome[0][BASE], rtol=0, atol=1e-6)


def test_other_faults_reach_the_models(outcome):
    """Else the comparison above could not fail: a repaired recording is another recording."""
    forbidden = [damage.forbidden] if os.geteuid() == 0 else []
    changed = [
        name
        for name, case in CASES.items()
        if not case.same and case.eeg not in forbidden and case.spectrogram not in forbidden
    ]
    same = [name for name in changed if np.abs(outcome[0][ID[name]] - outcome[0][BASE]).max() < 1e-6]
    assert same == []


def test_sound_rows_beside_broken_ones_stay(plain, outcome):
    alone = read_answers(plain[0])
    assert len(alone) > 5
    for eeg_id, values in alone.items():
        np.testing.assert_array_equal(outcome[0][eeg_id], values)
        assert not any(said_of(outcome[1], eeg_id).values())


@pytest.mark.parametrize("fault", ["both gone", "both broken"])
def test_nothing_to_read_means_the_prior(road, outcome, fault):
    np.testing.assert_allclose(outcome[0][ID[fault]], road.blend.prior, rtol=0, atol=1e-9)


def test_without_an_eeg_the_other_model_answers_alone(road, outcome, tmp_path):
    hidden_test.write_hidden_test(road.competition, tmp_path / "sound", {})
    blend = road.blend.model_copy(update={"models": {"tiny-image": 1.0}})
    submit(tmp_path / "sound", road.datasets[:1], blend, tmp_path / "alone.csv")
    image = read_answers(tmp_path / "alone.csv")[BASE]
    lost = [name for name, case in CASES.items() if case.eeg_lost and not case.spectrogram]
    assert len(lost) > 10
    for fault in lost if os.geteuid() else (name for name in lost if CASES[name].eeg is not damage.forbidden):
        np.testing.assert_allclose(outcome[0][ID[fault]], image, rtol=0, atol=1e-6)


def test_the_report_counts_and_names_the_first(outcome):
    text, report = "\n".join(outcome[1].lines()), outcome[1]
    assert len(report.fallbacks) > 15 and f"fallbacks: {len(report.fallbacks)}\n" in text
    assert f"rebuilt spectrograms: {len(report.rebuilt_spectrograms)}\n" in text
    assert "more in the report" in text


def test_a_missing_spectrogram_is_rebuilt_in_its_centre(broken):
    number = ID["spectrogram gone"]
    rebuilt = read_row(broken, number, number, True).spectrogram
    there = np.isfinite(rebuilt)
    assert there[..., list(CENTRE_COLUMNS)].all() and there.sum() == 24 * 4 * 100
    # The base has the EEG in whole microvolts, the file was made before: equal up to that noise.
    file = read_row(broken, BASE, BASE, True).spectrogram[there]
    strong = file > np.quantile(file, 0.5)
    apart = np.abs(np.log(rebuilt[there][strong] / file[strong]))
    assert np.quantile(apart, 0.99) < 0.1 and apart.max() < 1  # the outer columns feel the filter's edges


def test_a_missing_region_alone_is_rebuilt(broken):
    number, base = ID["no region"], read_row(broken, BASE, BASE, True).spectrogram
    rebuilt = read_row(broken, number, number, True).spectrogram
    lost, kept = REGIONS.index("LP"), [REGIONS.index(region) for region in ("LL", "RL", "RP")]
    np.testing.assert_array_equal(rebuilt[kept], base[kept])  # as in the file
    assert np.isfinite(rebuilt[lost, 0]).sum() == 24


def test_no_folder_at_all(road, competition, tmp_path):
    for name in ("test_eegs", "test_spectrograms"):
        shutil.rmtree(competition / name)
    report = submit(competition, road.datasets, road.blend, tmp_path / "out.csv")
    assert validate(tmp_path / "out.csv", competition) == report.rows
    assert [entry["answer"] for entry in report.fallbacks] == ["prior"] * report.rows
    assert "WARNING: not one EEG could be predicted, every row is the prior" in report.lines()
    answers = np.array(list(read_answers(tmp_path / "out.csv").values()))
    np.testing.assert_allclose(answers, np.tile(road.blend.prior, (report.rows, 1)), rtol=0, atol=1e-9)
