"""The rows of the ledger that kernels/publish.py keeps: one a submission."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path

from common.errors import KitError


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
    """Rows, oldest first. Raises LedgerError."""
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
