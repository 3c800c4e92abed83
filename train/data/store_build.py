"""Make the store: for each kind of recording one flat file of values, and an index of what lies where.

STORE/eegs.f32                    every recording after the other, (electrodes, time) microvolts, float32
STORE/spectrograms.f32            (regions, frequencies, columns) power, likewise
STORE/<kind>.index.jsonl          one line per recording; without it there is no store
STORE/<kind>.f32.partial          values of a build that goes on, or was ended: the next build starts again
STORE/<kind>.lock                 held by the one that builds
"""

import errno
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from common.errors import KitError
from common.files import write_text
from common.parallel import READERS, read_ahead
from common.records import Recording, RecordingError
from train.data.recording_kinds import RecordingKind

FORMAT = 2  # to be raised when the same recordings give other values or another layout
STORE = "store"  # in the competition folder, unless --store says otherwise
# Of 12 real EEGs 0.5 % of the values survive float16 (off by up to 16 uV) and 0.1 % int16 with a scale per channel;
# lossless zstd saves 22 %, and cannot be memory-mapped at any offset.
VALUE = np.dtype(np.float32)
SHOWN = 5  # unreadable recordings named in a message

Stamp = tuple[int, int]  # bytes and mtime_ns of a recording's file


class StoreError(KitError):
    """A store that cannot be made or read. The message names the file and says what to do."""


@dataclass(frozen=True)
class Entry:
    """One recording: where its values start (bytes), how long it is, which file it was made from."""

    id: int
    offset: int
    n_time: int
    file_bytes: int
    file_mtime_ns: int
    findings: tuple[str, ...]

    @property
    def stamp(self) -> Stamp:
        return self.file_bytes, self.file_mtime_ns

    def slice(self, kind: RecordingKind) -> slice:
        """The recording's place in the file of values."""
        first = self.offset // VALUE.itemsize
        return slice(first, first + kind.count(self.n_time))


Entries = dict[int, Entry]  # by the recording's id


def values_file(store: Path, kind: RecordingKind) -> Path:
    return store / f"{kind.name}.f32"


def index_file(store: Path, kind: RecordingKind) -> Path:
    return store / f"{kind.name}.index.jsonl"


def gibibytes(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB"


# ---- what a command calls


def open_store(
    kind: RecordingKind, competition: Path, store: Path, ids: Iterable[int], threads: int = READERS
) -> tuple[np.ndarray, Entries]:
    """All values (n,) and the entries of a store that holds these recordings as their files are now.

    It is made or renewed first where it does not. Raises StoreError.
    """
    source = competition / kind.folder
    stamps = find_files(source, ids)
    values, entries = read_store(store, kind)
    if not fits(entries, stamps):
        with build_lock(store, kind):
            values, entries = read_store(store, kind)  # another process may have built it meanwhile
            if not fits(entries, stamps):
                build(kind, source, store, stamps, threads)
                values, entries = read_store(store, kind)
    return values, entries


def find_files(source: Path, ids: Iterable[int]) -> dict[int, Stamp]:
    """The stamps of the recordings' files, by id. Raises StoreError."""
    wanted = {f"{recording}.parquet": recording for recording in sorted(set(ids))}
    stamps: dict[int, Stamp] = {}
    for file in os.scandir(source) if source.is_dir() else ():
        if file.name in wanted:
            with suppress(FileNotFoundError):  # a link that leads nowhere
                found = file.stat()
                stamps[wanted[file.name]] = found.st_size, found.st_mtime_ns
    missing = sorted(name for name, recording in wanted.items() if recording not in stamps)
    if missing:
        raise StoreError(
            f"{source}: {len(missing)} of {len(wanted)} recordings of train.csv are not there, "
            f"first {missing[0]}; download the competition's files again"
        )
    return {recording: stamps[recording] for recording in wanted.values()}


def fits(entries: Entries, stamps: dict[int, Stamp]) -> bool:
    return all(recording in entries and entries[recording].stamp == stamp for recording, stamp in stamps.items())


# ---- reading


def read_store(store: Path, kind: RecordingKind) -> tuple[np.ndarray, Entries]:
    """All values, memory-mapped, and their entries; no entries where there is no whole store of this format."""
    try:
        text = index_file(store, kind).read_bytes()
        values = np.memmap(values_file(store, kind), VALUE, "c")  # "c": torch warns of what it could not write to
        # A build takes the index away before it exchanges the values: where it is the same, these are its values.
        if index_file(store, kind).read_bytes() == text:
            head, *lines = map(json.loads, text.splitlines())
            entries = {line["id"]: Entry(**line | {"findings": tuple(line["findings"])}) for line in lines}
            end = max((entry.slice(kind).stop for entry in entries.values()), default=0)
            if head == index_head(kind, len(entries)) and end <= len(values):
                return values, entries
    except (OSError, ValueError, TypeError, KeyError):  # missing or damaged: to be made again
        pass
    return np.empty(0, VALUE), {}


def index_head(kind: RecordingKind, n_recordings: int) -> dict[str, Any]:
    return {"format": FORMAT, "half": kind.name, "recordings": n_recordings}  # "half": as older stores have it


# ---- building


@contextmanager
def build_lock(store: Path, kind: RecordingKind) -> Iterator[None]:
    """Held while one process builds; others wait. It ends with the process, however that ends."""
    path = store / f"{kind.name}.lock"
    try:
        store.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}: give a folder that can be written with --store") from error
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{store}: waiting for another process that makes the store", file=sys.stderr, flush=True)
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def build(kind: RecordingKind, source: Path, store: Path, stamps: dict[int, Stamp], threads: int) -> None:
    """Write all values under another name and rename them when they are whole; then write the index.

    Unreadable recordings are named at the end, all others are stored by then. The caller holds the lock.
    Raises StoreError.
    """
    values, index = values_file(store, kind), index_file(store, kind)
    partial = values.with_name(values.name + ".partial")
    stored: list[Entry] = []
    problems: list[str] = []
    try:
        with closing(read_recordings(kind, source, store, stamps, threads)) as recordings, open(partial, "wb") as file:
            for (recording, stamp), read in zip(stamps.items(), recordings, strict=True):
                if isinstance(read, str):
                    problems.append(read)
                else:
                    stored.append(Entry(recording, file.tell(), read.values.shape[-1], *stamp, read.findings))
                    file.write(np.ascontiguousarray(read.values, VALUE))
            file.flush()
            os.fsync(file.fileno())
        index.unlink(missing_ok=True)  # from here on, and until the new index is written, there is no store
        os.replace(partial, values)
        lines = [index_head(kind, len(stored)), *map(asdict, stored)]
        write_text(index, "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    except OSError as error:
        raise StoreError(
            f"{error.filename or values}: {error.strerror}, {gibibytes(shutil.disk_usage(store).free)} are free: "
            "make room or fix that, or give another folder with --store; then run the same command again"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise StoreError(
            f"{source}: {len(problems)} of {len(stamps)} recordings cannot be stored; download them again, or take "
            "their rows out of train.csv; the others are stored\n  " + "\n  ".join([*problems[:SHOWN], *more])
        )


def read_recordings(
    kind: RecordingKind, source: Path, store: Path, stamps: dict[int, Stamp], threads: int
) -> Generator[Recording | str, None, None]:
    """Each recording, or why it cannot be read; from the present store where its file did not change since."""
    present, entries = read_store(store, kind)
    kept = {recording: entry for recording, entry in entries.items() if entry.stamp == stamps.get(recording)}
    if not kept:  # the old values make room for the new ones
        for file in (index_file(store, kind), values_file(store, kind)):
            file.unlink(missing_ok=True)
    need = sum(size for size, _ in stamps.values())  # the values take about as much, hardly ever less than half of it
    if shutil.disk_usage(store).free < need / 2:
        raise OSError(errno.ENOSPC, f"the {kind.name} take about {gibibytes(need)}", str(values_file(store, kind)))

    def read(recording: int) -> Recording | str:
        if recording in kept:
            entry = kept[recording]
            return Recording(present[entry.slice(kind)].reshape(*kind.shape, entry.n_time), entry.findings)
        try:
            return kind.read(source / f"{recording}.parquet")
        except RecordingError as error:
            return str(error)

    with closing(read_ahead(read, stamps, ahead=2 * threads, threads=threads)) as recordings:
        yield from tqdm(recordings, f"storing {kind.name}", len(stamps), unit="file")
