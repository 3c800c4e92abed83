"""A submission is right: its columns, its ids against test.csv, its values as the competition reads them."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from common.errors import KitError
from common.metric import kl_divergence, refusals, vote_shares
from common.schema import SUBMISSION_COLUMNS, VOTES
from infer.test_table import read_test_table


class SubmissionError(KitError):
    """A file the competition would refuse. The message lists every reason."""


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
    target = vote_shares(truth.select(VOTES).to_numpy())
    return float(kl_divergence(target, frame.select(VOTES).to_numpy()).mean()), frame.height
