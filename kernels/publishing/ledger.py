"""The ledger of what was published and how it scored: one row a submission, appended and never changed.

python kernels/publish.py history                CV beside leaderboard, as a table and as runs/ledger.png
"""

import csv
import fcntl
import io
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from common.errors import KitError
from common.files import write_via

FEWEST_TO_CORRELATE = 3


class LedgerError(KitError):
    """A ledger that cannot be read or added to. The message says what to do."""


@dataclass(frozen=True)
class Row:
    """Everything as text; a score that there is none of is empty."""

    time: str  # UTC, ISO 8601
    git_commit: str  # with "+changes" when files differed from it
    kernel_sha256: str
    kernel_version: str
    datasets: str  # slug@version, joined by spaces
    weights_sha256: str
    blend: str  # sha256 of the file, then the chosen way to combine
    nested_cv: str
    public_score: str
    private_score: str
    message: str
    status: str  # COMPLETE, or ERROR and why

    @property
    def scores(self) -> tuple[float, float, float]:
        """Nested CV, public and private; NaN for one that there is none of."""
        nested, public, private = (
            float(text or "nan") for text in (self.nested_cv, self.public_score, self.private_score)
        )
        return nested, public, private


COLUMNS = tuple(field.name for field in fields(Row))


def read_ledger(path: Path) -> list[Row]:
    """Rows, oldest first; none where there is no file. Raises LedgerError."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *lines = [tuple(line) for line in csv.reader(file)] or [()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LedgerError(f"{path} cannot be read ({error}); move it away or fix it") from error
    if head != COLUMNS:
        raise LedgerError(f"{path} has other columns than {', '.join(COLUMNS)}; move it away, a new one is begun")
    for at, line in enumerate(lines, start=2):
        if len(line) != len(COLUMNS):
            raise LedgerError(f"{path}: row {at} has {len(line)} columns instead of {len(COLUMNS)}; fix it")
    return [Row(*line) for line in lines]


def refuse_unusable(path: Path) -> None:
    """Found out before anything is sent. Raises LedgerError."""
    read_ledger(path)
    folder = next(place for place in path.resolve().parents if place.exists())
    if not os.access(folder, os.W_OK):
        raise LedgerError(f"{path} cannot be written: its folder is read-only; give another --ledger")


def append(path: Path, row: Row) -> bool:
    """Add a row, whole or not at all, unless one with its message is there. Returns whether it was added."""
    path = path.resolve()  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:  # several publishers may share a ledger
        fcntl.flock(lock, fcntl.LOCK_EX)
        if any(old.message == row.message for old in read_ledger(path)):
            return False
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if path.exists():
            text.write(path.read_text(encoding="utf-8").rstrip("\n") + "\n")
        else:
            writer.writerow(COLUMNS)
        writer.writerow(astuple(row))
        write_via(path, lambda partial: partial.write_text(text.getvalue(), encoding="utf-8"))
    return True


def correlations(rows: Sequence[Row]) -> list[str]:
    """How CV and leaderboard go together, one line for each leaderboard that three or more rows have."""
    lines, scores = [], np.array([row.scores for row in rows]).reshape(-1, 3)
    for column, name in ((1, "public"), (2, "private")):
        pairs = scores[:, [0, column]]
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        if len(pairs) >= FEWEST_TO_CORRELATE and (pairs.std(axis=0) > 0).all():
            r, gap = np.corrcoef(pairs.T)[0, 1], (pairs[:, 1] - pairs[:, 0]).mean()
            lines.append(f"nested CV and {name} score: correlation {r:.3f} over {len(pairs)}, {name} - CV {gap:+.4f}")
    return lines


def table(rows: Sequence[Row]) -> str:
    """CV beside leaderboard, newest last; lower is better."""
    line = "{:>3}  {:16}  {:>9}  {:>7}  {:>7}  {:>6}  {:>8}  {:9}  {}".format
    lines = [line("#", "time (UTC)", "nested CV", "public", "private", "kernel", "datasets", "commit", "message")]
    for at, row in enumerate(rows, start=1):
        scores = [f"{score:.4f}" if np.isfinite(score) else "-" for score in row.scores]
        commit = row.git_commit[:8] + ("+" if row.git_commit.endswith("+changes") else "")
        time, datasets = row.time[:16].replace("T", " "), len(row.datasets.split())
        lines.append(line(at, time, *scores, row.kernel_version, datasets, commit, row.message))
    lines += [f"not scored: {row.message} ({row.status})" for row in rows if row.status != "COMPLETE"]
    return "\n".join(lines + correlations(rows))
