"""The ledger of what was published and how it scored: one row a submission, appended and never changed.

python kernels/publish.py history                CV beside leaderboard, as a table and as runs/ledger.png
"""

import csv
import fcntl
import io
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from publishing.parcel import Parcel

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


COLUMNS = tuple(field.name for field in fields(Row))


def number(text: str) -> float:
    """NaN for a score that there is none of."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def read_ledger(path: Path) -> list[Row]:
    """Rows, oldest first; none where there is no file. Raises LedgerError."""
    if not path.exists():
        return []
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LedgerError(f"{path} cannot be read ({error}); move it away or mend it") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise LedgerError(f"{path} has other columns than {', '.join(COLUMNS)}; move it away, a new one is begun")
    for at, line in enumerate(lines[1:], start=2):
        if len(line) != len(COLUMNS):
            raise LedgerError(f"{path}: row {at} has {len(line)} columns instead of {len(COLUMNS)}; mend it")
    return [Row(*line) for line in lines[1:]]


def refuse_unusable(path: Path) -> None:
    """Found out before anything is sent. Raises LedgerError."""
    read_ledger(path)
    folder = next(place for place in path.resolve().parents if place.exists())
    if (path.exists() and not path.is_file()) or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise LedgerError(f"{path} cannot be written: it is no file, or its folder is read-only; give another --ledger")


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
            before = path.read_text(encoding="utf-8")
            text.write(before if before.endswith("\n") else before + "\n")
        else:
            writer.writerow(COLUMNS)
        writer.writerow(asdict(row).values())
        write_via(path, lambda temporary: temporary.write_text(text.getvalue(), encoding="utf-8"))
    return True


def nested_cv(parcel: Parcel) -> tuple[str, str]:
    """Name and nested out-of-fold KL of the way to combine that the blend chose; its score is empty if not fitted."""
    for candidate in parcel.blend.candidates:
        if candidate.chosen:
            return candidate.name, f"{candidate.nested_kl:.6f}"
    return "given" if parcel.blend.models else "equal", ""


def cells(number_of: int, row: Row) -> tuple[str, ...]:
    scores = [f"{value:.4f}" if np.isfinite(value := number(text)) else "-" for text in scores_of(row)]
    commit = row.git_commit[:8] + ("+" if row.git_commit.endswith("+changes") else "")
    datasets = str(len(row.datasets.split()))
    return (str(number_of), row.time[:16].replace("T", " "), *scores, row.kernel_version, datasets, commit, row.message)


def scores_of(row: Row) -> tuple[str, str, str]:
    return row.nested_cv, row.public_score, row.private_score


def correlations(rows: Sequence[Row]) -> list[str]:
    """How CV and leaderboard go together, one line for each leaderboard that three or more rows have."""
    lines = []
    for name, column in (("public", 1), ("private", 2)):
        pairs = np.array([[number(scores_of(row)[0]), number(scores_of(row)[column])] for row in rows]).reshape(-1, 2)
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        if len(pairs) >= FEWEST_TO_CORRELATE and (pairs.std(axis=0) > 0).all():
            r = np.corrcoef(pairs.T)[0, 1]
            gap = (pairs[:, 1] - pairs[:, 0]).mean()
            lines.append(f"nested CV and {name} score: correlation {r:.3f} over {len(pairs)}, {name} - CV {gap:+.4f}")
    return lines


def table(rows: Sequence[Row]) -> str:
    """CV beside leaderboard, newest last; lower is better."""
    head = ("#", "time (UTC)", "nested CV", "public", "private", "kernel", "datasets", "commit", "message")
    body = [cells(at, row) for at, row in enumerate(rows, start=1)]
    widths = [max(len(line[at]) for line in (head, *body)) for at in range(len(head))]
    lines = []
    for line in (head, *body):
        padded = [text.rjust(width) for text, width in zip(line[:-1], widths[:-1], strict=True)]
        lines.append("  ".join([*padded, line[-1]]))
    for row in rows:
        if row.status != "COMPLETE":
            lines.append(f"not scored: {row.message} ({row.status})")
    return "\n".join(lines + correlations(rows))
