"""train.csv to label rows: one row per distinct vote vector inside an EEG."""

from pathlib import Path

import numpy as np
import polars as pl

from common.errors import KitError
from common.schema import CONSENSUS, SFREQ, SPECTROGRAM_STEP_SECONDS, TRAIN_TABLE, VOTES

IDS = ("eeg_id", "spectrogram_id", "patient_id", "label_id")
OFFSETS = ("eeg_label_offset_seconds", "spectrogram_label_offset_seconds")


class LabelError(KitError):
    """A train.csv that cannot be trained on. The message says what was found and expected."""


def read_train_table(competition: Path) -> pl.DataFrame:
    """train.csv, checked. Raises LabelError."""
    path = competition / TRAIN_TABLE
    try:
        table = pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LabelError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})") from error
    absent = [c for c in (*IDS, *OFFSETS, "expert_consensus", *VOTES) if c not in table.columns]
    if absent:
        raise LabelError(f"{path}: no column {', '.join(absent)}; it has {', '.join(table.columns)}")
    if table.height == 0:
        raise LabelError(f"{path}: no rows")
    votes, ids, offsets = (table.select(c).cast(pl.Float64, strict=False) for c in (VOTES, IDS, OFFSETS))
    counts = votes.to_numpy()  # an empty cell or a text reads as NaN
    if not np.isfinite(counts).all() or (counts < 0).any() or (counts % 1).any():
        raise LabelError(f"{path}: a vote is negative or not a whole number")
    if not np.isfinite(ids.to_numpy()).all() or not np.isfinite(offsets.to_numpy()).all():
        raise LabelError(f"{path}: one of {', '.join((*IDS, *OFFSETS))} is empty or not a number")
    if (counts.sum(axis=1) == 0).any():
        raise LabelError(f"{path}: a row has no votes at all")
    strange = set(table["expert_consensus"].unique()) - set(CONSENSUS)
    if strange:
        raise LabelError(f"{path}: expert_consensus {sorted(map(str, strange))}; expected {', '.join(CONSENSUS)}")
    return table.with_columns(*votes.cast(pl.Int64), *ids.cast(pl.Int64), *offsets)


def label_rows(competition: Path) -> pl.DataFrame:
    """One row per (eeg_id, vote vector), in the order of these keys.

    Columns: label_id (the first window's), eeg_id, spectrogram_id, patient_id, expert_consensus, six
    votes, total_votes, eeg_start (samples) and spectrogram_start (columns of 2 s): the window half-way
    between the first and the last that got these votes. Source: the seed repository's label rows.
    """
    eeg, spectrogram = OFFSETS
    rows = (
        read_train_table(competition)
        .group_by("eeg_id", *VOTES)
        .agg(
            pl.col("label_id", "spectrogram_id", "patient_id", "expert_consensus").first(),
            eeg_start=((pl.col(eeg).min() + pl.col(eeg).max()) / 2 * SFREQ).cast(pl.Int64),
            spectrogram_start=(
                (pl.col(spectrogram).min() + pl.col(spectrogram).max()) // (2 * SPECTROGRAM_STEP_SECONDS)
            ).cast(pl.Int64),
            total_votes=pl.sum_horizontal(pl.col(vote).first() for vote in VOTES),
        )
    )
    return rows.sort("eeg_id", *VOTES)


def prior_shares(votes: np.ndarray, min_votes: int) -> np.ndarray:
    """Mean vote shares (6,) of the rows of `votes` (rows, 6) with at least min_votes; of all if there are none."""
    totals = votes.sum(axis=1)
    chosen = totals >= min_votes if (totals >= min_votes).any() else totals > 0
    return (votes[chosen] / totals[chosen, None]).mean(axis=0)
