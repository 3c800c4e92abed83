"""Copies of a sound simulated competition to plant faults in, and `python -m train doctor` on them."""

import json
import os
import shutil
import signal
import sys

import polars as pl


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
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        code = main()
    finally:
        signal.signal(signal.SIGTERM, terminated)
    said = capsys.readouterr()
    return code, said.out, json.loads(file.read_text()) if file.exists() else said.err
