"""Out-of-fold predictions of several models on the same rows, and what is refused."""

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from polars import selectors

from common.blend import Provenance, Source
from common.errors import KitError
from common.files import sha256_of
from common.schema import MANY_VOTES, PATTERNS, VOTES
from train.data.labels import ROW_KEYS, vote_totals
from train.engine.run_folder import CONFIG, OOF, read_run, read_table
from train.provenance import kit_commit

IDS = selectors.matches(r"^(id|.*_id)$")
ROUNDING = 5e-4  # between probabilities that are one and the same, written in half precision


class BlendInputError(KitError):
    """Out-of-fold files that cannot be blended. The message names them and what differs."""


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of several models on the same rows. votes: (rows, 6); predictions: (models, rows, 6).

    group: (rows,) what is resampled, and lies in one fold. counted: whether `votes` are counts, not shares.
    """

    names: tuple[str, ...]
    votes: np.ndarray
    fold: np.ndarray
    predictions: np.ndarray
    many: np.ndarray  # rows with at least 10 votes: those that are fitted on and scored
    group: np.ndarray
    group_name: str = "patient_id"
    counted: bool = True
    warnings: tuple[str, ...] = ()
    provenance: Provenance | None = None


@dataclass(frozen=True)
class Table:
    """A file of rows with ids as integers."""

    name: str
    file: Path
    rows: pl.DataFrame

    @property
    def source(self) -> Source:
        return Source(name=self.name, sha256=sha256_of(self.file))


def read_source(path: Path, name: str) -> Table:
    """A table, its ids as 64-bit integers. Raises BlendInputError."""
    if not path.is_file():
        raise BlendInputError(f"{path}: no such run or parquet (a run has {OOF} once a fold is finished)")
    rows = read_table(path)
    ids = rows.select(IDS)
    whole = ids.cast(pl.Int64, strict=False)  # tables may differ in the width of their ids
    if lost := [c for c in ids.columns if not whole[c].cast(ids[c].dtype).equals(ids[c])]:
        raise BlendInputError(f"{name}: column {lost[0]} holds values that are no ids")
    return Table(name, path, rows.with_columns(whole))


def read_out_of_fold(sources: list[Path], labels: Path | None, group: str | None) -> OutOfFold:
    """All sources on the same rows. Raises BlendInputError.

    Our own oof.parquet carries ids, votes and fold; other tables need `labels` with these: votes as
    counts or as shares (then every row counts as one with many votes), and `fold`. Rows are matched on
    all id columns (`id` or `..._id`) that all tables have. No value of `group` may be in two folds; without one it
    is patient_id, or eeg_id where patients are not known.
    """
    tables = [read_source(s / OOF if s.is_dir() else s, s.name if s.is_dir() else s.stem) for s in sources]
    names = [table.name for table in tables]
    if len(set(names)) != len(names):
        raise BlendInputError(f"the same model twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    check_label_rows(sources)
    truth = read_source(labels, labels.name) if labels else tables[0]
    if absent := [column for column in (*VOTES, "fold") if column not in truth.rows.columns]:
        raise BlendInputError(f"{truth.name}: no column {', '.join(absent)}; --labels FILE gives them")
    keys = find_keys(truth, tables)
    column = check_groups(truth, group)
    predictions = np.stack([on_rows_of(truth, table, keys, labels is None) for table in tables])
    check_twins(names, predictions)
    votes, counted, many = read_votes(truth)
    groups = truth.rows[column].to_numpy()
    provenance = Provenance(
        sources=tuple(table.source for table in tables),
        labels=truth.source if labels else None,
        group=column,
        groups=len(np.unique(groups[many])),
        folds_sha256=fingerprint(truth.rows.select(*keys, "fold")),
        commit=kit_commit(),
    )
    constant = [name for name, values in zip(names, predictions, strict=True) if (np.ptp(values, axis=0) < 1e-9).all()]
    warnings = [f"{name} predicts the same for every row" for name in constant]
    if not group and column != "patient_id":
        warnings.append(f"patients are not known, intervals resample {column}: --group names a column that holds more")
    fold = truth.rows["fold"].to_numpy()
    return OutOfFold(tuple(names), votes, fold, predictions, many, groups, column, counted, tuple(warnings), provenance)


def fingerprint(rows: pl.DataFrame) -> str:
    """SHA-256 of the rows, in whatever order they are."""
    return hashlib.sha256(rows.sort(rows.columns).write_csv().encode()).hexdigest()


def read_votes(truth: Table) -> tuple[np.ndarray, bool, np.ndarray]:
    """Votes (rows, 6), whether they are counts, and which rows have many. Raises BlendInputError."""
    votes = truth.rows.select(pl.col(VOTES).cast(pl.Float64)).to_numpy()
    unlabelled = ~np.isfinite(votes).all(axis=1) | (votes.sum(axis=1) <= 0) | (votes < 0).any(axis=1)
    if unlabelled.any():
        raise BlendInputError(
            f"{truth.name}: {unlabelled.sum()} rows without votes, the first is row {np.argmax(unlabelled)}: "
            "labels are missing"
        )
    whole = all(truth.rows[vote].dtype.is_integer() for vote in VOTES)
    shares = not whole and bool(np.allclose(votes.sum(axis=1), 1))
    many = np.full(len(votes), True) if shares else vote_totals(votes) >= MANY_VOTES
    if not many.any():
        raise BlendInputError(f"no row has at least {MANY_VOTES} votes: there is nothing to fit a blend on")
    return votes, not shares, many


def check_label_rows(sources: list[Path]) -> None:
    """Raises BlendInputError when runs have label rows of different kinds."""
    kinds = {s.name: read_run(s).training.labels for s in sources if (s / CONFIG).is_file()}
    if len({ROW_KEYS[kind] for kind in kinds.values()}) > 1:
        named = ", ".join(f"{name} has labels = {kind!r}" for name, kind in kinds.items())
        raise BlendInputError(f"label rows of different kinds cannot be blended: {named}")


def find_keys(truth: Table, tables: list[Table]) -> list[str]:
    """The id columns that all tables have. Raises BlendInputError when they do not tell rows apart."""
    ids = {table.name: table.rows.select(IDS).columns for table in (truth, *tables)}
    keys = [column for column in ids[truth.name] if all(column in known for known in ids.values())]
    if not keys:
        found = "; ".join(f"{name} has {', '.join(known) or 'none'}" for name, known in ids.items())
        raise BlendInputError(f"no id column (id, ..._id) is in all tables: {found}")
    for table in (truth, *tables):
        if table.rows.select(keys).is_duplicated().any():
            raise BlendInputError(f"{table.name}: a row occurs twice ({', '.join(keys)})")
    return keys


def check_groups(truth: Table, group: str | None) -> str:
    """The column that is resampled. Raises BlendInputError when one of its values is in two folds."""
    known = truth.rows.columns
    column = group or next((column for column in ("patient_id", "eeg_id") if column in known), None)
    if column is None or column not in known:
        wanted = f"--group {group}: no such column" if group else "neither patient_id nor eeg_id: name one with --group"
        raise BlendInputError(f"{truth.name}: {wanted}; there are {', '.join(known)}")
    if truth.rows[column].null_count() or truth.rows["fold"].null_count():
        raise BlendInputError(f"{truth.name}: rows without {column} or fold")
    crossing = truth.rows.group_by(column).agg(pl.col("fold").n_unique()).filter(pl.col("fold") > 1).sort(column)
    if crossing.height:
        first = f"{column} {crossing[column][0]}"
        raise BlendInputError(f"{first} is in several folds ({crossing.height} such): that would leak")
    return column


def probability_columns(table: Table, own_votes: bool) -> list[str]:
    """Six columns named alike around the patterns' names: seizure ..., or lpd_vote ..., or pred_LPD ... Those named
    as votes are probabilities only where others carry the labels. Raises BlendInputError."""
    plain, found = [*PATTERNS], {}
    for column, pattern in itertools.product(table.rows.columns, PATTERNS):
        before, there, after = column.lower().partition(pattern)
        if there:
            found.setdefault((before, after), {})[pattern] = column
    complete = [[names[p] for p in PATTERNS] for names in found.values() if len(names) == len(PATTERNS)]
    if plain in complete:
        return plain
    others = [names for names in complete if names != [*VOTES]]
    if len(others) > 1:
        shown = ", ".join(names[0] for names in others)
        raise BlendInputError(f"{table.name}: several sets of probabilities ({shown}): keep the columns of one")
    if not others and (own_votes or not complete):
        raise BlendInputError(f"{table.name}: no columns {', '.join(PATTERNS)} with probabilities")
    return (others or complete)[0]


def on_rows_of(truth: Table, table: Table, keys: list[str], own_votes: bool) -> np.ndarray:
    """The table's probabilities in the order of `truth`, (rows, 6). Raises BlendInputError."""
    columns = probability_columns(table, own_votes)
    strangers, lacking = (a.rows.join(b.rows, on=keys, how="anti") for a, b in ((table, truth), (truth, table)))
    if strangers.height or lacking.height:
        first = (lacking if lacking.height else strangers).row(0, named=True)
        raise BlendInputError(
            f"{table.name}: {lacking.height} of the {truth.rows.height} rows of {truth.name} are missing and "
            f"{strangers.height} others are there, e.g. {', '.join(f'{key} {first[key]}' for key in keys)}"
        )
    rows = truth.rows.select(keys).join(table.rows, on=keys, how="left", maintain_order="left")
    if "fold" in rows.columns and not rows["fold"].equals(truth.rows["fold"], check_dtypes=False):
        raise BlendInputError(f"{table.name}: its folds differ from those of {truth.name}")
    if columns != [*VOTES] and set(VOTES) <= set(rows.columns):
        ours, theirs = (t.select(pl.col(VOTES).cast(pl.Float64)).to_numpy() for t in (rows, truth.rows))
        if not np.allclose(ours * theirs.sum(axis=1, keepdims=True), theirs * ours.sum(axis=1, keepdims=True)):
            raise BlendInputError(f"{table.name}: its votes differ from those of {truth.name}")
    return probabilities(rows.select(pl.col(columns).cast(pl.Float64, strict=False)).to_numpy(), table.name)


def probabilities(values: np.ndarray, name: str) -> np.ndarray:
    """(rows, 6) made to sum to 1, from which they may differ by a rounding. Raises BlendInputError."""
    finite, sums = np.isfinite(values).all(axis=1), values.sum(axis=1, keepdims=True)
    if not finite.all():
        raise BlendInputError(f"{name}: {(~finite).sum()} rows hold NaN, infinity or nothing")
    wrong = (values < 0).any(axis=1) | ~np.isclose(sums[:, 0], 1, atol=1e-3)
    if wrong.any():
        found = ", ".join(f"{value:.3g}" for value in values[np.argmax(wrong)])
        raise BlendInputError(
            f"{name}: {wrong.sum()} rows are not probabilities that sum to 1, the first of them is {found}"
        )
    return values / sums


def check_twins(names: list[str], predictions: np.ndarray) -> None:
    """Raises BlendInputError when two models predict the same: they are one, counted twice."""
    for one, other in itertools.combinations(range(len(names)), 2):
        if np.abs(predictions[one] - predictions[other]).max() < ROUNDING:
            raise BlendInputError(
                f"{names[one]} and {names[other]} are one model under two names: no probability differs by {ROUNDING:g}"
            )
