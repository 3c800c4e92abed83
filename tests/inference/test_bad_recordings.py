"""Broken recordings: every row is answered, every fault is named, the sound rows beside them stay as they were."""

import importlib
import json
import os
import shutil
import sys
from dataclasses import asdict

import numpy as np
import pytest
from conftest import PROJECT, votes

import infer.recordings
from common.schema import REGIONS
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


def answer(outcome, number):
    """The six probabilities of an EEG that is listed once."""
    return outcomes.probabilities(outcome.lines[number])[0]


@pytest.fixture(scope="module")
def outcome(road, broken):
    """What the drill looks at: the submission, and what the report says."""
    blend = road.blend.model_copy(update={"read_seconds": faults.READ_SECONDS})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("read_eeg", "read_spectrogram"):
            patch.setattr(infer.recordings, name, given_up(getattr(infer.recordings, name)))
        report = submit(broken, road.datasets, blend, broken / "submission.csv")
    assert validate(broken / "submission.csv", broken) == report.rows
    (broken / "report.json").write_text(json.dumps({"kernel": asdict(report)}))
    return outcomes.Outcome(broken)


@pytest.mark.parametrize("fault", CASES)
def test_the_fault_is_answered_and_named(road, outcome, fault):
    case = CASES[fault]
    if os.geteuid() == 0 and damage.forbidden in (case.eeg, case.spectrogram):
        pytest.skip("root may read every file; the drill's sandbox takes that away")
    assert outcomes.problem_of(fault, case, NEEDS, outcome, road.blend.prior) is None


def test_other_faults_reach_the_models(outcome):
    """Else the comparison above could not fail: a repaired recording is another recording."""
    forbidden = [damage.forbidden] if os.geteuid() == 0 else []
    changed = [
        name
        for name, case in CASES.items()
        if not case.same and case.eeg not in forbidden and case.spectrogram not in forbidden
    ]
    base = answer(outcome, BASE)
    assert [name for name in changed if np.abs(answer(outcome, ID[name]) - base).max() < 1e-6] == []


def test_sound_rows_beside_broken_ones_stay(plain, outcome):
    alone = plain[0].read_text().splitlines()[1:]
    assert len(alone) > 5
    for line in alone:
        eeg_id = int(line.split(",")[0])
        assert outcome.lines[eeg_id] == [line] and not any(outcome.reported_of(eeg_id).values())


def test_without_an_eeg_the_other_model_answers_alone(road, outcome, tmp_path):
    hidden_test.write_hidden_test(road.competition, tmp_path / "sound", {})
    blend = road.blend.model_copy(update={"models": {"tiny-image": 1.0}})
    submit(tmp_path / "sound", road.datasets[:1], blend, tmp_path / "submission.csv")
    image = answer(outcomes.Outcome(tmp_path), BASE)
    lost = [name for name, case in CASES.items() if case.eeg_lost and not case.spectrogram]
    assert len(lost) > 10
    for fault in lost if os.geteuid() else (name for name in lost if CASES[name].eeg is not damage.forbidden):
        np.testing.assert_allclose(answer(outcome, ID[fault]), image, rtol=0, atol=1e-6)


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
    prior = np.tile(road.blend.prior, (report.rows, 1))
    np.testing.assert_allclose(votes(tmp_path / "out.csv"), prior, rtol=0, atol=1e-9)
