"""What can be done to a recording: to its file, given as a path, or to the table in it."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from common.schema import FREQUENCIES, SPECTROGRAM_FIELDS

TIME = pl.int_range(pl.len())
NAN = float("nan")
Frame = pl.DataFrame


# ---- the file


def gone(path: Path) -> None:
    path.unlink()


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def zeroed(path: Path) -> None:
    """Its marks and its table of contents are there, its first pages are not."""
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(4096) + content[4100:])


def flipped(path: Path) -> None:
    """One bit of the first page's header: some readers then ask for more memory than there is, and are ended."""
    content = bytearray(path.read_bytes())
    content[16] ^= 1
    path.write_bytes(content)


def end_damaged(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-300] + bytes(byte ^ 0xFF for byte in content[-300:-8]) + content[-8:])


def zipped(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes(), 1))


def as_csv(path: Path) -> None:
    pl.read_parquet(path).write_csv(path)


def renamed(path: Path) -> None:
    path.rename(path.with_suffix(".PARQUET"))


def lost_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(f"{path.stem}-gone.parquet")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def forbidden(path: Path) -> None:
    path.chmod(0)


def pipe(path: Path) -> None:
    """Whoever reads it waits for a writer, as at a disk that stalls."""
    path.unlink()
    os.mkfifo(path)


# The others change the table in the file.
FILE_FAULTS = (gone, half, empty, garbage, zeroed, flipped, end_damaged, zipped, as_csv, renamed, lost_link)
FILE_FAULTS += (folder, forbidden, pipe)


# ---- the table


def only(*columns: str, to: Any) -> Callable[[Frame], Frame]:
    return lambda frame: frame.with_columns(pl.lit(to, frame[c].dtype).alias(c) for c in columns or frame.columns)


def now_and_then(to: float) -> Callable[[Frame], Frame]:
    """Every third sample of one electrode."""
    return lambda frame: frame.with_columns(T3=pl.when(TIME % 3 == 0).then(pl.lit(to, pl.Float32)).otherwise("T3"))


def longer(before: int, after: int) -> Callable[[Frame], Frame]:
    """Foreign rows at both ends: the central part is the sound one. `time` goes on as in a file."""

    def change(frame: Frame) -> Frame:
        whole = pl.concat([frame.reverse()[:before], frame, frame.reverse()[:after]])
        return whole.with_columns(time=2 * TIME + 1) if "time" in frame.columns else whole

    return change


def eleven_minutes(frame: Frame) -> Frame:
    return pl.concat([frame.reverse()] * 6 + [frame] + [frame.reverse()] * 6)


def nothing_central(frame: Frame) -> Frame:
    nan = only(to=NAN)(frame)
    return pl.concat([frame[:1000], nan, frame[:1000]])


def cast(kind: Any, **columns: Any) -> Callable[[Frame], Frame]:
    """All numbers of another type, and some columns other numbers."""
    return lambda frame: frame.cast(kind).with_columns(pl.lit(to, kind).alias(name) for name, to in columns.items())


def column(**columns: pl.Expr) -> Callable[[Frame], Frame]:
    return lambda frame: frame.with_columns(**columns)


def reverse_columns(frame: Frame) -> Frame:
    return frame.select(reversed(frame.columns))


def lower_case(frame: Frame) -> Frame:
    return frame.rename(str.lower)


def three_decimals(frame: Frame) -> Frame:
    """LL_3.13 as LL_3.125, which is the same bin."""
    spelled = {
        field: f"{region}_{hertz:.3f}"
        for region, fields in SPECTROGRAM_FIELDS.items()
        for field, hertz in zip(fields, FREQUENCIES, strict=True)
    }
    return frame.rename(spelled, strict=False)


def shuffled(frame: Frame) -> Frame:
    return frame.sample(fraction=1, shuffle=True, seed=1)


def no_power(frame: Frame) -> Frame:
    return only(*frame.columns[1:], to=NAN)(frame)
