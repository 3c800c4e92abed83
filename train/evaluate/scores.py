"""Mean KL of predictions over choices of label rows, and how far other patients could move it."""

import numpy as np
import polars as pl

from common.schema import MANY_VOTES, PATTERNS, VOTES
from train.labels import vote_totals

RESAMPLES, BOOTSTRAP_SEED = 2000, 0
INTERVAL = (2.5, 97.5)  # percentiles of the resampled scores


def many_votes(votes: np.ndarray) -> np.ndarray:
    """Which rows of `votes` (rows, 6) have at least 10 votes, (rows,)."""
    return vote_totals(votes) >= MANY_VOTES


def one_per_eeg(rows: pl.DataFrame) -> np.ndarray:
    """Of each EEG the row with the most votes, of equals the one with the lowest label_id, (rows,) of bool.

    The hidden test has one row per EEG, while an EEG with many vote vectors counts many times in all label rows.
    """
    totals = vote_totals(rows.select(VOTES).to_numpy())
    eegs = rows["eeg_id"].to_numpy()
    order = np.lexsort((rows["label_id"].to_numpy(), -totals, eegs))  # the last key is the first to sort by
    chosen = np.full(rows.height, False)
    chosen[order[np.unique(eegs[order], return_index=True)[1]]] = True
    return chosen


def row_choices(rows: pl.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """Which rows each column of each table of scores is read on, (rows,) of bool.

    scores: all rows, those with many votes, and one of each EEG: of all EEGs and of those with such a row;
    classes: many-vote rows by consensus, the pattern with most votes, of equals the first of PATTERNS;
    folds_many, folds_all: many-vote rows, and all, by fold.
    """
    votes, fold = rows.select(VOTES).to_numpy(), rows["fold"].to_numpy()
    many, single, consensus = many_votes(votes), one_per_eeg(rows), votes.argmax(axis=1)
    whole = {"kl_all": np.full(len(votes), True), "kl_many": many, "kl_eeg": single, "kl_eeg_many": single & many}
    return {
        "scores": whole,
        "classes": {pattern: many & (consensus == k) for k, pattern in enumerate(PATTERNS)},
        "folds_many": {f"fold{k}": many & (fold == k) for k in np.unique(fold)},
        "folds_all": {f"fold{k}": fold == k for k in np.unique(fold)},
    }


def mean_over(kl: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean (predictions,) of `kl` (predictions, rows) over the chosen rows; NaN when none is chosen."""
    return kl[:, chosen].mean(axis=1) if chosen.any() else np.full(len(kl), np.nan)


def resampled_means(kl: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Mean KL of as many patients drawn with replacement, (RESAMPLES, predictions), from `kl` (predictions, rows).

    A patient comes with all rows: these are alike, so rows drawn one by one would promise too much. Every
    prediction is scored on the same draws, which makes differences between columns paired. NaN below two patients.
    """
    patients, of_row = np.unique(patient, return_inverse=True)
    if len(patients) < 2:
        return np.full((RESAMPLES, len(kl)), np.nan)
    sums = np.stack([np.bincount(of_row, weights=values) for values in kl])  # (predictions, patients)
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    times = generator.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), RESAMPLES)
    return times @ sums.T / (times @ np.bincount(of_row))[:, None]


def interval(resampled: np.ndarray) -> np.ndarray:
    """Bounds (2, ..) of the 95 % interval from (RESAMPLES, ..)."""
    return np.percentile(resampled, INTERVAL, axis=0)
