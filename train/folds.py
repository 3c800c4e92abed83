"""Folds: stratified by consensus, grouped by patient."""

import numpy as np
import polars as pl
from sklearn.model_selection import StratifiedGroupKFold

from common.errors import KitError


class FoldError(KitError):
    """Folds that cannot be made or would leak."""


def make_folds(rows: pl.DataFrame, n_folds: int) -> np.ndarray:
    """The fold of each label row, (rows,). No patient is in two folds. Raises FoldError.

    Not shuffled: shuffle=True has meant different things in different scikit-learn versions (a bug
    fixed late in 2025), without it every version gives the same folds.
    """
    patients = rows["patient_id"].to_numpy()
    if len(np.unique(patients)) < n_folds:
        raise FoldError(f"{n_folds} folds need as many patients, train.csv has {len(np.unique(patients))}")
    fold = np.full(rows.height, -1)
    splitter = StratifiedGroupKFold(n_folds, shuffle=False)
    for k, (_, held_out) in enumerate(splitter.split(fold, rows["expert_consensus"].to_numpy(), patients)):
        fold[held_out] = k
    check_folds(patients, fold)
    empty = sorted(set(range(n_folds)) - set(fold))
    if empty:
        raise FoldError(f"fold {empty[0]} got no rows: too few patients for {n_folds} folds")
    return fold


def check_folds(patients: np.ndarray, fold: np.ndarray) -> None:
    """Raises FoldError when a patient is in two folds."""
    seen = pl.DataFrame({"patient_id": patients, "fold": fold}).group_by("patient_id").agg(pl.col("fold").n_unique())
    torn = seen.filter(pl.col("fold") > 1)
    if torn.height:
        raise FoldError(f"patient {torn['patient_id'][0]} is in {torn['fold'][0]} folds ({torn.height} such patients)")
