"""Folds: stratified by consensus, grouped by patient; made here or from a table."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.model_selection import StratifiedGroupKFold

from common.errors import KitError
from common.files import write_via
from train.data.labels import label_rows, read_table_with

COLUMNS = ("patient_id", "fold")
MakeFolds = Callable[[pl.DataFrame, int], np.ndarray]  # label rows, number of folds -> the fold of each row


class FoldError(KitError):
    """Folds that cannot be made or would leak."""


def make_folds(rows: pl.DataFrame, n_folds: int) -> np.ndarray:
    """The fold of each label row, (rows,). No patient is in two folds. Raises FoldError.

    Not shuffled: shuffle=True has meant different things in different scikit-learn versions (a bug
    fixed late in 2025), without it every version gives the same folds.
    """
    patients = rows["patient_id"].to_numpy()
    check_enough(patients, n_folds)
    fold = np.full(rows.height, -1)
    splitter = StratifiedGroupKFold(n_folds, shuffle=False)
    for k, (_, held_out) in enumerate(splitter.split(fold, rows["expert_consensus"].to_numpy(), patients)):
        fold[held_out] = k
    check_folds(patients, fold)
    check_filled(fold, n_folds)
    return fold


# ---- tables of folds


def read_fold_table(path: Path) -> pl.DataFrame:
    """patient_id and fold (both Int64), one row per patient, from a csv or parquet file. Raises FoldError."""
    table = read_table_with(COLUMNS, path, FoldError)
    numbers = table.select(pl.col(COLUMNS).cast(pl.Float64, strict=False)).to_numpy()  # a text reads as NaN
    wrong = ~(np.isfinite(numbers) & (numbers % 1 == 0)).all(axis=1) | (numbers[:, 1] < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        found = ", ".join(f"{name} {table[name][row]}" for name in COLUMNS)
        raise FoldError(
            f"{path}: {found} in data row {row + 1} ({wrong.sum()} such rows); expected whole numbers, folds from 0"
        )
    table = table.select(pl.col(COLUMNS).cast(pl.Int64)).unique().sort(COLUMNS)
    check_folds(table["patient_id"].to_numpy(), table["fold"].to_numpy(), f"{path}: ")
    there = sorted(set(table["fold"]))
    if there != list(range(len(there))):
        raise FoldError(f"{path}: its folds are {there}; expected 0 to {len(there) - 1} without a gap")
    return table


def folds_from_table(rows: pl.DataFrame, table: pl.DataFrame) -> np.ndarray:
    """The fold of each label row, (rows,), by its patient. Patients without rows do not matter. Raises FoldError."""
    found = rows.select("patient_id").join(table, on="patient_id", how="left", maintain_order="left")
    lacking = found.filter(pl.col("fold").is_null())["patient_id"].unique().sort()
    if len(lacking):
        some = ", ".join(str(patient) for patient in lacking[:5])
        raise FoldError(
            f"the table of folds lacks {len(lacking)} patients of train.csv: {some}{', ...' * (len(lacking) > 5)}"
        )
    fold = found["fold"].to_numpy()
    check_filled(fold, int(table["fold"].max()) + 1)
    return fold


def fold_table(rows: pl.DataFrame) -> pl.DataFrame:
    """patient_id and fold of each patient of label rows that have a column `fold`. Raises FoldError."""
    check_folds(rows["patient_id"].to_numpy(), rows["fold"].to_numpy())
    return rows.select(COLUMNS).unique().sort(COLUMNS)


def write_folds(competition: Path, out: Path, make: MakeFolds, n_folds: int) -> None:
    """Make folds of the label rows by votes, write their table as csv, print what is in each. Raises FoldError."""
    rows = label_rows(competition)
    fold = make(rows, n_folds)
    table = fold_table(rows.with_columns(fold=pl.Series(fold)))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_via(out, table.write_csv)
    for k in range(n_folds):
        print(f"fold {k}: {(fold == k).sum()} label rows, {(table['fold'] == k).sum()} patients")
    print(f"wrote {out}")


# ---- refusals


def check_enough(patients: np.ndarray, n_folds: int) -> None:
    """Raises FoldError when there are fewer patients than folds, or nothing to train on beside the only fold."""
    if n_folds < 2:
        raise FoldError(f"{n_folds} folds: at least 2 are needed, one to score and the others to train on")
    if len(np.unique(patients)) < n_folds:
        raise FoldError(f"{n_folds} folds need as many patients, train.csv has {len(np.unique(patients))}")


def check_filled(fold: np.ndarray, n_folds: int) -> None:
    """Raises FoldError when a fold has no label rows."""
    empty = sorted(set(range(n_folds)) - set(fold.tolist()))
    if empty:
        raise FoldError(f"fold {empty[0]} of 0 to {n_folds - 1} got no rows: too few patients for {n_folds} folds")


def check_folds(patients: np.ndarray, fold: np.ndarray, source: str = "") -> None:
    """Raises FoldError when a patient is in two folds; its message begins with `source`."""
    seen = pl.DataFrame({"patient_id": patients, "fold": fold}).group_by("patient_id").agg(pl.col("fold").n_unique())
    split = seen.filter(pl.col("fold") > 1).sort("patient_id")
    if split.height:
        patient, n_folds = split.row(0)
        raise FoldError(f"{source}patient {patient} is in {n_folds} folds ({split.height} such patients)")
