"""train.csv to label rows, and which of them a stage trains on."""

from pathlib import Path

import numpy as np
import polars as pl

from common.errors import KitError
from common.schema import CONSENSUS, SFREQ, SPECTROGRAM_STEP_SECONDS, TRAIN_TABLE, VOTES
from common.training import RowSelection

IDS = ("eeg_id", "spectrogram_id", "patient_id", "label_id")
OFFSETS = ("eeg_label_offset_seconds", "spectrogram_label_offset_seconds")
TIME_ORDER = (OFFSETS[0], "label_id")  # of an EEG's windows
BY_VOTES = ("eeg_id", *VOTES)
# What makes windows of train.csv one label row, and the order of these rows. The last two differ from "votes" only in
# what an epoch of training takes of them (train/data/sampling.py), so their predictions are of the same rows.
ROW_KEYS = {
    "votes": BY_VOTES,
    "eeg": ("eeg_id",),
    "window": ("eeg_id", OFFSETS[0], "label_id"),
    "one-per-eeg": BY_VOTES,
    "one-per-stretch": BY_VOTES,
}


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
    for column in ("eeg_id", "spectrogram_id"):
        torn = table.group_by(column).agg(pl.col("patient_id").n_unique()).filter(pl.col("patient_id") > 1)
        if torn.height:
            raise LabelError(
                f"{path}: {column} {torn[column].min()} is of {torn['patient_id'][0]} patients: it could be "
                f"trained on and held out at once ({torn.height} such)"
            )
    strange = set(table["expert_consensus"].unique()) - set(CONSENSUS)
    if strange:
        raise LabelError(f"{path}: expert_consensus {sorted(map(str, strange))}; expected {', '.join(CONSENSUS)}")
    repeated = ids["label_id"].is_duplicated()
    if repeated.any():
        twice = ids["label_id"].filter(repeated)[0]
        raise LabelError(f"{path}: label_id {twice:.0f} stands twice; it names a label row and must be unique")
    return table.with_columns(*votes.cast(pl.Int64), *ids.cast(pl.Int64), *offsets)


def label_rows(competition: Path, labels: str = "votes", window: str = "labelled") -> pl.DataFrame:
    """One row per (eeg_id, vote vector), per EEG or per window of train.csv: `labels` is a key of ROW_KEYS.

    Columns: eeg_id, six votes (Int64, of whole EEGs Float64), label_id (the first window's in the file, so unique),
    spectrogram_id, patient_id, expert_consensus (that window's), eeg_start (samples) and spectrogram_start (columns
    of 2 s), total_votes; and lists of all windows that experts labelled so, by time: eeg_starts, spectrogram_starts,
    stretches (windows of an EEG that follow each other with equal votes have the same number). Sorted by the keys.

    window: where eeg_start and spectrogram_start are. "labelled": the labelled window nearest to the middle between
    the row's first and last one; "middle": the middle itself, as the seed repository's notebooks cut it. On the
    competition's table 4.5 % of the middles lie more than 10 s from any window with these votes. Raises LabelError.
    """
    one_window = pl.sum_horizontal(VOTES)
    # An EEG's target is the share of all its windows' votes, as in the public EfficientNet-B0 starter. But N says
    # how many experts looked, and stages, weights and scores go by it: votes added up over windows would turn three
    # experts and four windows into the 12 votes of a large panel. So the shares are those of N imagined votes, N
    # being the largest number that any one window got.
    shared = pl.col(VOTES).sum() / one_window.sum() * one_window.max()
    middles = [(pl.col(name).min() + pl.col(name).max()) / 2 for name in OFFSETS]
    by_time = [pl.col(name).sort_by(*TIME_ORDER) for name in (*OFFSETS, "stretch")]
    if window == "middle":
        starts = middles
    else:
        nearest = (by_time[0] - middles[0]).abs().arg_min()
        starts = [offsets.get(nearest) for offsets in by_time[:2]]
    rows = (
        with_stretches(read_train_table(competition))
        .sort(ROW_KEYS[labels], maintain_order=True)
        .group_by(row=pl.struct(ROW_KEYS[labels]), maintain_order=True)
        .agg(
            pl.col("eeg_id").first(),
            shared if labels == "eeg" else pl.col(VOTES).first(),
            pl.col("label_id", "spectrogram_id", "patient_id", "expert_consensus").first(),
            eeg_start=in_samples(starts[0]),
            spectrogram_start=in_columns(starts[1]),
            total_votes=one_window.max(),
            eeg_starts=in_samples(by_time[0]),
            spectrogram_starts=in_columns(by_time[1]),
            stretches=by_time[2],
        )
    )
    return rows.drop("row")


def with_stretches(table: pl.DataFrame) -> pl.DataFrame:
    """train.csv with a column `stretch`: one number for windows of an EEG that follow each other with equal votes."""
    by_time = table.with_row_index("place").sort("eeg_id", *TIME_ORDER)
    differs = pl.any_horizontal(pl.col(name) != pl.col(name).shift(fill_value=-1) for name in BY_VOTES)
    return by_time.with_columns(stretch=differs.cum_sum().cast(pl.Int64)).sort("place").drop("place")


def in_samples(offset: pl.Expr) -> pl.Expr:
    """Seconds to whole samples of an EEG."""
    return (offset * SFREQ).cast(pl.Int64)


def in_columns(offset: pl.Expr) -> pl.Expr:
    """Seconds to whole columns of a spectrogram."""
    return (offset // SPECTROGRAM_STEP_SECONDS).cast(pl.Int64)


def vote_totals(votes: np.ndarray) -> np.ndarray:
    """The number of votes N (rows,) of `votes` (rows, 6): whole, though rows by EEG carry rounding errors."""
    return np.rint(votes.sum(axis=1)).astype(np.int64)


def select_rows(votes: np.ndarray, selection: RowSelection) -> np.ndarray:
    """Which rows of `votes` (rows, 6) a stage wants, (rows,) of bool. Unanimous: one class has all votes."""
    totals = vote_totals(votes)
    unanimous = (votes > 0).sum(axis=1) == 1
    chosen = totals >= selection.min_votes
    if selection.at_min == "unanimous":
        chosen &= unanimous | (totals > selection.min_votes)
    if selection.max_votes is not None:
        chosen &= totals <= selection.max_votes
        if selection.at_max == "divided":
            chosen &= ~unanimous | (totals < selection.max_votes)
    return chosen


def prior_shares(votes: np.ndarray, min_votes: int) -> np.ndarray:
    """Mean vote shares (6,) of the rows of `votes` (rows, 6) with at least min_votes; of all if there are none."""
    totals = vote_totals(votes)
    chosen = totals >= min_votes if (totals >= min_votes).any() else totals > 0
    return (votes[chosen] / totals[chosen, None]).mean(axis=0)
