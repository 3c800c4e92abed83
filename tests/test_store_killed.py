"""A build that is killed or loses its power leaves nothing that passes for whole, and goes on."""

import itertools
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from store_stage import contents, decoded, hold, whole_file, write_competition, write_eeg

from train.data import store_build, store_index
from train.data.store_index import EEGS, index_file, journal_file, read_index

BUILD = """
import sys
from pathlib import Path
from train.data import store_build, store_index
if __name__ == "__main__":
    store_index.SYNC_SECONDS, folder = 0, Path(sys.argv[1])
    store_build.hold_half(store_index.EEGS, folder, folder / "store", range(150), workers=2)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """150 recordings, and the files of a store of them that was made undisturbed."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "train_eegs").mkdir()
    for k in range(3):
        write_eeg(folder / f"{k}.parquet", 10_000, k)
    for k in range(150):
        os.link(folder / f"{k % 3}.parquet", folder / f"train_eegs/{k}.parquet")
    pl.DataFrame({"eeg_id": range(150)}).write_csv(folder / "train.csv")
    hold(EEGS, folder)
    expected = contents(folder)
    shutil.rmtree(folder / "store")
    return folder, expected


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("lines", [2, 60])
def test_a_killed_build_leaves_nothing_that_passes_for_whole_and_goes_on(many, monkeypatch, lines):
    folder, expected = many
    shutil.rmtree(folder / "store", ignore_errors=True)
    process = subprocess.Popen([sys.executable, "-c", BUILD, str(folder)], stderr=subprocess.DEVNULL)
    journal = folder / "store" / "eegs.journal.jsonl"
    while not journal.is_file() or journal.read_bytes().count(b"\n") <= lines:
        assert process.poll() is None
        time.sleep(0.002)
    workers = children(process.pid)
    process.kill()
    process.wait()
    assert not read_index(folder / "store", EEGS) and len(workers) >= 2
    ids = decoded(monkeypatch)
    hold(EEGS, folder, workers=1)  # this waits for workers that have not noticed yet
    assert lines <= 150 - len(ids) < 150
    assert contents(folder) == expected
    deadline = time.monotonic() + 10
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "workers outlive their build"
        time.sleep(0.05)


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

    for name in ("replace", "pwrite", "posix_fallocate", "truncate", "fsync"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    monkeypatch.setattr(Path, "unlink", guarded(Path.unlink))


@pytest.mark.parametrize("before", ["nothing", "a store of other files", "a journal of other files"])
def test_stopped_at_any_step_it_is_not_whole_and_goes_on(tmp_path, monkeypatch, before):
    """Also when the files are, after that, what they were when the store was whole."""
    monkeypatch.setattr(store_index, "SYNC_SECONDS", 0)
    first, second = (write_competition(tmp_path / name, (301, 401, 501)) for name in ("first", "second"))
    write_eeg(second / "train_eegs/101.parquet", 401, seed=9)
    expected = {folder: hold(EEGS, folder) and whole_file(folder) for folder in (first, second)}
    assert expected[first] != expected[second]
    for step in itertools.count():
        folder = shutil.copytree(first, tmp_path / str(step))
        if before == "nothing":
            shutil.rmtree(folder / "store")
        elif before == "a journal of other files":
            entries = read_index(folder / "store", EEGS).values()
            store_index.write_entries(journal_file(folder / "store", EEGS), EEGS, entries, whole=None)
            index_file(folder / "store", EEGS).unlink()
        changed = folder / "train_eegs/101.parquet"
        shutil.copy2(second / "train_eegs/101.parquet", changed)
        with monkeypatch.context() as patch, suppress(PowerCut):
            cut_power(patch, step)
            hold(EEGS, folder)
            break
        files = store_build.find_files(changed.parent, range(100, 103))
        if store_build.fits(read_index(folder / "store", EEGS), files):
            assert whole_file(folder) == expected[second] and step > 12, step
        for then in (first, second) if step % 2 else (second, first):
            shutil.copy2(then / "train_eegs/101.parquet", changed)
            hold(EEGS, folder)
            assert whole_file(folder) == expected[then], step
        shutil.rmtree(folder)
    assert step > 14 and whole_file(folder) == expected[second]
