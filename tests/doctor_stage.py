"""A sound simulated competition, copies of it to plant faults in, and `python -m train doctor` on them."""

import ctypes
import fcntl
import json
import os
import shutil
import struct
import sys
from collections import Counter
from contextlib import contextmanager

import polars as pl
from conftest import command

SEED = "17"  # few recordings
TABLES = ("train.csv", "test.csv", "sample_submission.csv")


def sound_competition(tmp_path_factory):
    """Simulated by the command, once for all workers of pytest-xdist; tests only read it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with open(shared / "doctor.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the second finds it there
        folder = shared / "doctor-competition"
        made = command("-m", "train", "simulate", folder, "--patients", "4", "--seed", SEED)
    assert made.returncode == 0, made.stderr
    return folder


class Competition:
    """A folder whose files a test may change: what is written is a new file, the original's link goes."""

    def __init__(self, folder):
        self.folder = folder

    def table(self, name="train.csv"):
        return pl.read_csv(self.folder / name)

    def write(self, name, content):
        (self.folder / name).unlink(missing_ok=True)
        (self.folder / name).write_bytes(content)

    def edit(self, name, row, **values):
        """Cells of one row of a table."""
        table = self.table(name).cast({column: pl.String for column, v in values.items() if isinstance(v, str)})
        there = pl.int_range(pl.len()) == row
        changed = {c: pl.when(there).then(pl.lit(value)).otherwise(pl.col(c)) for c, value in values.items()}
        self.write(name, table.with_columns(**changed).write_csv().encode())

    def recording(self, folder, recording):
        return f"{folder}/{recording}.parquet"

    def change(self, name, change):
        """A recording anew, by a function of its frame."""
        frame = change(pl.read_parquet(self.folder / name))
        (self.folder / name).unlink()
        frame.write_parquet(self.folder / name)


def copy_of(competition, folder):
    """As links: a copy costs nothing."""
    shutil.copytree(competition, folder, copy_function=os.link, ignore=shutil.ignore_patterns("truth"))
    return Competition(folder)


def run_doctor(monkeypatch, capsys, folder, *options):
    """The command, in this process: exit code, output, JSON."""
    from train.__main__ import main

    file = folder.parent / f"{folder.name}.json"
    file.unlink(missing_ok=True)
    words = ["train", "doctor", "--competition", folder, "--json", file, *options]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # main sets it
    code = main()
    said = capsys.readouterr()
    return code, said.out, json.loads(file.read_text()) if file.exists() else said.err


@contextmanager
def opened(*folders):
    """Counts how often each file of these folders is opened meanwhile, by anyone: the kernel says it."""
    libc, opens = ctypes.CDLL(None, use_errno=True), Counter()
    number = libc.inotify_init1(os.O_NONBLOCK)
    # Closing is watched, too: of two equal events in a row the kernel would keep one.
    watched = [libc.inotify_add_watch(number, bytes(folder), 0x20 | 0x10) for folder in folders]
    assert number >= 0 and min(watched) >= 0, os.strerror(ctypes.get_errno())
    try:
        yield opens
        try:
            events, place = os.read(number, 1 << 22), 0
        except BlockingIOError:  # nothing happened
            return
        while place < len(events):
            _, mask, _, length = struct.unpack_from("iIII", events, place)
            name = events[place + 16 : place + 16 + length].rstrip(b"\0").decode()
            opens[name] += bool(mask & 0x20) and bool(name)
            place += 16 + length
    finally:
        os.close(number)
