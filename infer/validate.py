"""A submission is right: its columns, its ids against test.csv, its values as the competition reads them."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from common.errors import KitError
from common.metric import kl_divergence, refusals
from common.schema import SUBMISSION_COLUMNS, TEST_TABLE, VOTES


class SubmissionError(KitError):
    """A file the competition would refuse. The message lists every reason."""


class CompetitionError(KitError):
    """A competition folder without a usable test.csv."""


ID_COLUMNS = ("spectrogram_id", "eeg_id")


def read_ids(competition: Path) -> pl.DataFrame:
    """spectrogram_id and eeg_id of every row of test.csv, null where it is no whole number. Raises CompetitionError.

    Read as text, so that a strange value costs its row alone. A file without a single line is a test set without
    rows; blank lines are no rows.
    """
    path = competition / TEST_TABLE
    if not path.is_file():
        raise CompetitionError(f"{path}: no such file; give the folder that holds the competition's test.csv")
    try:
        table = pl.read_csv(path, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True)
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema=dict.fromkeys(ID_COLUMNS, pl.Int64))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CompetitionError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})") from error
    absent = [column for column in ID_COLUMNS if column not in table.columns]
    if absent:
        raise CompetitionError(f"{path}: no column {', '.join(absent)}; it has {', '.join(table.columns)}")
    table = table.filter(~pl.all_horizontal(pl.all().is_null()))
    text = pl.col(ID_COLUMNS).str.strip_chars().str.strip_suffix(".0")  # as pandas writes a column with a gap
    return table.select(text.cast(pl.Int64, strict=False))


def read_test_table(competition: Path) -> pl.DataFrame:
    """spectrogram_id, null where there is none, and eeg_id of every row of test.csv. Raises CompetitionError."""
    table = read_ids(competition)
    if table["eeg_id"].null_count():
        raise CompetitionError(f"{competition / TEST_TABLE}: an eeg_id is empty or no whole number")
    return table


def read_csv(path: Path) -> pl.DataFrame:
    """A submission or a solution, its votes as numbers. Raises SubmissionError."""
    try:
        frame = pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SubmissionError(f"{path.name}: not a readable csv ({str(error).strip().splitlines()[0]})") from error
    absent = [column for column in SUBMISSION_COLUMNS if column not in frame.columns]
    if absent:
        raise SubmissionError(f"{path.name}: no column {', '.join(absent)}; it has {', '.join(frame.columns)}")
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))  # blank lines
    return frame.with_columns(pl.col(VOTES).cast(pl.Float64, strict=False).fill_null(float("nan")))


def compare_ids(found: list[int], expected: list[int]) -> list[str]:
    """How two lists of ids differ as multisets; empty when they do not."""
    extra, missing = Counter(found) - Counter(expected), Counter(expected) - Counter(found)
    reasons = []
    for ids, what in ((missing, "missing"), (extra, "too many or unknown")):
        if ids:
            shown = ", ".join(str(eeg_id) for eeg_id in list(ids)[:3])
            reasons.append(f"{ids.total()} rows {what}: eeg_id {shown}{' ...' if len(ids) > 3 else ''}")
    return reasons


def validate(submission: Path, competition: Path) -> int:
    """Rows of a right submission. Raises SubmissionError with every reason why it is not."""
    frame = read_csv(submission)
    expected = read_test_table(competition)
    reasons = []
    if tuple(frame.columns) != SUBMISSION_COLUMNS:
        reasons.append(f"columns are {', '.join(frame.columns)}; expected {', '.join(SUBMISSION_COLUMNS)}")
    reasons += compare_ids(frame["eeg_id"].to_list(), expected["eeg_id"].to_list())
    reasons += refusals(frame.select(VOTES).to_numpy())
    if reasons:
        raise SubmissionError(f"{submission.name} would be refused:\n  " + "\n  ".join(reasons))
    return frame.height


def score(submission: Path, solution: Path) -> tuple[float, int]:
    """Mean KL over the rows of the solution, and their number. Raises SubmissionError.

    solution: eeg_id and six columns of vote shares or counts. Repeated ids are matched in order.
    """
    frame, truth = read_csv(submission), read_csv(solution)
    reasons = compare_ids(frame["eeg_id"].to_list(), truth["eeg_id"].to_list())
    reasons += refusals(frame.select(VOTES).to_numpy())
    votes = truth.select(VOTES).to_numpy()
    if not np.isfinite(votes).all() or (votes < 0).any() or not (votes.sum(axis=1) > 0).all():
        reasons.append(f"{solution.name} has a row without votes, or a vote that is negative or not a number")
    if reasons:
        raise SubmissionError(f"{submission.name} cannot be scored:\n  " + "\n  ".join(reasons))
    if frame.height == 0:
        raise SubmissionError(f"{submission.name} has no rows to score")
    frame, truth = frame.sort("eeg_id", maintain_order=True), truth.sort("eeg_id", maintain_order=True)
    votes = truth.select(VOTES).to_numpy()
    target = votes / votes.sum(axis=1, keepdims=True)
    return float(kl_divergence(target, frame.select(VOTES).to_numpy()).mean()), frame.height
