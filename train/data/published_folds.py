"""The folds of the seed repository's notebooks, to compare with published scores only: `train folds --published`."""

import numpy as np
import polars as pl

from train.data.folds import check_enough, check_filled

PUBLISHED_SEED = 42


def published_folds(rows: pl.DataFrame, n_folds: int = 5) -> np.ndarray:
    """The seed repository's fold of each label row, (rows,); `rows` are those by votes. Raises FoldError.

    They are what scikit-learn's StratifiedGroupKFold(shuffle=True, random_state=42) gave until it was fixed
    (pull request 32540): it shuffled the patients' class counts but not the patients, so that each patient goes
    where another one's counts were wanted. No patient is in two folds, but hardly anything is stratified: use these
    to compare with published scores only. 20,183 rows give folds of 3579, 4372, 3685, 4268 and 4279.
    """
    names, patient = np.unique(rows["patient_id"].to_numpy(), return_inverse=True)
    classes, consensus = np.unique(rows["expert_consensus"].to_numpy(), return_inverse=True)
    check_enough(names, n_folds)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (patient, consensus), 1)
    in_class = counts.sum(axis=0)
    np.random.RandomState(PUBLISHED_SEED).shuffle(counts)
    fold_of_patient = np.empty(len(names), dtype=np.int64)
    filled = np.zeros((n_folds, len(classes)))  # rows of each class in each fold so far
    for place in np.argsort(-counts.std(axis=1), kind="stable"):  # the most lopsided patient first
        best = emptiest_of_the_most_even(filled, counts[place], in_class)
        filled[best] += counts[place]
        fold_of_patient[place] = best
    fold = fold_of_patient[patient]
    check_filled(fold, n_folds)
    return fold


def emptiest_of_the_most_even(filled: np.ndarray, added: np.ndarray, in_class: np.ndarray) -> int:
    """The fold where a patient's class counts leave the classes spread most evenly over the folds.

    filled: (folds, classes); added, in_class: (classes,). Of about equal folds the one with fewer rows. They are
    asked one after the other, each against the best so far: where rounding decides, the order is part of the result.
    """
    best, best_spread = 0, np.inf
    for k in range(len(filled)):
        tried = filled.copy()
        tried[k] += added
        spread = (tried / in_class).std(axis=0).mean()
        emptier = filled[k].sum() < filled[best].sum()
        if spread < best_spread or (np.isclose(spread, best_spread) and emptier):
            best, best_spread = k, spread
    return best
