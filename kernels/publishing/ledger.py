"""The ledger of what was published and how it scored: one row a submission, appended and never changed.

python kernels/publish.py history                CV beside leaderboard, as a table and as runs/ledger.png
"""

import csv
import fcntl
import io
import os
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np

from common.files import write_text
from train.report.ledger import COLUMNS, LedgerError, Row, read_ledger
from train.tables import aligned, number

FEWEST_TO_CORRELATE = 3


def refuse_unusable(path: Path) -> None:
    """Found out before anything is sent. Raises LedgerError."""
    if path.exists():
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
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if path.exists():
            if any(old.message == row.message for old in read_ledger(path)):
                return False
            text.write(path.read_text(encoding="utf-8").rstrip("\n") + "\n")
        else:
            writer.writerow(COLUMNS)
        writer.writerow(astuple(row))
        write_text(path, text.getvalue())
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
    cells = [["#", "time (UTC)", "nested CV", "public", "private", "kernel", "commit", "datasets"]]
    for at, row in enumerate(rows, start=1):
        commit = row.git_commit[:8] + ("+" if row.git_commit.endswith("+changes") else "")
        facts = [row.kernel_version, commit, str(len(row.datasets.split()))]
        cells.append([str(at), row.time[:16].replace("T", " "), *map(number, row.scores), *facts])
    messages = ["message", *(row.message for row in rows)]
    lines = [f"{line}  {message}" for line, message in zip(aligned(cells), messages, strict=True)]
    notes = [f"not scored: {row.message} ({row.status})" for row in rows if row.status != "COMPLETE"]
    return "\n".join([*lines, *notes, *correlations(rows)])
