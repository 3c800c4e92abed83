"""One recording from parquet, by column name: what it holds, what was wrong with it, its windows.

What can be repaired is repaired and named in `findings`; what cannot raises RecordingError.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl

from common.errors import KitError
from common.schema import (
    ELECTRODES,
    N_FREQUENCIES,
    REGIONS,
    SPECTROGRAM_COLUMNS,
    SPECTROGRAM_FIELDS,
    WINDOW_SAMPLES,
)

READERS = 4  # threads that read ahead; polars leaves the interpreter free while it decodes

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
    if not path.is_file():
        raise RecordingError(f"{path.name}: no such file")
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RecordingError(f"{path.name}: not a readable parquet file ({first_line})") from error
    if frame.height == 0:
        raise RecordingError(f"{path.name}: no rows")
    return frame


def shorten(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})"


def match_columns(frame: pl.DataFrame, fields: tuple[str, ...], beside: tuple[str, ...]) -> tuple[dict[str, str], list]:
    """Field -> numeric column of the frame, and what is unusual; columns named in `beside` are expected too."""
    by_name = {name.strip().lower(): name for name in reversed(frame.columns)} | {n: n for n in frame.columns}
    found = {field: by_name.get(field, by_name.get(field.lower())) for field in fields}
    numeric = {f: name for f, name in found.items() if name is not None and frame[name].dtype.is_numeric()}
    findings = []
    if missing := [field for field in fields if field not in numeric]:
        findings.append(f"missing columns read as NaN: {shorten(missing)}")
    if extra := [name for name in frame.columns if name not in found.values() and name not in beside]:
        findings.append(f"extra columns ignored: {shorten(extra)}")
    if any(field != name for field, name in numeric.items()):
        findings.append("column names in another spelling")
    positions = [frame.columns.index(name) for name in numeric.values()]
    if positions != sorted(positions):
        findings.append("columns in another order")
    if types := sorted({str(frame[name].dtype) for name in numeric.values()} - {"Float32"}):
        findings.append(f"numbers are {', '.join(types)}")
    return numeric, findings


def read_columns(
    path: Path, fields: tuple[str, ...], beside: tuple[str, ...] = ()
) -> tuple[np.ndarray, pl.DataFrame, list[str]]:
    """The named columns as float32 (rows, fields), the whole frame, and what had to be repaired."""
    frame = load_frame(path)
    numeric, findings = match_columns(frame, fields, beside)
    if not numeric:
        raise RecordingError(f"{path.name}: none of its {frame.width} columns is one of {', '.join(fields[:3])} ...")
    values = np.full((frame.height, len(fields)), np.nan, dtype=np.float32)
    for position, field in enumerate(fields):
        if field in numeric:
            column = frame[numeric[field]].cast(pl.Float64, strict=False).to_numpy()
            with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and that becomes missing
                values[:, position] = column
    there = np.array([field in numeric for field in fields])
    if np.isnan(values[:, there]).any():
        findings.append("some values are NaN")
    infinite = np.isinf(values)
    if infinite.any():
        values[infinite] = np.nan
        findings.append("infinite values read as NaN")
    return values, frame, findings


def read_eeg(path: Path) -> Recording:
    """An EEG file: (20, time) microvolts in schema order, 200 Hz.

    Raises RecordingError when the file is missing, is no parquet, has no electrode or nothing finite.
    """
    values, _, findings = read_columns(path, ELECTRODES)
    if not np.isfinite(values).any():
        raise RecordingError(f"{path.name}: not one finite sample")
    if values.shape[0] < WINDOW_SAMPLES:
        findings.append(f"{values.shape[0]} of {WINDOW_SAMPLES} samples: the rest is missing")
    if len(values) > 1 and not (np.fmax.reduce(values) > np.fmin.reduce(values)).any():
        findings.append("no channel varies")
    return Recording(np.ascontiguousarray(values.T), tuple(findings))


def read_spectrogram(path: Path) -> Recording:
    """A spectrogram file: (4, 100, columns) power, regions LL, RL, RP, LP, one column every 2 s.

    Raises RecordingError when the file is missing, is no parquet, has no field or nothing finite.
    """
    fields = tuple(field for region in REGIONS for field in SPECTROGRAM_FIELDS[region])
    values, frame, findings = read_columns(path, fields, beside=("time",))
    if "time" in frame.columns and frame["time"].dtype.is_numeric() and not frame["time"].is_sorted():
        values = values[np.argsort(frame["time"].to_numpy(), kind="stable")]
        findings.append("rows were not in the order of time")
    negative = values < 0
    if negative.any():
        values[negative] = np.nan
        findings.append("negative power read as NaN")
    if not np.isfinite(values).any():
        raise RecordingError(f"{path.name}: not one finite value")
    if values.shape[0] < SPECTROGRAM_COLUMNS:
        findings.append(f"{values.shape[0]} of {SPECTROGRAM_COLUMNS} columns: the rest is missing")
    panels = values.T.reshape(len(REGIONS), N_FREQUENCIES, -1)
    return Recording(np.ascontiguousarray(panels), tuple(findings))


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


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """read(item) for each item, in order, with `ahead` of them under way in threads."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
