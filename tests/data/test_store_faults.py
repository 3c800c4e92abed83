"""A store or files that are damaged, a disk that is full, two builds at once, a build that is ended at any moment."""

import errno
import itertools
import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from store_stage import LENGTHS, contents, counted, hold, stored_values, write_competition, write_eeg

from common.inputs.kaggle_image import KaggleImage
from common.schema import N_ELECTRODES
from train import __main__ as train_main
from train.data import store_build
from train.data.labels import label_rows
from train.data.recording_kinds import EEGS
from train.data.store import RecordingStore
from train.data.store_build import StoreError, build_lock, find_files, fits, read_store, values_file
from train.data.windows import TrainingWindows


@pytest.fixture
def competition(tmp_path):
    return write_competition(tmp_path / "competition")


def is_whole(competition):
    return bool(read_store(competition / "store", EEGS)[1])


def test_a_damaged_store_is_made_again(competition):
    hold(competition)
    expected, values = contents(competition), values_file(competition / "store", EEGS)
    index = competition / "store/eegs.index.jsonl"
    text = index.read_text()
    damages = {
        "half an index": lambda: index.write_text(text[: len(text) // 2]),
        "another format": lambda: index.write_text(text.replace(f'"format":{store_build.FORMAT}', '"format":1')),
        "short values": lambda: os.truncate(values, values.stat().st_size - 4),
        "no values": values.unlink,
    }
    for damage, make in damages.items():
        make()
        assert not is_whole(competition), damage
        hold(competition)
        assert contents(competition) == expected, damage


# ---- files that cannot be stored


def test_unreadable_recordings_are_all_named_and_the_rest_is_kept(competition):
    eegs = competition / "train_eegs"
    (eegs / "100.parquet").write_bytes((eegs / "100.parquet").read_bytes()[:-50])
    pl.DataFrame({"time": [1.0, 2.0]}).write_parquet(eegs / "102.parquet")
    reasons = r"2 of 4 recordings cannot be stored(.|\n)*100\.parquet: not a readable(.|\n)*102\.parquet: none of its 1"
    with pytest.raises(StoreError, match=reasons):
        hold(competition)
    for k, n_time in ((100, 10_000), (102, 301)):
        write_eeg(eegs / f"{k}.parquet", n_time, k)
    kind, ids = counted()
    assert list(hold(competition, kind)) == [100, 101, 102, 103] and ids == [100, 102]


def test_the_command_names_missing_and_unreadable_files(competition, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", "store", "--competition", str(competition)])
    (competition / "train_spectrograms/103.parquet").write_bytes(b"PAR1")
    assert train_main.main() == 1
    assert "train_spectrograms: 1 of 4 recordings cannot be stored" in capsys.readouterr().err
    (competition / "train_eegs/101.parquet").unlink()
    assert train_main.main() == 1
    assert "1 of 4 recordings of train.csv are not there, first 101.parquet" in capsys.readouterr().err
    with pytest.raises(StoreError):
        hold(competition)


def test_a_file_that_changes_during_the_build_is_read_again(competition):
    path = competition / "train_eegs/101.parquet"
    kind, ids = counted()
    found = find_files(path.parent, range(100, 104))
    write_eeg(path, 12_400, seed=9)  # after the build looked at the files
    with build_lock(competition / "store", EEGS):
        store_build.build(kind, path.parent, competition / "store", found, threads=1)
    ids.clear()
    hold(competition, kind)
    assert ids == [101]


# ---- no room, no right, not alone


def no_room(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("before", ["nothing", "a store"])
def test_a_full_disk_is_named_and_nothing_passes_for_whole(competition, monkeypatch, before):
    if before == "a store":
        hold(competition)
        write_eeg(competition / "train_eegs/101.parquet", 12_400, seed=9)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        with pytest.raises(StoreError, match=r"eegs\.f32: .*No space left on device.* free: .*--store"):
            hold(competition)
    assert is_whole(competition) == (before == "a store")  # of the files that it names, with their old times
    assert not list((competition / "store").glob("*.partial"))
    hold(competition)
    assert len(stored_values(competition)) == 4 * N_ELECTRODES * sum(LENGTHS)


def test_a_disk_that_is_far_too_small_is_named_before_the_work(competition, monkeypatch):
    kind, ids = counted()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 0, 10**6))
    with pytest.raises(StoreError, match=r"eegs\.f32: the eegs take about 0\.00 GiB, 0\.00 GiB are free: make room"):
        hold(competition, kind)
    assert not ids


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
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])


@pytest.mark.slow
def test_a_read_only_competition(competition, tmp_path):
    script = 'mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"; "$2" -m train store --competition "$1" $3 $4'
    done = on_a_mount(script, competition, sys.executable)
    assert done.returncode == 1
    assert "store/eegs.lock: Read-only file system: give a folder that can be written with --store" in done.stderr
    done = on_a_mount(script, competition, sys.executable, "--store", tmp_path / "elsewhere")
    assert done.returncode == 0 and len(read_store(tmp_path / "elsewhere", EEGS)[1]) == 4
    shutil.copytree(tmp_path / "elsewhere", competition / "store", copy_function=shutil.copy2)
    done = on_a_mount(script, competition, sys.executable)  # a whole one needs no writing
    assert done.returncode == 0, done.stderr


def test_who_comes_second_waits_and_makes_nothing_again(competition, monkeypatch):
    (kind, ids), waits = counted(), threading.Event()
    monkeypatch.setattr(store_build, "print", lambda line, **_: "waiting for another" in line and waits.set(), False)
    second = threading.Thread(target=hold, args=(competition, kind))
    with build_lock(competition / "store", EEGS):
        second.start()
        assert waits.wait(60)
        source = competition / "train_eegs"
        store_build.build(EEGS, source, competition / "store", find_files(source, range(100, 104)), threads=1)
    second.join()
    assert not ids and is_whole(competition)


def test_a_renewed_store_leaves_what_is_read_as_it_was(competition):
    reader = RecordingStore(EEGS, competition, competition / "store", range(100, 104))
    expected = EEGS.read(competition / "train_eegs/103.parquet").values
    write_eeg(competition / "train_eegs/101.parquet", 500, seed=3)
    assert hold(competition)[103].offset != reader.entries[103].offset
    np.testing.assert_array_equal(reader.recording(103).numpy(), expected)


# ---- ended


class PowerCut(BaseException):
    pass


def cut_power(monkeypatch, step):
    """From the `step`-th change to a file on, nothing changes any more."""
    steps = itertools.count()

    def guarded(change):
        def call(*given, **options):
            if next(steps) >= step:
                raise PowerCut
            return change(*given, **options)

        return call

    for place, name in ((os, "replace"), (os, "fsync"), (Path, "unlink"), (np, "ascontiguousarray")):
        monkeypatch.setattr(place, name, guarded(getattr(place, name)))


@pytest.mark.parametrize("before", ["nothing", "a store of other files"])
def test_stopped_at_any_step_it_is_not_whole_and_the_next_build_is(tmp_path, monkeypatch, before):
    """Also when the files are, after that, what they were when the store was whole."""
    first, second = (write_competition(tmp_path / name, (301, 401, 501)) for name in ("first", "second"))
    write_eeg(second / "train_eegs/101.parquet", 401, seed=9)
    expected = {folder: hold(folder) and stored_values(folder) for folder in (first, second)}
    assert expected[first] != expected[second]
    for step in itertools.count():
        folder = shutil.copytree(first, tmp_path / str(step))
        if before == "nothing":
            shutil.rmtree(folder / "store")
        changed = folder / "train_eegs/101.parquet"
        shutil.copy2(second / "train_eegs/101.parquet", changed)
        with monkeypatch.context() as patch, suppress(PowerCut):
            cut_power(patch, step)
            hold(folder)
            break
        if fits(read_store(folder / "store", EEGS)[1], find_files(changed.parent, range(100, 103))):
            assert stored_values(folder) == expected[second] and step > 5, step
        for then in (first, second) if step % 2 else (second, first):
            shutil.copy2(then / "train_eegs/101.parquet", changed)
            hold(folder)
            assert stored_values(folder) == expected[then], step
        shutil.rmtree(folder)
    assert step > 6 and stored_values(folder) == expected[second]
