"""One look at a recording's file: its bytes are read once, and all that is asked of them is measured then."""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path, PosixPath

import numpy as np
import polars as pl
from tqdm import tqdm

from common.records import Recording, RecordingError
from common.schema import ELECTRODES, SFREQ, SPECTROGRAM_STEP_SECONDS
from train.store_index import EEGS, Half

EKG = ELECTRODES.index("EKG")
SCALP = slice(0, EKG)


class KeptFile(PosixPath):
    """A path that keeps the bytes that were read from it, so that nobody has to read them again."""

    content = b""

    def read_bytes(self) -> bytes:
        self.content = super().read_bytes()
        return self.content


@dataclass(frozen=True)
class Source:
    """A file to be read: `starts` are those of its windows in train.csv, samples or columns."""

    half: Half
    folder: str  # of the competition
    id: int
    path: Path
    starts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What one file holds. Arrays have one value for each electrode (20,) or region (4,); `error`: it is unreadable."""

    source: Source
    size: int  # bytes
    error: str | None = None
    findings: tuple[str, ...] = ()  # the reader's
    structural: tuple[str, ...] = ()  # those of them that concern how the file is made
    n_time: int = 0  # samples or columns
    checksum: bytes = b""  # of the values, however they are compressed
    missing: np.ndarray = field(default_factory=lambda: np.empty(0))  # share of values
    flat: np.ndarray = field(default_factory=lambda: np.empty(0))  # EEG: of whole seconds; spectrogram: zero power
    largest: np.ndarray = field(default_factory=lambda: np.empty(0))  # EEG: microvolts from the mean; else power
    spread: np.ndarray = field(default_factory=lambda: np.empty(0))  # EEG: standard deviation, microvolts
    empty: tuple[int, ...] = ()  # starts of windows in which nothing is finite (of an EEG: on the scalp)
    holes: float = 0.0  # spectrogram: share of columns in which a region has no value
    steps: int = 0  # spectrogram: rows that do not follow the one before by 2 s


def examine(source: Source) -> Facts:
    """Read one file and measure it."""
    file = KeptFile(source.path)
    try:
        recording = source.half.read(file)
    except RecordingError as error:
        return Facts(source, len(file.content), str(error), structural=error.structural)
    values, is_eeg = recording.values, source.half is EEGS
    measured = (measure_eeg if is_eeg else measure_spectrogram)(source, len(file.content), recording)
    asked = values[SCALP] if is_eeg else values
    return replace(
        measured,
        checksum=hashlib.sha256(np.ascontiguousarray(values).data).digest(),
        empty=tuple(start for start in source.starts if not has_values(asked, start, source.half.length)),
        steps=0 if is_eeg else odd_steps(file.content),
    )


def has_values(values: np.ndarray, start: int, length: int) -> bool:
    """Whether anything in this window is finite; a window may leave the recording."""
    return bool(np.isfinite(values[..., max(start, 0) : max(start + length, 0)]).any())


def measure_eeg(source: Source, size: int, recording: Recording) -> Facts:
    values = recording.values  # (20, time)
    n_time = values.shape[1]
    finite = np.isfinite(values)
    counts = finite.sum(axis=1)
    seconds = values[:, : n_time // SFREQ * SFREQ].reshape(len(values), n_time // SFREQ, SFREQ)
    constant = seconds.max(axis=2) == seconds.min(axis=2)  # false where a sample is missing
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.add.reduce(values, axis=1, where=finite, dtype=np.float64) / counts
        around = values - mean[:, None].astype(np.float32)
        spread = np.sqrt(np.add.reduce(np.square(around), axis=1, where=finite, dtype=np.float64) / counts)
    return Facts(
        *(source, size, None, recording.findings, recording.structural, n_time),
        missing=1 - counts / n_time,
        flat=constant.mean(axis=1) if constant.size else np.zeros(len(values)),
        largest=np.fmax(np.fmax.reduce(around, axis=1), -np.fmin.reduce(around, axis=1)),
        spread=spread,
    )


def measure_spectrogram(source: Source, size: int, recording: Recording) -> Facts:
    values = recording.values  # (4, 100, columns)
    nowhere = np.isnan(values)
    return Facts(
        *(source, size, None, recording.findings, recording.structural, values.shape[-1]),
        missing=nowhere.mean(axis=(1, 2)),
        flat=(values == 0).mean(axis=(1, 2)),
        largest=np.fmax.reduce(values, axis=(1, 2)),
        holes=float(nowhere.all(axis=1).any(axis=0).mean()),
    )


def odd_steps(content: bytes) -> int:
    """Rows of a spectrogram file that do not follow the one before by 2 s; 0 where it has no times."""
    try:
        time = pl.read_parquet(io.BytesIO(content), columns=["time"])["time"].cast(pl.Float64, strict=False)
    except pl.exceptions.PolarsError:
        return 0
    return int((np.diff(np.sort(time.to_numpy())) != SPECTROGRAM_STEP_SECONDS).sum())


def files_in(folder: Path) -> tuple[dict[int, Path], list[str]]:
    """The folder's ID.parquet by id, and the names of everything else in it."""
    recordings: dict[int, Path] = {}
    strange = []
    for file in sorted(os.scandir(folder), key=lambda file: file.name) if folder.is_dir() else ():
        name = file.name.removesuffix(".parquet")
        if name.isascii() and name.isdecimal() and file.name == f"{int(name)}.parquet" and file.is_file():
            recordings[int(name)] = Path(file.path)
        else:
            strange.append(file.name)
    return recordings, strange


def examine_all(sources: Sequence[Source], workers: int, name: str) -> Iterator[Facts]:
    """examine(source) of each, in any order. In memory are no more recordings than there are workers.

    Threads, not processes: decoding and counting leave the interpreter free. On two cores four threads read 262 EEGs
    and 147 spectrograms a second, two processes 198 and 179: as fast, and there is nothing to start.
    """
    if not sources:
        return
    pool = ThreadPoolExecutor(workers)
    try:
        futures = [pool.submit(examine, source) for source in sources]
        for future in tqdm(as_completed(futures), f"reading {name}", len(futures), unit="file"):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # interrupted: those under way end, the others do not begin
