"""`python -m train doctor`: a sound competition is sound, and what is measured is true."""

import os
import shutil
import threading
import time

import numpy as np
import polars as pl
import pytest
from doctor_stage import copy_of, run_doctor

from common.schema import ELECTRODES
from train.__main__ import main
from train.data.labels import LABEL_COLUMNS
from train.doctor import measure
from train.doctor.tables import changes_within_eegs, label_findings


@pytest.fixture
def copied(road, tmp_path):
    return copy_of(road.competition, tmp_path / "competition")


def test_a_sound_competition_can_be_trained_on_with_any_number_of_workers(copied, monkeypatch, capsys):
    one, four = (run_doctor(monkeypatch, capsys, copied.folder, "--folds", "2", "--workers", n) for n in ("1", "4"))
    code, said, values = one
    assert code == 0 and values["can_start"] and not values["test_only"]
    assert set(values["counts"]) == {"stops training", "stops predicting", "costs rows", "worth knowing"}
    assert all(finding["severity"] == "worth knowing" for finding in values["findings"])
    train = copied.table()
    assert values["tables"]["train.csv"] == {
        "rows": train.height,
        "eegs": train["eeg_id"].n_unique(),
        "spectrograms": train["spectrogram_id"].n_unique(),
        "patients": train["patient_id"].n_unique(),
    }
    said = said.replace(str(copied.folder.parent), "data")  # wherever temporary folders are
    assert "training can start" in said and max(map(len, said.splitlines())) <= 120
    assert values == four[2]


def test_changes_within_eegs_are_counted_by_hand():
    eegs = [  # eeg_id, start, consensus, votes for seizure and other
        *((1, 0, "Seizure", 3, 0), (1, 4, "Seizure", 3, 1)),  # overlapping, labelled differently
        *((2, 0, "Seizure", 3, 0), (2, 40, "Other", 0, 3)),  # another consensus, far apart
        *((3, 0, "Other", 0, 3), (3, 6, "Seizure", 3, 0), (3, 8, "Seizure", 3, 0)),  # both
        *((4, 0, "Other", 0, 3), (4, 2, "Other", 0, 3), (5, 0, "Other", 0, 1)),  # neither
        *((6, 0, "Other", 0, 3), (6, 10, "Other", 0, 2)),  # labelled 10 s that only touch
    ]
    columns = ("eeg_id", "eeg_label_offset_seconds", "expert_consensus", "seizure_vote", "other_vote")
    table = pl.DataFrame(eegs, schema=columns, orient="row").with_columns(
        spectrogram_id=1, patient_id=1, label_id=1, spectrogram_label_offset_seconds=0,
        lpd_vote=0, gpd_vote=0, lrda_vote=0, grda_vote=0,
    )  # fmt: skip
    assert changes_within_eegs(table) == {"eegs": 6, "consensus_changes": 2, "overlaps_differ": 2}


def test_a_consensus_is_beaten_by_more_votes_only():
    rows = [(1, "Seizure", 3, 3), (2, "Seizure", 2, 3), (3, "Other", 0, 3)]  # label_id, consensus, seizure, other
    table = pl.DataFrame(rows, schema=("label_id", "expert_consensus", "seizure_vote", "other_vote"), orient="row")
    columns = {name: 0 for name in LABEL_COLUMNS if name not in table.columns}
    found = {finding.check: finding.ids for finding in label_findings(table.with_columns(**columns))}
    assert found == {"consensus-beaten": (2,)}


@pytest.mark.parametrize("words", [["nowhere"], [".", "--folds", "1"], [".", "--folds", "2", "--test-only"]])
def test_bad_usage_ends_with_two(monkeypatch, capsys, words):
    monkeypatch.setattr("sys.argv", ["train", "doctor", "--competition", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "usage" in capsys.readouterr().err


def test_measured_numbers_are_true(copied, monkeypatch, capsys):
    eeg = int(copied.table()["eeg_id"].min())
    name = copied.recording("train_eegs", eeg)
    frame = pl.read_parquet(copied.folder / name)[:10_000]
    values = np.random.default_rng(0).normal(0, 10, (10_000, 20)).astype(np.float32)
    values[:2_500, ELECTRODES.index("C3")] = np.nan
    values[3_000:5_000, ELECTRODES.index("O2")] = 7  # ten whole seconds
    values[77, ELECTRODES.index("Fz")] = 2_500
    copied.change(name, lambda _: pl.DataFrame(dict(zip(frame.columns, values.T, strict=True))))
    _, said, report = run_doctor(monkeypatch, capsys, copied.folder, "--folds", "2")

    recordings = report["recordings"]["train_eegs"]
    place = recordings["id"].index(eeg)
    assert recordings["n_time"][place] == 10_000
    assert recordings["missing"][place] == pytest.approx(0.25 / 19, rel=1e-4)
    assert recordings["flat"][place] == pytest.approx(0.2 / 19, rel=1e-4)
    assert recordings["largest"][place] == pytest.approx(2_500 - values[:, ELECTRODES.index("Fz")].mean(), rel=1e-4)

    files = sorted((copied.folder / "train_eegs").iterdir())
    missing, flat, peaks = {}, {}, {}
    for file in files:
        for electrode, column in pl.read_parquet(file).to_dict().items():
            seconds = column.to_numpy()[: len(column) // 200 * 200].reshape(-1, 200)
            missing.setdefault(electrode, []).append(column.is_nan().mean())
            flat.setdefault(electrode, []).append((seconds == seconds[:, :1]).all(axis=1).mean())
            peaks.setdefault(electrode, []).append(np.nanmax(np.abs(column - column.fill_nan(None).mean())))
    for line in report["electrodes"]["train_eegs"]:
        electrode = line["electrode"]
        assert line["missing"] == pytest.approx(np.mean(missing[electrode]), rel=1e-4)
        assert line["flat"] == pytest.approx(np.mean(flat[electrode]), rel=1e-4)
        assert line["largest_max"] == pytest.approx(np.max(peaks[electrode]), rel=1e-3)
        assert line["largest_median"] == pytest.approx(np.median(peaks[electrode]), rel=1e-3)
    [outlier] = [finding for finding in report["findings"] if finding["check"] == "eeg-outlier"]
    assert f"{eeg}: Fz 2,5" in outlier["cases"][0] and outlier["cases"][0] in said


def test_the_test_set_alone(copied, monkeypatch, capsys):
    (copied.folder / "train.csv").unlink()
    code, said, report = run_doctor(monkeypatch, capsys, copied.folder)
    assert code == 1 and "--test-only" in said and report["counts"]["stops training"] == 1
    shutil.rmtree(copied.folder / "train_eegs")
    code, said, report = run_doctor(monkeypatch, capsys, copied.folder, "--test-only")
    assert code == 0 and "predicting can start" in said and report["test_only"]
    assert set(report["recordings"]) == {"test_eegs", "test_spectrograms"}
    (copied.folder / "test.csv").unlink()
    code, said, report = run_doctor(monkeypatch, capsys, copied.folder, "--test-only")
    assert code == 1 and "predicting CANNOT start" in said and report["counts"]["stops predicting"] == 1


def test_ctrl_c_ends_at_once_and_writes_nothing(copied, tmp_path, monkeypatch, capsys):
    begun, examine = [], measure.examine

    def interrupted(source):
        begun.append(source.id)
        if len(begun) == 2:
            raise KeyboardInterrupt
        time.sleep(0.2)
        return examine(source)

    monkeypatch.setattr(measure, "examine", interrupted)
    code, _, error = run_doctor(monkeypatch, capsys, copied.folder, "--folds", "2", "--workers", "2")
    assert code == 130 and "interrupted" in error
    assert len(begun) < len(os.listdir(copied.folder / "train_eegs"))
    assert not (tmp_path / "competition.json").exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
