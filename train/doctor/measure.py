"""One look at each recording: its file is read once, and everything that the doctor asks of it is measured then."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from common.records import RecordingError
from common.schema import ELECTRODES, SFREQ, SPECTROGRAM_STEP_SECONDS
from train.data.recording_kinds import EEGS, RecordingKind

EKG = ELECTRODES.index("EKG")
SCALP = slice(0, EKG)
DIGITS = 5  # of a number in the JSON file


class KeptFile(PosixPath):
    """A path that keeps the bytes that were read from it, so that nobody has to read them again."""

    content = b""

    def read_bytes(self) -> bytes:
        self.content = super().read_bytes()
        return self.content


@dataclass(frozen=True)
class Source:
    """A recording that a table names. starts: of its windows in train.csv, in samples or columns."""

    kind: RecordingKind
    folder: str  # of the competition
    id: int
    path: Path
    starts: tuple[int, ...] = ()
    patient: int | None = None


@dataclass(frozen=True)
class Facts:
    """What one file holds. Arrays have one value for each electrode (20,) or region (4,)."""

    source: Source
    error: str | None = None  # why the file is unreadable
    repairs: tuple[str, ...] = ()  # what the reader says it repaired
    structural: tuple[str, ...] = ()  # how the file's structure differs from what is expected
    n_time: int = 0  # samples or columns
    checksum: bytes = b""  # of the values, so that compression does not matter
    missing: np.ndarray = field(default_factory=lambda: np.empty(0))  # share of values
    flat: np.ndarray = field(default_factory=lambda: np.empty(0))  # EEG: of whole seconds; spectrogram: zero power
    largest: np.ndarray = field(default_factory=lambda: np.empty(0))  # EEG: microvolts from the mean; else power
    spread: np.ndarray = field(default_factory=lambda: np.empty(0))  # EEG: standard deviation, microvolts
    empty: tuple[int, ...] = ()  # starts of windows without one finite value (of an EEG: on the scalp)
    holes: float = 0.0  # spectrogram: share of columns in which a region has no value
    steps: int = 0  # spectrogram: rows that do not follow the one before by 2 s


def examine(source: Source) -> Facts:
    """Read one file and measure it."""
    file = KeptFile(source.path)
    try:
        recording = source.kind.read(file)
    except RecordingError as error:
        return Facts(source, str(error), structural=error.structural)
    values, is_eeg = recording.values, source.kind is EEGS
    asked = values[SCALP] if is_eeg else values
    return Facts(
        source,
        repairs=recording.findings,
        structural=recording.structural,
        n_time=values.shape[-1],
        checksum=hashlib.sha256(np.ascontiguousarray(values).data).digest(),
        empty=tuple(start for start in source.starts if is_empty(asked, start, source.kind.length)),
        **(measure_eeg(values) if is_eeg else measure_spectrogram(values, file.content)),
    )


def is_empty(values: np.ndarray, start: int, length: int) -> bool:
    """Whether nothing in this window is finite; a window may leave the recording."""
    return not np.isfinite(values[..., max(start, 0) : max(start + length, 0)]).any()


def measure_eeg(values: np.ndarray) -> dict[str, Any]:
    """values: (20, time)."""
    n_time = values.shape[1]
    finite = np.isfinite(values)
    counts = finite.sum(axis=1)
    seconds = values[:, : n_time // SFREQ * SFREQ].reshape(len(values), n_time // SFREQ, SFREQ)
    constant = seconds.max(axis=2) == seconds.min(axis=2)  # false where a sample is missing
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.add.reduce(values, axis=1, where=finite, dtype=np.float64) / counts
        around = values - mean[:, None].astype(np.float32)
        spread = np.sqrt(np.add.reduce(np.square(around), axis=1, where=finite, dtype=np.float64) / counts)
    return {
        "missing": 1 - counts / n_time,
        "flat": constant.mean(axis=1) if constant.size else np.zeros(len(values)),
        "largest": np.fmax(np.fmax.reduce(around, axis=1), -np.fmin.reduce(around, axis=1)),
        "spread": spread,
    }


def measure_spectrogram(values: np.ndarray, content: bytes) -> dict[str, Any]:
    """values: (4, 100, columns); content: the file's bytes."""
    nowhere = np.isnan(values)
    return {
        "missing": nowhere.mean(axis=(1, 2)),
        "flat": (values == 0).mean(axis=(1, 2)),
        "largest": np.fmax.reduce(values, axis=(1, 2)),
        "holes": float(nowhere.all(axis=1).any(axis=0).mean()),
        "steps": odd_steps(content),
    }


def odd_steps(content: bytes) -> int:
    """Rows of a spectrogram file that do not follow the one before by 2 s; 0 where it has no times."""
    try:
        time = pl.read_parquet(io.BytesIO(content), columns=["time"])["time"].cast(pl.Float64, strict=False)
    except pl.exceptions.PolarsError:
        return 0
    return int((np.diff(np.sort(time.to_numpy())) != SPECTROGRAM_STEP_SECONDS).sum())


def examine_all(sources: Sequence[Source], workers: int, name: str) -> Iterator[Facts]:
    """examine(source) of each, in any order. No more recordings than workers are in memory.

    Threads, not processes: decoding and counting release the interpreter, and nothing has to be started.
    """
    if not sources:
        return
    pool = ThreadPoolExecutor(workers)
    try:
        futures = [pool.submit(examine, source) for source in sources]
        for future in tqdm(as_completed(futures), f"reading {name}", len(futures), unit="file"):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C those that are running end, the others do not start


# ---- the numbers of the JSON file


def plain(value: float) -> float | None:
    """A number for JSON; None where there is none."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def recording_numbers(facts: Sequence[Facts]) -> dict[str, list[Any]]:
    """Of each readable recording, as lists in the same order; of an EEG over the scalp."""
    read = [(one, SCALP if one.source.kind is EEGS else slice(None)) for one in facts if not one.error]
    return {
        "id": [one.source.id for one, _ in read],
        "n_time": [one.n_time for one, _ in read],
        "missing": [plain(one.missing[part].mean()) for one, part in read],
        "flat": [plain(one.flat[part].mean()) for one, part in read],
        "largest": [plain(np.fmax.reduce(one.largest[part])) for one, part in read],
    }


def electrode_numbers(facts: Sequence[Facts]) -> list[dict[str, Any]]:
    """Of each electrode, over the readable EEGs; empty where there are none."""
    read = [one for one in facts if not one.error]
    if not read:
        return []
    lines = []
    for k, electrode in enumerate(ELECTRODES):
        missing, flat, largest = (
            np.array([getattr(f, name)[k] for f in read]) for name in ("missing", "flat", "largest")
        )
        largest = largest[np.isfinite(largest)]  # never recorded in some files
        quantiles = np.quantile(largest, [0.5, 0.95, 1.0]) if len(largest) else [np.nan] * 3
        peaks = dict(zip(("largest_median", "largest_95", "largest_max"), map(plain, quantiles), strict=True))
        lines.append({"electrode": electrode, "missing": plain(missing.mean()), "flat": plain(flat.mean())} | peaks)
    return lines
