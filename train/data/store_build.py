"""Make a half of the store, or what is left of it, or renew what no longer fits the competition's files.

Lengths are planned and the whole file is reserved first; then processes decode one recording each and write it at
its place. What is on the disk for good is said in a journal, so that a build killed at any moment goes on there.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import polars as pl
from tqdm import tqdm

from common.records import read_ahead
from train.data.store_index import (
    Entry,
    Half,
    Journal,
    MissingRecordings,
    StoreError,
    end_of,
    index_file,
    journal_file,
    read_entries,
    read_index,
    sync_folder,
    take_lock,
    values_file,
    write_entries,
)
from train.data.store_work import in_processes, store_recording

FEW_BYTES = 64 * 2**20  # less than this is stored before other processes have started
SHOWN = 5  # unreadable recordings named in a message

Stamps = dict[int, tuple[int, int]]  # recording -> bytes and mtime_ns of its file


def hold_half(
    half: Half, competition: Path, store: Path, ids: Iterable[int], workers: int | None = None
) -> tuple[BinaryIO, dict[int, Entry]]:
    """A half that holds these recordings as they are now, made first where it does not; its lock and its entries.

    Nobody changes it until the lock is closed. Raises MissingRecordings and StoreError.
    """
    source = competition / half.folder
    stamps = find_files(source, ids)
    while True:
        lock = take_lock(store, half, alone=False)
        entries = read_index(store, half)
        if fits(entries, stamps):
            return lock, entries
        lock.close()
        with take_lock(store, half, alone=True):
            if not fits(read_index(store, half), stamps):  # another build may have come first
                build(half, source, store, stamps, workers)


def find_files(source: Path, ids: Iterable[int]) -> Stamps:
    """Size and time of the recordings' files. Raises MissingRecordings."""
    wanted = {f"{recording}.parquet": recording for recording in sorted(set(ids))}
    stamps: Stamps = {}
    for file in os.scandir(source) if source.is_dir() else ():
        if file.name in wanted:
            with suppress(FileNotFoundError):  # a link that leads nowhere
                found = file.stat()
                stamps[wanted[file.name]] = found.st_size, found.st_mtime_ns
    missing = sorted(name for name, recording in wanted.items() if recording not in stamps)
    if missing:
        raise MissingRecordings(
            f"{source}: {len(missing)} of {len(wanted)} recordings of train.csv are not there, "
            f"first {missing[0]}; download the competition's files again"
        )
    return {recording: stamps[recording] for recording in wanted.values()}


def fits(entries: dict[int, Entry], stamps: Stamps) -> bool:
    return all(recording in entries and entries[recording].stamp == stamp for recording, stamp in stamps.items())


def build(half: Half, source: Path, store: Path, stamps: Stamps, workers: int | None) -> None:
    """Write what the half lacks. The caller holds its lock alone."""
    values, index, journal = (name(store, half) for name in (values_file, index_file, journal_file))
    known = read_index(store, half) or read_entries(journal, half, whole=False)
    plan = make_plan(half, source, stamps, known)
    size = values.stat().st_size if values.is_file() else 0
    done = [known[e.id] for e in plan if e.id in known and known[e.id].same_values(e) and end_of([e], half) <= size]
    try:
        write_entries(journal, half, done, whole=None)
        index.unlink(missing_ok=True)  # before the first byte: from here on, and until the end, there is no store
        sync_folder(store)
        reserve(values, end_of(plan, half))
        finished = {entry.id for entry in done}
        todo = [entry for entry in plan if entry.id not in finished]
        stored = store_recordings(half, source, store, todo, workers, start=sum(half.bytes_of(e.n_time) for e in done))
        write_entries(index, half, sorted([*done, *stored], key=lambda entry: entry.offset), whole=len(plan))
        journal.unlink()
    except OSError as error:
        raise StoreError(
            f"{error.filename or values}: {error.strerror}, {gibibytes(shutil.disk_usage(store).free)} are free: mend "
            "that, or give another folder with --store; the same command goes on where this one ended"
        ) from error


def make_plan(half: Half, source: Path, stamps: Stamps, known: dict[int, Entry]) -> list[Entry]:
    """Where each recording will lie, in the order of their ids. Raises StoreError with all unreadable files."""
    lengths = {r: known[r].n_time for r, stamp in stamps.items() if r in known and known[r].stamp == stamp}
    unread = [recording for recording in stamps if recording not in lengths]
    problems = []
    counted = read_ahead(lambda recording: count_rows(source / f"{recording}.parquet"), unread, ahead=64)
    for recording, found in tqdm(zip(unread, counted, strict=True), f"measuring {half.name}", len(unread), unit="file"):
        if isinstance(found, str):
            problems.append(found)
        else:
            lengths[recording] = found
    refuse(problems, source, len(stamps))
    plan, offset = [], 0
    for recording, stamp in stamps.items():
        plan.append(Entry(recording, offset, lengths[recording], *stamp))
        offset += half.bytes_of(lengths[recording])
    return plan


def count_rows(path: Path) -> int | str:
    """Rows of a parquet file as its footer says, or why they cannot be known."""
    try:
        rows = int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        return f"{path.name}: not a readable parquet file ({str(error).strip().splitlines()[0]})"
    return rows or f"{path.name}: no rows"


def refuse(problems: list[str], source: Path, n_files: int) -> None:
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise StoreError(
            f"{source}: {len(problems)} of {n_files} recordings cannot be stored; download them again, or take their "
            "rows out of train.csv; the same command then goes on\n  " + "\n  ".join([*problems[:SHOWN], *more])
        )


def reserve(values: Path, size: int) -> None:
    """Make room for the whole file now: a disk that is too small is found before the work, and never by a reader."""
    with open(values, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # workers of a build that was killed a moment ago are gone after this
        before = file.seek(0, os.SEEK_END)
        try:
            os.posix_fallocate(file.fileno(), 0, size)
            os.truncate(file.fileno(), size)
            os.fsync(file.fileno())
        except OSError as error:
            os.truncate(file.fileno(), before)
            raise StoreError(
                f"{values}: {gibibytes(size)} cannot be reserved ({error.strerror}), "
                f"{gibibytes(shutil.disk_usage(values.parent).free)} are free: make room, or give another folder "
                "with --store"
            ) from error


def gibibytes(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB"


def store_recordings(
    half: Half, source: Path, store: Path, todo: list[Entry], workers: int | None, start: int
) -> list[Entry]:
    """Decode and write these recordings; their entries with what the reader found. Raises StoreError."""
    values, stored, problems = values_file(store, half), [], []
    left = sum(half.bytes_of(entry.n_time) for entry in todo)
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if left > FEW_BYTES else 1
    job = partial(store_recording, half, source, values)
    outcomes = (job(entry) for entry in todo) if workers == 1 else in_processes(job, todo, workers, values)
    bar = tqdm(desc=f"storing {half.name}", total=start + left, initial=start, unit="B", unit_scale=True)
    with Journal(values, journal_file(store, half)) as journal, bar, closing(outcomes):
        for entry, outcome in zip(todo, outcomes, strict=True):
            if isinstance(outcome, str):
                problems.append(outcome)
            else:
                stored.append(outcome)
                journal.add(outcome)
            bar.update(half.bytes_of(entry.n_time))
    refuse(problems, source, len(todo))
    return stored
