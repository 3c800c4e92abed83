"""One recording from parquet, by column name: what it holds, what was wrong with it, its windows.

What can be repaired is repaired and named in `findings`; what cannot raises RecordingError. A finding about how the
file is made (its columns, rate or unit) is structural: in one file it is that file's fault, in many files the reader
and the data do not fit each other, and `systematic` says so.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow
from pyarrow.parquet import ParquetFile

from common.errors import KitError
from common.schema import (
    ELECTRODES,
    FREQUENCIES,
    N_FREQUENCIES,
    REGIONS,
    SFREQ,
    SPECTROGRAM_BINS,
    SPECTROGRAM_COLUMNS,
    SPECTROGRAM_FIELDS,
    SPECTROGRAM_NFFT,
    SPECTROGRAM_STEP_SECONDS,
    WINDOW_SAMPLES,
)

LARGEST_MICROVOLTS = 1e9  # a thousand volts: no amplifier's
# Typical distance of a sample from its electrode's median. Fourteen real EEGs have 9 to 2,600 microvolts.
USUAL_MICROVOLTS = (0.5, 5000.0)
FREQUENCY_TOLERANCE = 0.006  # Hz: names are rounded to two decimals
LARGEST_BYTES, LARGEST_ROWS = 2**30, 10**7  # 14 hours of EEG: more would only fill the memory
UNREADABLE = (pyarrow.ArrowException, UnicodeDecodeError, pl.exceptions.PolarsError, pl.exceptions.PanicException)


class RecordingError(KitError):
    """A recording nothing can be read from. The message says the file and why.

    structural: what is wrong with how the file is made, where that is the reason.
    """

    def __init__(self, message: str, structural: str | None = None) -> None:
        super().__init__(message)
        self.structural = () if structural is None else (structural,)


@dataclass(frozen=True)
class Recording:
    """values: float32, NaN where missing. EEG: (electrodes, time) microvolts; spectrogram: (regions, frequencies,
    columns) power.

    structural: those of the findings that concern how the file is made.
    """

    values: np.ndarray
    findings: tuple[str, ...]
    structural: tuple[str, ...] = ()


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
    """How many names, and the first four of them."""
    return f"{len(names)} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})"


ELECTRODE_PLACES = {electrode.lower(): place for place, electrode in enumerate(ELECTRODES)}
POWER_NAME = re.compile(r"\s*([A-Z]{2})_(\d{1,3}(?:\.\d*)?)\s*", re.IGNORECASE)


def electrode_place(name: str) -> int | None:
    """The row of an electrode's column, by its name in any case; None for another column."""
    return ELECTRODE_PLACES.get(name.strip().lower())


def power_place(name: str) -> int | None:
    """The row of a spectrogram's column, regions below each other: by its region, and by its frequency as a number,
    which may be spelled in any way. None for another column."""
    named = POWER_NAME.fullmatch(name)
    if named is None or named[1].upper() not in REGIONS:
        return None
    frequency = float(named[2])
    row = round(frequency * SPECTROGRAM_NFFT / SFREQ) - SPECTROGRAM_BINS.start
    if not 0 <= row < N_FREQUENCIES or abs(frequency - FREQUENCIES[row]) > FREQUENCY_TOLERANCE:
        return None
    return REGIONS.index(named[1].upper()) * N_FREQUENCIES + row


@dataclass(frozen=True)
class Columns:
    """The columns that a kind of recording has: their names as the files have them, the row that a name stands for,
    and the columns beside them that are not values."""

    fields: tuple[str, ...]
    place: Callable[[str], int | None]
    beside: tuple[str, ...] = ()


EEG_COLUMNS = Columns(ELECTRODES, electrode_place)
POWER_COLUMNS = Columns(
    tuple(field for region in REGIONS for field in SPECTROGRAM_FIELDS[region]), power_place, beside=("time",)
)


def match_columns(frame: pl.DataFrame, columns: Columns) -> tuple[dict[int, str], list[str], list[str]]:
    """Row -> numeric column of the frame, what is structural, and what is unusual besides."""
    types, spelled = frame.schema, set(columns.fields)
    found: dict[int, str] = {}
    for name in sorted(types, key=lambda name: (not types[name].is_numeric(), name not in spelled)):
        if (place := columns.place(name)) is not None:
            found.setdefault(place, name)
    numeric = {place: found[place] for place in sorted(found) if types[found[place]].is_numeric()}
    structural, findings, matched = [], [], set(found.values())
    if missing := [field for place, field in enumerate(columns.fields) if place not in numeric]:
        structural.append(f"missing columns read as NaN: {shorten(missing)}")
    if extra := [name for name in types if name not in matched and name not in columns.beside]:
        structural.append(f"extra columns ignored: {shorten(extra)}")
    order = {name: position for position, name in enumerate(types)}
    positions = [order[name] for name in numeric.values()]
    if positions != sorted(positions):
        findings.append("columns in another order")
    if others := sorted({str(types[name]) for name in numeric.values()} - {"Float32"}):
        findings.append(f"numbers are {', '.join(others)}")
    return numeric, structural, findings


def pick_columns(
    path: Path, frame: pl.DataFrame, columns: Columns
) -> tuple[pl.DataFrame, list[int], list[str], list[str]]:
    """The columns that the frame has, as Float32, their rows, and what match_columns says. Raises RecordingError."""
    first = max(frame.width - len(columns.fields), 0)
    last = frame[:, first:]
    as_written = tuple(last.columns) == columns.fields and set(frame.columns[:first]) <= set(columns.beside)
    if as_written and set(last.dtypes) == {pl.Float32}:
        return last, list(range(last.width)), [], []  # looking all columns up takes longer than reading them
    numeric, structural, findings = match_columns(frame, columns)
    if not numeric:
        if named := [name for name in frame.columns if columns.place(name) is not None]:
            found = ", ".join(sorted({str(frame.schema[name]) for name in named}))
            said = f"no numbers but {found} in its columns: {shorten(named)}"
        else:
            said = f"none of its {frame.width} columns ({', '.join(frame.columns[:3])} ...) is one of "
            said += f"{', '.join(columns.fields[:3])} ..."
        raise RecordingError(f"{path.name}: {said}", structural=said)
    # Beyond float32 becomes infinite, and that becomes missing.
    return frame.select(numeric.values()).cast(pl.Float32, strict=False), list(numeric), structural, findings


def read_columns(path: Path, columns: Columns) -> tuple[np.ndarray, pl.DataFrame, list[str], list[str]]:
    """The columns as float32 (fields, rows), the whole frame, what is structural, and what else had to be repaired."""
    frame = load_frame(path)
    picked, found, structural, findings = pick_columns(path, frame, columns)
    values = picked.to_numpy(order="fortran").T
    if not np.isfinite(values).all():
        infinite = np.isinf(values)
        findings += ["some values are NaN"] if np.isnan(values).any() else []
        findings += ["infinite values read as NaN"] if infinite.any() else []
        values = np.where(infinite, np.float32(np.nan), values)
    if len(found) < len(columns.fields):
        known = values
        values = np.full((len(columns.fields), frame.height), np.nan, dtype=np.float32)
        values[found] = known
    return values, frame, structural, findings


def another_unit(eeg: np.ndarray) -> list[str]:
    """What is structural about the amplitudes of an EEG (electrodes, time) that are no microvolts."""
    some = eeg[:-1, :: max(eeg.shape[1] // 200, 1)]  # the scalp; 200 samples tell
    known = some[~np.isnan(some).any(axis=1)]
    if not len(known):
        return []
    typical = float(np.median(np.abs(known - np.median(known, axis=1, keepdims=True))))
    smallest, largest = USUAL_MICROVOLTS
    if 0 < typical < smallest:
        return [f"typical amplitude below {smallest} uV, as if in millivolts or volts"]
    return [f"typical amplitude above {largest:g} uV, as if in nanovolts"] if typical > largest else []


def read_eeg(path: Path) -> Recording:
    """An EEG file: (electrodes, time) microvolts in schema order, 200 Hz.

    Raises RecordingError when the file is missing, is no parquet, has no electrode or nothing finite.
    """
    values, _, structural, findings = read_columns(path, EEG_COLUMNS)
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
    structural += another_unit(values)
    return Recording(values, (*structural, *findings), tuple(structural))


def read_spectrogram(path: Path) -> Recording:
    """A spectrogram file: (regions, frequencies, columns) power, regions in schema order, one column every 2 s.

    Raises RecordingError when the file is missing, is no parquet, has no field or nothing finite.
    """
    values, frame, structural, findings = read_columns(path, POWER_COLUMNS)
    if "time" in frame.columns and not frame["time"].dtype.is_numeric():
        findings.append(f"time is {frame['time'].dtype}: its rows are taken in their order")
    elif "time" in frame.columns:
        time = frame["time"].cast(pl.Float64).to_numpy()  # NaN where it is missing
        if not np.isfinite(time).all():
            findings.append("time has gaps: rows are taken in their order")
        elif len(time) > 1:
            if (np.diff(time) < 0).any():
                values = values[:, np.argsort(time, kind="stable")]
                findings.append("rows were not in the order of time")
            step = float(np.median(np.diff(np.sort(time))))
            if step != SPECTROGRAM_STEP_SECONDS:
                structural.append(f"a row every {step:g} s")
    if np.fmin.reduce(values, axis=None) < 0:
        values = np.where(values < 0, np.float32(np.nan), values)
        findings.append("negative power read as NaN")
    if np.isnan(values).all():
        raise RecordingError(f"{path.name}: not one finite value")
    if values.size > 1 and not np.fmax.reduce(values, axis=None) > np.fmin.reduce(values, axis=None):
        findings.append("no power varies")
    if values.shape[1] < SPECTROGRAM_COLUMNS:
        findings.append(f"{values.shape[1]} of {SPECTROGRAM_COLUMNS} columns: the rest is missing")
    return Recording(values.reshape(len(REGIONS), N_FREQUENCIES, -1), (*structural, *findings), tuple(structural))


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
