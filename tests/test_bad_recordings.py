"""Broken recordings: every row is answered, every fault is named, the sound rows beside them stay as they were."""

import shutil

import numpy as np
import polars as pl
import pytest
from recording_faults import BASE, CASES, FILE_FAULTS, ID, NO_WAVE, Case

from common.schema import VOTES
from common.spectrogram import CENTRE_COLUMNS
from infer.submit import read_sample, submit
from infer.validate import validate


def place(path, frame, fault):
    if fault is not None and fault not in FILE_FAULTS:
        frame = fault(frame)
    frame.write_parquet(path)
    if fault in FILE_FAULTS:
        fault(path)


@pytest.fixture(scope="module")
def broken(road, tmp_path_factory):
    """A competition with the simulated test set, a sound base and one row per fault."""
    folder = tmp_path_factory.mktemp("broken")
    for name in ("test_eegs", "test_spectrograms"):
        shutil.copytree(road.competition / name, folder / name)
    table = pl.read_csv(road.competition / "test.csv").select("spectrogram_id", "eeg_id")
    spectrogram_id, eeg_id = table.row(0)
    # Whole microvolts, so that an integer file can hold the same.
    eeg = pl.read_parquet(folder / "test_eegs" / f"{eeg_id}.parquet").select(pl.all().round(0))
    spectrogram = pl.read_parquet(folder / "test_spectrograms" / f"{spectrogram_id}.parquet")
    for name, number in {"base": BASE, **ID}.items():
        case = CASES.get(name, Case())
        place(folder / "test_eegs" / f"{number}.parquet", eeg, case.eeg)
        place(folder / "test_spectrograms" / f"{number}.parquet", spectrogram, case.spectrogram)
    ids = [BASE, *ID.values()]
    added = pl.DataFrame({"spectrogram_id": ids, "eeg_id": ids})
    pl.concat([table, added]).sample(fraction=1, shuffle=True, seed=2).write_csv(folder / "test.csv")
    return folder


def read_answers(path):
    return {eeg_id: np.array(values) for eeg_id, *values in pl.read_csv(path).select("eeg_id", *VOTES).iter_rows()}


@pytest.fixture(scope="module")
def outcome(road, broken):
    """The answers by eeg_id, and the report."""
    report = submit(broken, road.datasets, road.blend, broken / "out.csv")
    assert validate(broken / "out.csv", broken) == report.rows
    return read_answers(broken / "out.csv"), report


def entries(kind, number):
    """What a list of the report says of one EEG, without the eeg_id."""
    return [tuple(v for k, v in entry.items() if k != "eeg_id") for entry in kind if entry["eeg_id"] == str(number)]


@pytest.mark.parametrize("fault", CASES)
def test_the_fault_is_named(outcome, fault):
    case, report, number = CASES[fault], outcome[1], ID[fault]

    def assert_said(found, expected):
        expected = [tuple(text.replace("ID", str(number)) for text in one) for one in expected]
        assert len(found) == len(expected), (found, expected)
        for one, texts in zip(found, expected, strict=True):
            assert len(one) == len(texts)
            assert all(a == b or (b.endswith("(") and a.startswith(b)) for a, b in zip(one, texts, strict=True)), one

    assert_said(entries(report.repaired, number), [(case.repaired,)] if case.repaired else [])
    assert_said(entries(report.rebuilt_spectrograms, number), [(case.rebuilt,)] if case.rebuilt else [])
    found = entries(report.fallbacks, number)
    if fault == "both broken":  # two long reasons of polars in one line
        assert found[0][1].count("not a readable parquet file") == 2
    assert_said(found, [case.fallback] if case.fallback else [])


@pytest.mark.parametrize("fault", [name for name, case in CASES.items() if case.same])
def test_harmless_faults_change_nothing(outcome, fault):
    np.testing.assert_allclose(outcome[0][ID[fault]], outcome[0][BASE], rtol=0, atol=1e-6)


def test_other_faults_reach_the_models(outcome):
    """Else the comparison above could not fail: a repaired recording is another recording."""
    changed = [name for name, case in CASES.items() if not case.same]
    same = [name for name in changed if np.abs(outcome[0][ID[name]] - outcome[0][BASE]).max() < 1e-6]
    assert same == []


def test_sound_rows_beside_broken_ones_stay(road, outcome, tmp_path):
    submit(road.competition, road.datasets, road.blend, tmp_path / "alone.csv")
    alone = read_answers(tmp_path / "alone.csv")
    assert len(alone) > 5
    for eeg_id, values in alone.items():
        np.testing.assert_allclose(outcome[0][eeg_id], values, rtol=0, atol=1e-6)
        assert not any(entries(kind, eeg_id) for kind in (outcome[1].repaired, outcome[1].fallbacks))


@pytest.mark.parametrize("fault", ["both gone", "both broken"])
def test_nothing_to_read_means_the_prior(road, outcome, fault):
    np.testing.assert_allclose(outcome[0][ID[fault]], road.blend.prior, rtol=0, atol=1e-9)


def test_without_an_eeg_the_other_model_answers_alone(road, broken, outcome, tmp_path):
    alone = road.blend.model_copy(update={"models": {"tiny-image": 1.0}})
    submit(broken, road.datasets[:1], alone, tmp_path / "alone.csv")
    image = read_answers(tmp_path / "alone.csv")[BASE]
    for fault in (name for name, case in CASES.items() if case.fallback and case.fallback[0] == NO_WAVE):
        np.testing.assert_allclose(outcome[0][ID[fault]], image, rtol=0, atol=1e-6)


def test_the_report_counts_and_names_the_first(outcome):
    text = "\n".join(outcome[1].lines())
    assert f"fallbacks: {sum(case.fallback is not None for case in CASES.values())}\n" in text
    assert f"rebuilt spectrograms: {sum(case.rebuilt is not None for case in CASES.values())}\n" in text
    assert "more in the report" in text


def test_a_missing_spectrogram_is_rebuilt_in_its_centre(broken):
    number = ID["spectrogram gone"]
    rebuilt = read_sample(broken, number, number, True).spectrogram
    there = np.isfinite(rebuilt)
    assert there[..., list(CENTRE_COLUMNS)].all() and there.sum() == 24 * 4 * 100
    # The base has the EEG in whole microvolts, the file was made before: equal up to that noise.
    file = read_sample(broken, BASE, BASE, True).spectrogram[there]
    strong = file > np.quantile(file, 0.5)
    np.testing.assert_allclose(rebuilt[there][strong], file[strong], rtol=0.2)


def test_a_missing_region_alone_is_rebuilt(broken):
    number, base = ID["no region"], read_sample(broken, BASE, BASE, True).spectrogram
    sample = read_sample(broken, number, number, True).spectrogram
    np.testing.assert_array_equal(sample[:3], base[:3])  # LL, RL, RP as in the file
    assert np.isfinite(sample[3, 0]).sum() == 24


@pytest.mark.parametrize("folders", [("test_spectrograms",), ("test_eegs",), ("test_eegs", "test_spectrograms")])
def test_no_folder_at_all(road, competition, tmp_path, folders):
    for name in folders:
        shutil.rmtree(competition / name)
    report = submit(competition, road.datasets, road.blend, tmp_path / "out.csv")
    assert validate(tmp_path / "out.csv", competition) == report.rows
    assert len(report.rebuilt_spectrograms) == (report.rows if folders == ("test_spectrograms",) else 0)
    answer = {1: NO_WAVE, 2: "prior"}[len(folders)]
    expected = [] if folders == ("test_spectrograms",) else [answer] * report.rows
    assert [entry["answer"] for entry in report.fallbacks] == expected
    if len(folders) == 2:
        answers = np.array(list(read_answers(tmp_path / "out.csv").values()))
        np.testing.assert_allclose(answers, np.tile(road.blend.prior, (report.rows, 1)), rtol=0, atol=1e-9)
