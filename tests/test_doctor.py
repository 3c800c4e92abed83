"""`python -m train doctor`: a sound competition is sound, what is measured is true, a file is read once."""

import json
import os
import signal
import threading
import time

import numpy as np
import polars as pl
import pytest
from conftest import command
from doctor_stage import TABLES, copy_of, opened, run_doctor, sound_competition

from common.schema import ELECTRODES
from train.doctor.tables import changes_within_eegs

FOLDERS = ("train_eegs", "test_eegs", "train_spectrograms", "test_spectrograms")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return sound_competition(tmp_path_factory)


@pytest.fixture(autouse=True)
def same_handlers():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def copied(sound, tmp_path):
    return copy_of(sound, tmp_path / "competition")


def test_a_sound_competition_can_be_trained_on(sound, tmp_path):
    file = tmp_path / "new" / "doctor.json"
    ended = command("-m", "train", "doctor", "--competition", sound, "--folds", "2", "--json", file)
    assert ended.returncode == 0, ended.stderr
    values = json.loads(file.read_text())
    assert values["can_start"] and not values["test_only"]
    assert set(values["counts"]) == {"stops training", "stops predicting", "costs rows", "worth knowing"}
    assert all(finding["severity"] == "worth knowing" for finding in values["findings"])
    train = pl.read_csv(sound / "train.csv")
    assert values["tables"]["train.csv"] == {
        "rows": train.height,
        "eegs": train["eeg_id"].n_unique(),
        "spectrograms": train["spectrogram_id"].n_unique(),
        "patients": 3,
    }
    assert sum(values["folds"]["patients"]) == 3
    assert "training can start" in ended.stdout and "Extrapolated" in ended.stdout and "17,089 EEGs" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 120


def test_changes_within_eegs_are_counted_by_hand():
    eegs = [  # eeg_id, start, consensus, votes for seizure and other
        *((1, 0, "Seizure", 3, 0), (1, 4, "Seizure", 3, 1)),  # overlapping, judged differently
        *((2, 0, "Seizure", 3, 0), (2, 40, "Other", 0, 3)),  # another consensus, far apart
        *((3, 0, "Other", 0, 3), (3, 6, "Seizure", 3, 0), (3, 8, "Seizure", 3, 0)),  # both
        *((4, 0, "Other", 0, 3), (4, 2, "Other", 0, 3), (5, 0, "Other", 0, 1)),  # neither
    ]
    columns = ("eeg_id", "eeg_label_offset_seconds", "expert_consensus", "seizure_vote", "other_vote")
    table = pl.DataFrame(eegs, schema=columns, orient="row").with_columns(
        spectrogram_id=1, patient_id=1, label_id=1, spectrogram_label_offset_seconds=0,
        lpd_vote=0, gpd_vote=0, lrda_vote=0, grda_vote=0,
    )  # fmt: skip
    assert changes_within_eegs(table) == {"eegs": 5, "consensus_changes": 2, "overlaps_differ": 2}


@pytest.mark.parametrize(
    "words",
    [
        ["--competition", "nowhere"],
        ["--competition", ".", "--folds", "1"],
        ["--competition", ".", "--folds", "nowhere.csv"],
        ["--competition", ".", "--folds", "2", "--test-only"],
        ["--competition", ".", "--workers", "0"],
        [],
    ],
)
def test_bad_usage_ends_with_two(monkeypatch, capsys, words):
    from train.__main__ import main

    monkeypatch.setattr("sys.argv", ["train", "doctor", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_every_recording_is_opened_once(copied, monkeypatch, capsys):
    folders = [copied.folder / name for name in FOLDERS]
    with opened(copied.folder, *folders) as opens:
        assert run_doctor(monkeypatch, capsys, copied.folder, "--folds", "2")[0] == 0
    recordings = [path.name for folder in folders for path in folder.iterdir()]
    assert {name: opens[name] for name in recordings} == dict.fromkeys(recordings, 1)
    # Training's own reader goes through train.csv once more: what the doctor lets pass it must not refuse.
    assert {name: opens[name] for name in TABLES} == {"train.csv": 2, "test.csv": 1, "sample_submission.csv": 1}


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
    read = report["reading"]["train_eegs"]
    assert read["files"] == len(files) and read["bytes"] == sum(file.stat().st_size for file in files)
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
        assert line["missing_files"] == np.histogram(missing[electrode], report["share_bins"])[0].tolist()
        assert line["largest_files"] == np.histogram(peaks[electrode], report["microvolt_bins"])[0].tolist()
    [outlier] = [finding for finding in report["findings"] if finding["check"] == "eeg-outlier"]
    assert f"{eeg}: Fz 2,5" in outlier["cases"][0] and outlier["cases"][0] in said


def test_the_extrapolation_is_arithmetic_on_what_was_measured(copied, monkeypatch, capsys):
    report = run_doctor(monkeypatch, capsys, copied.folder, "--folds", "2", "--workers", "1")[2]
    read = report["reading"]
    rates = {
        kind: sum(read[f"{half}_{kind}"]["files"] for half in ("train", "test"))
        / sum(read[f"{half}_{kind}"]["seconds"] for half in ("train", "test"))
        for kind in ("eegs", "spectrograms")
    }
    said = report["extrapolation"]
    assert said["eegs_per_second"] == pytest.approx(rates["eegs"])
    assert said["seconds"] == pytest.approx(17_089 / rates["eegs"] + 11_138 / rates["spectrograms"])


def test_workers_find_the_same(copied, monkeypatch, capsys):
    folds = ("--folds", "2")
    one, four = (run_doctor(monkeypatch, capsys, copied.folder, *folds, "--workers", n)[2] for n in ("1", "4"))
    for values in (one, four):
        del values["reading"], values["extrapolation"]
    assert one == four


def test_the_test_set_alone(copied, monkeypatch, capsys):
    for name in ("train.csv", "sample_submission.csv"):
        (copied.folder / name).unlink()
    code, said, report = run_doctor(monkeypatch, capsys, copied.folder)
    assert code == 1 and "--test-only" in said and report["counts"]["stops training"] == 1
    with opened(copied.folder / "train_eegs") as opens:
        code, said, report = run_doctor(monkeypatch, capsys, copied.folder, "--test-only")
    assert code == 0 and "predicting can start" in said and report["test_only"]
    assert set(report["reading"]) == {"test_eegs", "test_spectrograms"} and not opens
    (copied.folder / "test.csv").unlink()
    code, said, report = run_doctor(monkeypatch, capsys, copied.folder, "--test-only")
    assert code == 1 and "predicting CANNOT start" in said and report["counts"]["stops predicting"] == 1


def test_ctrl_c_ends_at_once_and_writes_nothing(sound, tmp_path, monkeypatch, capsys):
    from train.doctor import measure as doctor_files

    begun, examine, main_thread = [], doctor_files.examine, threading.main_thread()

    def slow(source):
        begun.append(source.id)
        if len(begun) == 3:
            signal.pthread_kill(main_thread.ident, signal.SIGINT)
        time.sleep(0.2)
        return examine(source)

    monkeypatch.setattr(doctor_files, "examine", slow)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who is started in the background ignores it
    copy = copy_of(sound, tmp_path / "competition").folder
    code, _, error = run_doctor(monkeypatch, capsys, copy, "--folds", "2", "--workers", "2")
    assert code == 130 and "interrupted" in error
    assert len(begun) < len(os.listdir(copy / "train_eegs"))
    assert not (tmp_path / "competition.json").exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
