"""What many recordings have in common is no repair: training, the doctor and a public run stop and name it."""

import os

import numpy as np
import polars as pl
import pytest
from conftest import command
from doctor_stage import copy_of, run_doctor
from eeg_samples import eeg_like

from common.records import read_eeg
from common.systematic import SystematicError, another_rate, systematic
from infer.submit import submit
from train.data.labels import label_rows
from train.data.recording_kinds import EEGS, SPECTROGRAMS
from train.data.windows import check_first_files
from train.simulate.recording_files import write_eeg

# ---- what counts


def test_more_than_a_few_of_the_first_or_all_of_few():
    other, same = ("extra columns ignored: 1 (a)",), ("missing columns read as NaN: 1 (O1)",)
    assert systematic([]) == [] and systematic([()] * 50) == []
    assert systematic([same] * 3 + [()] * 40) == []
    assert systematic([same] * 4 + [()] * 40) == [f"4 of the first 20 files: {same[0]}"]
    assert systematic([()] * 20 + [same] * 40) == []  # later ones are a file's own fault each
    assert systematic([(f"extra columns ignored: 1 ({k})",) for k in range(20)]) == []  # each another
    both = [f"9 of the first 20 files: {same[0]}", f"5 of the first 20 files: {other[0]}"]
    assert systematic([(*same, *other)] * 5 + [same] * 4 + [()] * 20) == both
    assert systematic([same] * 2) == [f"2 of the first 2 files: {same[0]}"] and systematic([same, other]) == []
    assert len(systematic([(*same, *same, *other)])) == 2 and systematic([same, ()]) == []


def test_another_rate_is_one_factor_for_all():
    windows = [10_000, 10_000, 12_400, 18_000] * 5
    assert another_rate(windows, windows) == []
    assert another_rate([int(1.28 * n) for n in windows], windows) == ["20 of the first 20 files: as long as at 256 Hz"]
    most = [int(1.25 * n) for n in windows[:17]] + windows[17:]
    assert another_rate(most, windows) == ["17 of the first 20 files: as long as at 250 Hz"]
    assert another_rate([n + 400 for n in windows], windows) == []  # 2 s more than the labels need
    longer = np.random.default_rng(0).integers(10_000, 40_000, 20)  # as in a test set split off train.csv
    assert another_rate(longer, [10_000] * 20) == [] == another_rate([], [])
    assert another_rate([10_000] * 19 + [5_000], [10_000] * 20) == []
    assert another_rate([12_500], [10_000]) == ["1 of the first 1 files: as long as at 250 Hz"]  # the public test set


@pytest.mark.parametrize(
    ("factor", "said"), [(1e-6, "volts"), (1e-3, "volts"), (1e3, "nanovolts"), (1, None), (30, None), (0.2, None)]
)
def test_another_unit_is_named(tmp_path, factor, said):
    write_eeg(tmp_path / "7.parquet", eeg_like(0) * factor)
    found = read_eeg(tmp_path / "7.parquet").structural
    assert len(found) == (said is not None) and all(said in text for text in found)


def test_an_amplifiers_offset_is_no_amplitude(tmp_path):
    write_eeg(tmp_path / "7.parquet", eeg_like(0) + 20_000)
    assert read_eeg(tmp_path / "7.parquet").structural == ()


# ---- the commands


@pytest.fixture(scope="module")
def sound(road):
    return road.competition


def renamed(frame):
    """As newer montages have it."""
    return frame.rename({"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"})


CHANGES = {
    "other electrodes": ("eegs", renamed, "missing columns read as NaN: 4 (T3, T5, T4, T6)"),
    "no electrodes": (
        "eegs",
        lambda frame: frame.rename(lambda name: f"EEG {name}"),
        "none of its 20 columns (EEG",
    ),
    "another unit": ("eegs", lambda frame: frame.select(pl.all() * 1e-6), "typical amplitude below 0.5 uV"),
    "another rate": ("eegs", lambda frame: frame.gather_every(2), "as long as at 100 Hz"),
    "an index": ("spectrograms", lambda frame: frame.with_row_index("level_0"), "extra columns ignored: 1 (level_0)"),
    "another step": ("spectrograms", lambda frame: frame.with_columns(pl.col("time") // 2), "a row every 1 s"),
    "another grid": (
        "spectrograms",
        lambda frame: frame.rename(lambda name: name.replace("_", "_0") if name.endswith("9") else name + "1"),
        "columns",
    ),
}


FAST = ("other electrodes", "another step")
SOME_SLOW = [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in CHANGES]


def change_all(competition, part, kind, change):
    folder = f"{part}_{kind}"
    for file in sorted(os.listdir(competition.folder / folder)):
        competition.change(f"{folder}/{file}", change)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_training_and_the_doctor_stop_and_say_what_is_expected(sound, name, tmp_path, monkeypatch, capsys):
    kind, change, said = CHANGES[name]
    competition = copy_of(sound, tmp_path / "competition")
    change_all(competition, "train", kind, change)
    code, _, values = run_doctor(monkeypatch, capsys, competition.folder, "--folds", "2")
    (found,) = [finding for finding in values["findings"] if finding["check"] == "structure"]
    assert code == 1 and found["severity"] == "stops training" and found["where"] == f"train_{kind}"
    assert said in found["cases"][0] and "in microvolts at 200 Hz" in found["todo"]
    half, rows = (EEGS if kind == "eegs" else SPECTROGRAMS), label_rows(competition.folder)
    with pytest.raises(SystematicError, match=f"^train_{kind}: ") as refusal:
        check_first_files(half, competition.folder, rows)
    assert said in str(refusal.value) and "in microvolts at 200 Hz" in str(refusal.value)


@pytest.mark.slow
def test_a_run_stops_before_anything_is_stored(sound, tmp_path):
    competition = copy_of(sound, tmp_path / "competition")
    change_all(competition, "train", "eegs", renamed)
    where = ("--competition", competition.folder, "--store", tmp_path / "store", "--out", tmp_path / "runs")
    done = command("-m", "train", "run", "train/configs/smoke-wave-bipolar.toml", *where)
    assert done.returncode == 1 and "error: train_eegs: " in done.stderr and "T7, P7, T8, P8" in done.stderr
    assert "in microvolts at 200 Hz" in done.stderr and not (tmp_path / "store").exists()


@pytest.mark.slow
def test_one_such_file_among_sound_ones_is_repaired(sound, tmp_path, monkeypatch, capsys):
    competition = copy_of(sound, tmp_path / "competition")
    first = sorted(os.listdir(competition.folder / "train_eegs"))[0]
    competition.change(f"train_eegs/{first}", renamed)
    code, _, values = run_doctor(monkeypatch, capsys, competition.folder, "--folds", "2")
    assert code == 0 and "structure" not in {finding["check"] for finding in values["findings"]}
    done = command("-m", "train", "store", "--competition", competition.folder, "--store", tmp_path / "store")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", SOME_SLOW)
def test_a_public_run_stops_and_the_hidden_one_goes_on_loudly(road, name, tmp_path, capsys):
    kind, change, said = CHANGES[name]
    competition = copy_of(road.competition, tmp_path / "competition")
    change_all(competition, "test", kind, change)
    out = tmp_path / "submission.csv"
    with pytest.raises(SystematicError, match="the test recordings: "):
        submit(competition.folder, road.datasets, road.blend, out)
    assert not out.exists()
    report = submit(competition.folder, road.datasets, road.blend, out, forgiving=True)
    (warning,) = [text for text in report.warnings if "MADE OTHERWISE" in text]
    assert said in warning and warning in capsys.readouterr().err
    assert pl.read_csv(out).height == report.rows > 0


def test_one_such_test_recording_is_repaired_and_counted(road, tmp_path):
    competition = copy_of(road.competition, tmp_path / "competition")
    eeg_id = pl.read_csv(competition.folder / "test.csv")["eeg_id"][0]
    competition.change(f"test_eegs/{eeg_id}.parquet", renamed)
    report = submit(competition.folder, road.datasets, road.blend, tmp_path / "submission.csv")
    named = {entry["what"].split(":")[1] for entry in report.repaired if entry["eeg_id"] == str(eeg_id)}
    assert {" missing columns read as NaN", " extra columns ignored"} <= named and not report.warnings
