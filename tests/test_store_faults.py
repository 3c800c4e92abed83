"""What happens to the store when it or the files are damaged, the disk is full, two want the same."""

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from store_stage import LENGTHS, contents, decoded, hold, whole_file, write_competition, write_eeg

from common.config import KaggleImage
from common.records import Recording, read_eeg
from train import __main__ as train_main
from train.data import store_build
from train.data.labels import label_rows
from train.data.store_build import hold_half
from train.data.store_index import EEGS, MissingRecordings, StoreError, read_index, take_lock, values_file
from train.data.store_work import in_processes
from train.data.windows import TrainingWindows

TRAIN = [sys.executable, "-m", "train"]


@pytest.fixture
def competition(tmp_path):
    return write_competition(tmp_path / "competition")


@pytest.mark.parametrize("damage", ["half an index", "no first line", "short values", "no values", "another format"])
def test_a_damaged_store_is_made_again(competition, monkeypatch, damage):
    hold(EEGS, competition)
    expected, values = contents(competition), values_file(competition / "store", EEGS)
    index = competition / "store/eegs.index.jsonl"
    text = index.read_text()
    if damage == "half an index":
        index.write_text(text[: len(text) // 2])
    elif damage == "no first line":
        index.write_text(text.split("\n", 1)[1])
    elif damage == "another format":
        index.write_text(text.replace('"format":2', '"format":1'))
    else:
        os.truncate(values, values.stat().st_size - 4) if damage == "short values" else values.unlink()
    assert not read_index(competition / "store", EEGS)
    hold(EEGS, competition)
    assert contents(competition) == expected


# ---- files that cannot be stored


def test_unreadable_recordings_are_all_named_and_the_rest_is_kept(competition, monkeypatch):
    eegs = competition / "train_eegs"
    whole = (eegs / "100.parquet").read_bytes()
    (eegs / "100.parquet").write_bytes(whole[:-50])
    (eegs / "102.parquet").write_bytes(b"")
    with pytest.raises(StoreError, match=r"2 of 4 recordings cannot be stored; do(.|\n)*100\.parquet(.|\n)*102\.parq"):
        hold(EEGS, competition)
    (eegs / "100.parquet").write_bytes(whole)
    pl.DataFrame({"time": [1.0, 2.0]}).write_parquet(eegs / "102.parquet")  # only decoding finds out
    with pytest.raises(StoreError, match=r"1 of \d recordings cannot be stored(.|\n)*102\.parquet: none of its 1 col"):
        hold(EEGS, competition)
    assert not read_index(competition / "store", EEGS)
    ids = decoded(monkeypatch)
    write_eeg(eegs / "102.parquet", 301, 2)
    hold(EEGS, competition)
    assert ids == [102, 103] or ids == [102]


def test_the_command_names_missing_and_unreadable_files(competition, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", "store", "--competition", str(competition)])
    (competition / "train_spectrograms/103.parquet").write_bytes(b"PAR1")
    assert train_main.main() == 1
    assert "train_spectrograms: 1 of 4 recordings cannot be stored" in capsys.readouterr().err
    (competition / "train_eegs/101.parquet").unlink()
    assert train_main.main() == 1
    assert "1 of 4 recordings of train.csv are not there, first 101.parquet" in capsys.readouterr().err
    with pytest.raises(MissingRecordings):
        hold(EEGS, competition)


def shortened(path):
    recording = read_eeg(path)
    return Recording(recording.values[:, 1:], ())


def touched(path):
    recording = read_eeg(path)
    os.utime(path, ns=(1, 1))
    return recording


def removed(path):
    recording = read_eeg(path)
    path.unlink()
    return recording


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (shortened, "rows are read, its footer says"),
        (touched, "changed while the store was made"),
        (removed, "changed while the store was made"),
    ],
)
def test_files_that_change_meanwhile_are_named(competition, read, reason):
    with pytest.raises(StoreError, match=rf"4 of 4 recordings(.|\n)*100\.parquet: .*{reason}"):
        hold(dataclasses.replace(EEGS, read=read), competition)
    assert not read_index(competition / "store", EEGS)


def test_a_process_that_dies_is_named(competition):
    values = competition / "values"
    values.write_bytes(b"")
    with pytest.raises(StoreError, match=r"a process that read recordings was ended.*fewer processes than 2"):
        list(in_processes(os._exit, [1, 2, 3], 2, values))


# ---- no room, no right, not alone


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fsync"])
def test_a_full_disk_is_named_and_the_build_goes_on(competition, monkeypatch, call):
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, call, full)
        with pytest.raises(StoreError, match=r"eegs\.f32: .*No space left on device.* free: .*--store"):
            hold(EEGS, competition)
    assert not read_index(competition / "store", EEGS)
    hold(EEGS, competition)
    assert len(whole_file(competition)) == 80 * sum(LENGTHS)


def test_without_a_gpu_nothing_is_made_for_it(competition, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StoreError, match=r"--store-on-gpu: torch finds no GPU here; leave the option out"):
        TrainingWindows(competition, label_rows(competition), KaggleImage(), on_gpu=True)
    assert not (competition / "store").exists()


def on_a_mount(script, *words):
    """Run a shell script in a mount namespace of its own, in which we may mount."""
    command = ["unshare", "--map-root-user", "--mount", "sh", "-ec", script, "sh", *map(str, words)]
    if not shutil.which("unshare") or subprocess.run([*command[:3], "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespaces")
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=120)


def test_a_disk_that_is_really_full(competition, tmp_path):
    (tmp_path / "disk").mkdir()
    script = 'mount -t tmpfs -o size=1m tmpfs "$1"; "$2" -m train store --competition "$3" --store "$1"'
    done = on_a_mount(script, tmp_path / "disk", sys.executable, competition)
    assert done.returncode == 1 and done.stderr.count("error: ") == 1
    assert "eegs.f32: 0.00 GiB cannot be reserved (No space left on device), 0.00 GiB are free" in done.stderr


def test_a_read_only_competition(competition, tmp_path):
    script = 'mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"; "$2" -m train store --competition "$1" $3 $4'
    done = on_a_mount(script, competition, sys.executable, "--workers", "1")
    assert done.returncode == 1
    assert "store/eegs.lock: Read-only file system: give a folder that can be written with --store" in done.stderr
    done = on_a_mount(script, competition, sys.executable, "--store", tmp_path / "elsewhere")
    assert done.returncode == 0 and len(read_index(tmp_path / "elsewhere", EEGS)) == 4
    shutil.copytree(tmp_path / "elsewhere", competition / "store", copy_function=shutil.copy2)
    done = on_a_mount(script, competition, sys.executable, "--workers", "1")  # a whole one needs no writing
    assert done.returncode == 0, done.stderr


def test_who_comes_second_waits_and_makes_nothing_again(competition):
    lock = take_lock(competition / "store", EEGS, alone=True)
    command = [*TRAIN, "store", "--competition", str(competition)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert "waiting for another process, it is being built" in process.stderr.readline()
    store_build.build(
        EEGS,
        competition / "train_eegs",
        competition / "store",
        store_build.find_files(competition / "train_eegs", range(100, 104)),
        1,
    )
    lock.close()
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and "storing spectrograms" in errors and "storing eegs" not in errors


def test_a_store_in_use_is_not_changed(competition):
    reader = hold_half(EEGS, competition, competition / "store", range(100, 104))[0]
    write_eeg(competition / "train_eegs/101.parquet", 12_400, seed=3)
    before = whole_file(competition)
    process = subprocess.Popen([*TRAIN, "store", "--competition", str(competition)], stderr=subprocess.PIPE, text=True)
    assert "waiting for another process, a training or a build is using it" in process.stderr.readline()
    assert whole_file(competition) == before
    process.terminate()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    reader.close()
    hold(EEGS, competition)
    assert whole_file(competition) != before
