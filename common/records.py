"""One recording from parquet, by column name: what it holds, what was wrong with it, its windows.

What can be repaired is repaired and named in `findings`; what cannot raises RecordingError.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
import pyarrow
from pyarrow.parquet import ParquetFile

from common.errors import KitError
from common.schema import (
    ELECTRODES,
    N_FREQUENCIES,
    REGIONS,
    SPECTROGRAM_COLUMNS,
    SPECTROGRAM_FIELDS,
    WINDOW_SAMPLES,
)

LARGEST_MICROVOLTS = 1e9  # a thousand volts: no amplifier's
LARGEST_BYTES, LARGEST_ROWS = 2**30, 10**7  # 14 hours of EEG: more would only fill the memory
UNREADABLE = (pyarrow.ArrowException, UnicodeDecodeError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
READERS = 4  # threads that read ahead; pyarrow leaves the interpreter free while it decodes

Item = TypeVar("Item")
Result = TypeVar("Result")


class RecordingError(KitError):
    """A recording nothing can be read from. The message says the file and why."""


@dataclass(frozen=True)
class Recording:
    """values: float32, NaN where missing; EEG (20, time) microvolts, spectrogram (4, 100, columns)."""

    values: np.ndarray
    findings: tuple[str, ...]


def load_frame(path: Path) -> pl.DataFrame:
    """A parquet file with at least one row. Raises RecordingError."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise RecordingError(f"{path.name}: more than {LARGEST_BYTES:,} bytes, no recording has so many")
        # Bytes first: where a mounted disk stalls, only the thread that asked waits, none of the reader's own.
        # By pyarrow: polars' own reader ends the whole process at some damaged files.
        file = ParquetFile(pyarrow.BufferReader(path.read_bytes()))
        if file.metadata.num_rows == 0:
            raise RecordingError(f"{path.name}: no rows")
        if file.metadata.num_rows > LARGEST_ROWS:
            raise RecordingError(f"{path.name}: {file.metadata.num_rows:,} rows, no recording has so many")
        return pl.DataFrame(file.read(use_threads=False))
    except FileNotFoundError as error:
        raise RecordingError(f"{path.name}: no such file") from error
    except (*UNREADABLE, OSError) as error:
        said = (isinstance(error, OSError) and error.strerror) or str(error).strip() or type(error).__name__
        raise RecordingError(f"{path.name}: not a readable parquet file ({said.splitlines()[0]})") from error


def shorten(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})"


def match_columns(frame: pl.DataFrame, fields: tuple[str, ...], beside: tuple[str, ...]) -> tuple[dict[str, str], list]:
    """Field -> numeric column of the frame, and what is unusual; columns named in `beside` are expected too."""
    types = frame.schema
    found = {field: field for field in fields if field in types}
    if len(found) < len(fields):
        by_name = {name.strip().lower(): name for name in reversed(types)}
        found = {field: name for field in fields if (name := found.get(field, by_name.get(field.lower()))) is not None}
    numeric = {field: name for field, name in found.items() if types[name].is_numeric()}
    findings, matched = [], set(found.values())
    if missing := [field for field in fields if field not in numeric]:
        findings.append(f"missing columns read as NaN: {shorten(missing)}")
    if extra := [name for name in types if name not in matched and name not in beside]:
        findings.append(f"extra columns ignored: {shorten(extra)}")
    if any(field != name for field, name in numeric.items()):
        findings.append("column names in another spelling")
    place = {name: position for position, name in enumerate(types)}
    positions = [place[name] for name in numeric.values()]
    if positions != sorted(positions):
        findings.append("columns in another order")
    if others := sorted({str(types[name]) for name in numeric.values()} - {"Float32"}):
        findings.append(f"numbers are {', '.join(others)}")
    return numeric, findings


def pick_columns(
    path: Path, frame: pl.DataFrame, fields: tuple[str, ...], beside: tuple[str, ...]
) -> tuple[pl.DataFrame, list[str], list[str]]:
    """The fields that the frame has, as Float32 columns, their names, and what is unusual. Raises RecordingError."""
    first = max(frame.width - len(fields), 0)
    columns = frame[:, first:]
    as_written = tuple(columns.columns) == fields and set(frame.columns[:first]) <= set(beside)
    if as_written and set(columns.dtypes) == {pl.Float32}:
        return columns, list(fields), []  # looking 400 columns up by name takes longer than reading them
    numeric, findings = match_columns(frame, fields, beside)
    if not numeric:
        known = {field.lower() for field in fields}
        if named := [name for name in frame.columns if name.strip().lower() in known]:
            found = ", ".join(sorted({str(frame.schema[name]) for name in named}))
            raise RecordingError(f"{path.name}: no numbers but {found} in its columns: {shorten(named)}")
        raise RecordingError(f"{path.name}: none of its {frame.width} columns is one of {', '.join(fields[:3])} ...")
    # Beyond float32 becomes infinite, and that becomes missing.
    return frame.select(numeric.values()).cast(pl.Float32, strict=False), list(numeric), findings


def read_columns(
    path: Path, fields: tuple[str, ...], beside: tuple[str, ...] = ()
) -> tuple[np.ndarray, pl.DataFrame, list[str]]:
    """The named columns as float32 (fields, rows), the whole frame, and what had to be repaired."""
    frame = load_frame(path)
    columns, found, findings = pick_columns(path, frame, fields, beside)
    values = columns.to_numpy(order="fortran").T
    if not np.isfinite(values).all():
        infinite = np.isinf(values)
        findings += ["some values are NaN"] if np.isnan(values).any() else []
        findings += ["infinite values read as NaN"] if infinite.any() else []
        values = np.where(infinite, np.float32(np.nan), values)
    if len(found) < len(fields):
        there, known = [field in found for field in fields], values
        values = np.full((len(fields), frame.height), np.nan, dtype=np.float32)
        values[there] = known
    return values, frame, findings


def read_eeg(path: Path) -> Recording:
    """An EEG file: (20, time) microvolts in schema order, 200 Hz.

    Raises RecordingError when the file is missing, is no parquet, has no electrode or nothing finite.
    """
    values, _, findings = read_columns(path, ELECTRODES)
    if max(np.fmax.reduce(values, axis=None), -np.fmin.reduce(values, axis=None)) > LARGEST_MICROVOLTS:
        values = np.where(np.abs(values) > LARGEST_MICROVOLTS, np.float32(np.nan), values)
        findings.append(f"values beyond {LARGEST_MICROVOLTS:g} microvolts read as NaN")
    if np.isnan(values).all():
        raise RecordingError(f"{path.name}: not one finite sample")
    n_time = values.shape[1]
    if n_time < WINDOW_SAMPLES:
        findings.append(f"{n_time} of {WINDOW_SAMPLES} samples: the rest is missing")
    if n_time > 1 and not any(np.fmax.reduce(channel) > np.fmin.reduce(channel) for channel in values):
        findings.append("no channel varies")
    return Recording(values, tuple(findings))


def read_spectrogram(path: Path) -> Recording:
    """A spectrogram file: (4, 100, columns) power, regions LL, RL, RP, LP, one column every 2 s.

    Raises RecordingError when the file is missing, is no parquet, has no field or nothing finite.
    """
    fields = tuple(field for region in REGIONS for field in SPECTROGRAM_FIELDS[region])
    values, frame, findings = read_columns(path, fields, beside=("time",))
    if "time" in frame.columns and not frame["time"].dtype.is_numeric():
        findings.append(f"time is {frame['time'].dtype}: its rows are taken in their order")
    elif "time" in frame.columns and not frame["time"].is_sorted():
        values = values[:, np.argsort(frame["time"].to_numpy(), kind="stable")]
        findings.append("rows were not in the order of time")
    if np.fmin.reduce(values, axis=None) < 0:
        values = np.where(values < 0, np.float32(np.nan), values)
        findings.append("negative power read as NaN")
    if np.isnan(values).all():
        raise RecordingError(f"{path.name}: not one finite value")
    if values.size > 1 and not np.fmax.reduce(values, axis=None) > np.fmin.reduce(values, axis=None):
        findings.append("no power varies")
    if values.shape[1] < SPECTROGRAM_COLUMNS:
        findings.append(f"{values.shape[1]} of {SPECTROGRAM_COLUMNS} columns: the rest is missing")
    return Recording(values.reshape(len(REGIONS), N_FREQUENCIES, -1), tuple(findings))


def cut(values: np.ndarray, start: int, length: int) -> np.ndarray:
    """values[..., start : start + length]; what lies outside the recording is NaN."""
    n_time = values.shape[-1]
    window = np.full((*values.shape[:-1], length), np.nan, dtype=np.float32)
    first, last = max(start, 0), min(start + length, n_time)
    if first < last:
        window[..., first - start : last - start] = values[..., first:last]
    return window


def central(values: np.ndarray, length: int) -> np.ndarray:
    """The central `length` columns; a shorter recording is centred, the rest is NaN."""
    return cut(values, (values.shape[-1] - length) // 2, length)


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Generator[Result, None, None]:
    """read(item) for each item, in order, with `ahead` of them under way in threads; closed early, the rest is not."""
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(READERS)
    try:
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
