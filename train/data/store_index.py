"""What lies in a store, and where: two halves, each a flat file of values and an index.

STORE/eegs.f32                    every recording after the other, (20, time) microvolts, float32
STORE/spectrograms.f32            (4, 100, columns) power, likewise
STORE/<half>.index.jsonl          one line per recording; written last: without it there is no store
STORE/<half>.journal.jsonl        the same lines while the values are being written, for the next try
STORE/<half>.lock                 held by the one that writes, shared by all that read
"""

import fcntl
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from common.errors import KitError
from common.records import Recording, read_eeg, read_spectrogram
from common.schema import (
    N_ELECTRODES,
    N_FREQUENCIES,
    REGIONS,
    SFREQ,
    SPECTROGRAM_COLUMNS,
    SPECTROGRAM_STEP_SECONDS,
    TRAIN_EEGS,
    TRAIN_SPECTROGRAMS,
    WINDOW_SAMPLES,
)

FORMAT = 2  # to be raised when the same recordings give other values or another layout
STORE = "store"  # in the competition folder, unless --store says otherwise
# Why float32: in 12 real EEGs 0.5 % of the values survive float16 (off by up to 16 uV) and 0.1 % survive int16 with a
# scale per channel; lossless lz4 saves 2 %, zstd with bytes shuffled 22 % (20 % of spectrograms), and neither can be
# memory-mapped at any offset.
VALUE_BYTES = 4
SYNC_SECONDS = 5.0  # at most so much work is done again after a kill


class StoreError(KitError):
    """A store that cannot be made or read. The message names the file and says what to do."""


class MissingRecordings(KitError):
    """Label rows whose recordings are not there."""


@dataclass(frozen=True)
class Half:
    """One of the two kinds of recording: where its files are, and how they lie in the store."""

    name: str
    folder: str  # of the competition
    column: str  # of the label rows: the recordings' ids
    start: str  # of the label rows: where a window starts, in samples or columns
    read: Callable[[Path], Recording]
    shape: tuple[int, ...]  # of a recording, before time
    rate: float  # samples or columns in a second
    length: int  # of a window, samples or columns

    def bytes_of(self, n_time: int) -> int:
        return VALUE_BYTES * math.prod(self.shape) * n_time


EEGS = Half("eegs", TRAIN_EEGS, "eeg_id", "eeg_start", read_eeg, (N_ELECTRODES,), SFREQ, WINDOW_SAMPLES)
SPECTROGRAMS = Half(
    *("spectrograms", TRAIN_SPECTROGRAMS, "spectrogram_id", "spectrogram_start", read_spectrogram),
    shape=(len(REGIONS), N_FREQUENCIES),
    rate=1 / SPECTROGRAM_STEP_SECONDS,
    length=SPECTROGRAM_COLUMNS,
)
HALVES = (EEGS, SPECTROGRAMS)


@dataclass(frozen=True)
class Entry:
    """One recording: where its values start (bytes), how long it is, which file it was made from."""

    id: int
    offset: int
    n_time: int
    file_bytes: int
    file_mtime_ns: int
    findings: tuple[str, ...] = ()

    def same_values(self, other: "Entry") -> bool:
        """Whether both say the same but for the findings, which a plan does not know yet."""
        return (self.id, self.offset, self.n_time, self.stamp) == (other.id, other.offset, other.n_time, other.stamp)

    @property
    def stamp(self) -> tuple[int, int]:
        return self.file_bytes, self.file_mtime_ns


def values_file(store: Path, half: Half) -> Path:
    return store / f"{half.name}.f32"


def index_file(store: Path, half: Half) -> Path:
    return store / f"{half.name}.index.jsonl"


def journal_file(store: Path, half: Half) -> Path:
    return store / f"{half.name}.journal.jsonl"


def as_line(values: object) -> str:
    return json.dumps(values, separators=(",", ":")) + "\n"


def write_entries(path: Path, half: Half, entries: Iterable[Entry], whole: int | None) -> None:
    """A file of entries, on the disk before it has its name. `whole`: how many there are, None for a journal."""
    temporary = path.with_name(path.name + ".partial")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(as_line({"format": FORMAT, "half": half.name, "recordings": whole}))
        file.writelines(as_line(asdict(entry)) for entry in entries)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Names given and taken in a folder are on the disk after this."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def read_entries(path: Path, half: Half, whole: bool) -> dict[int, Entry]:
    """Entries by id; none of a file that is missing, of another format or, if it must be whole, that is not.

    A journal may end in half a line: its writer was killed.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    entries: dict[int, Entry] = {}
    try:
        head = json.loads(lines[0])
        expected = head["recordings"] if (head["format"], head["half"]) == (FORMAT, half.name) else -1
        for line in lines[1:]:
            values = json.loads(line) if line else {}
            numbers = [values.get(name, 0) for name in ("id", "offset", "n_time", "file_bytes", "file_mtime_ns")]
            if not all(isinstance(number, int) and number >= 0 for number in numbers):
                raise ValueError("not an entry")
            if values:
                entries[values["id"]] = Entry(**values | {"findings": tuple(values["findings"])})
    except (ValueError, TypeError, KeyError, AttributeError):
        if not entries:
            return {}
    return entries if expected == (len(entries) if whole else None) else {}


def read_index(store: Path, half: Half) -> dict[int, Entry]:
    """The entries of a whole half by id, none if it is not whole."""
    entries = read_entries(index_file(store, half), half, whole=True)
    try:
        size = values_file(store, half).stat().st_size
    except FileNotFoundError:
        return {}
    return entries if size >= end_of(entries.values(), half) else {}


def end_of(entries: Iterable[Entry], half: Half) -> int:
    """Bytes that the values of these entries take, from the start of the file."""
    return max((entry.offset + half.bytes_of(entry.n_time) for entry in entries), default=0)


def take_lock(store: Path, half: Half, alone: bool) -> BinaryIO:
    """Hold a half's lock, to write alone or to read with others, until the file is closed or the process ends."""
    path = store / f"{half.name}.lock"
    try:
        store.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if alone or not path.is_file():
            raise StoreError(f"{path}: {error.strerror}: give a folder that can be written with --store") from error
        number = os.open(path, os.O_RDONLY)  # a finished store on a read-only disk
    file = os.fdopen(number, "rb")
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = "a training or a build is using it" if alone else "it is being built"
        print(f"{store}: waiting for another process, {holder}", file=sys.stderr, flush=True)
        fcntl.flock(file, kind)
    return file


class Journal:
    """Says which recordings are on the disk for good; never one whose values are not."""

    def __init__(self, values: Path, path: Path) -> None:
        self.values = os.fdopen(os.open(values, os.O_RDONLY), "rb")
        self.file = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "w", encoding="utf-8")
        self.waiting: list[Entry] = []
        self.synced = time.monotonic()

    def add(self, entry: Entry) -> None:
        self.waiting.append(entry)
        if time.monotonic() - self.synced > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        os.fsync(self.values.fileno())
        self.file.writelines(as_line(asdict(entry)) for entry in self.waiting)
        self.file.flush()
        os.fsync(self.file.fileno())
        self.waiting.clear()
        self.synced = time.monotonic()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        with self.values, self.file:
            self.sync()
