"""train.csv to label rows, and which of them a stage trains on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from common.errors import KitError
from common.schema import CONSENSUS, SFREQ, SPECTROGRAM_STEP_SECONDS, TRAIN_TABLE, VOTES
from train.data.row_selection import RowSelection

IDS = ("eeg_id", "spectrogram_id", "patient_id", "label_id")
OFFSETS = ("eeg_label_offset_seconds", "spectrogram_label_offset_seconds")
LABEL_COLUMNS = (*IDS, *OFFSETS, "expert_consensus", *VOTES)  # what the kit reads of train.csv
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

FIX_ROWS = "fix these rows, or take them out"
FIND_PATIENT = "it could be trained on and held out at once: find out whose it is"
SHOWN = 5  # cases named in a message


class LabelError(KitError):
    """A train.csv that cannot be trained on. The message says what was found and expected."""


@dataclass(frozen=True)
class Violation:
    """A rule of train.csv, and the rows that break it, or the label_ids, eeg_ids or spectrogram_ids that do."""

    check: str
    what: str
    todo: str
    ids: tuple[int, ...]
    cases: tuple[str, ...]  # the ids in words; a row without a label_id by its number: the first after the header is 1
    rows: np.ndarray  # places of the rows that break it; empty where the rule is about ids


def read_table_with(columns: Sequence[str], path: Path, fault: type[KitError]) -> pl.DataFrame:
    """A csv or parquet table that has these columns and at least one row. Raises `fault`."""
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise fault(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})") from error
    if absent := [name for name in columns if name not in table.columns]:
        raise fault(f"{path}: no column {', '.join(absent)}; it has {', '.join(table.columns)}")
    if table.height == 0:
        raise fault(f"{path}: no rows")
    return table


def read_train_table(competition: Path) -> pl.DataFrame:
    """train.csv, checked. Raises LabelError."""
    path = competition / TRAIN_TABLE
    table = read_table_with(LABEL_COLUMNS, path, LabelError)
    for broken in find_violations(table):
        shown = ", ".join(broken.cases[:SHOWN]) + (", ..." if len(broken.cases) > SHOWN else "")
        raise LabelError(f"{path}: {len(broken.cases)} {broken.what}: {shown}; {broken.todo}")
    return table.with_columns(pl.col(VOTES + IDS).cast(pl.Float64).cast(pl.Int64), pl.col(OFFSETS).cast(pl.Float64))


def find_violations(table: pl.DataFrame) -> list[Violation]:
    """The rules of train.csv that a table with LABEL_COLUMNS breaks; an empty cell, a text and infinity are no numbers.

    Training refuses a table that breaks any of them.
    """
    read = [pl.col(name).cast(pl.Float64, strict=False) for name in (*IDS, *OFFSETS, *VOTES)]
    numbers = table.select(pl.when(column.is_finite()).then(column) for column in read)
    votes = numbers.select(VOTES).fill_null(np.nan).to_numpy()  # (rows, patterns)
    counted = (np.isfinite(votes) & (votes >= 0) & (votes % 1 == 0)).all(axis=1)
    numbered = numbers.select(pl.all_horizontal(pl.col(IDS + OFFSETS).is_not_null())).to_series().to_numpy()
    named = table["expert_consensus"].cast(pl.String).is_in(CONSENSUS).fill_null(False).to_numpy()
    known = numbers.drop_nulls(IDS).cast(dict.fromkeys(IDS, pl.Int64))
    repeated = known.filter(pl.col("label_id").is_duplicated())["label_id"].unique(maintain_order=True)
    names = ", ".join(CONSENSUS)
    found = [
        of_rows("label-number", "rows whose ids or offsets are no numbers", ~numbered, numbers),
        of_rows("vote-number", "rows with votes that are negative, not whole or empty", ~counted, numbers),
        of_rows("no-votes", "rows without votes", counted & (votes.sum(axis=1) == 0), numbers),
        of_rows("consensus-name", f"rows whose consensus is none of {names}", ~named, numbers),
        of_ids("label-twice", "label_ids that stand in several rows", FIX_ROWS, repeated),
        *(
            of_ids(check, f"{column}s under several patients", FIND_PATIENT, with_several(known, column, "patient_id"))
            for check, column in (("eeg-patients", "eeg_id"), ("spectrogram-patients", "spectrogram_id"))
        ),
    ]
    return [violation for violation in found if violation.cases]


def of_rows(check: str, what: str, broken: np.ndarray, numbers: pl.DataFrame) -> Violation:
    places = np.flatnonzero(broken)
    labels = [(place, numbers["label_id"][int(place)]) for place in places]
    cases = (f"row {place + 1}" if label is None else str(int(label)) for place, label in labels)
    ids = (int(label) for _, label in labels if label is not None)
    return Violation(check, what, FIX_ROWS, tuple(ids), tuple(cases), places)


def of_ids(check: str, what: str, todo: str, ids: pl.Series) -> Violation:
    return Violation(check, what, todo, tuple(ids), tuple(map(str, ids)), np.array([], np.int64))


def with_several(table: pl.DataFrame, column: str, of: str) -> pl.Series:
    """The values of `column` whose rows have several values of another column, sorted."""
    several = table.group_by(column).agg(pl.col(of).n_unique()).filter(pl.col(of) > 1)
    return several[column].sort()


def label_rows(competition: Path, labels: str = "votes", window: str = "labelled") -> pl.DataFrame:
    """One row per (eeg_id, vote vector), per EEG or per window of train.csv: `labels` is a key of ROW_KEYS.

    Columns: eeg_id, VOTES (Int64, of whole EEGs Float64), label_id (the first window's in the file, so unique),
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
    """The number of votes N (rows,) of `votes` (rows, patterns): whole, though rows by EEG carry rounding errors."""
    return np.rint(votes.sum(axis=1)).astype(np.int64)


def select_rows(votes: np.ndarray, selection: RowSelection) -> np.ndarray:
    """Which rows of `votes` (rows, patterns) a stage wants, (rows,) of bool. Unanimous: one class has all votes."""
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
    """Mean vote shares (patterns,) of the rows of `votes` with at least min_votes; of all if there are none."""
    totals = vote_totals(votes)
    chosen = totals >= min_votes if (totals >= min_votes).any() else totals > 0
    return (votes[chosen] / totals[chosen, None]).mean(axis=0)
