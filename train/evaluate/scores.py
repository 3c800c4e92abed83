"""Mean KL of predictions over choices of label rows, the class prior beside them, and intervals over patients."""

import numpy as np
import polars as pl

from common.blend import Bounds
from common.metric import kl_divergence, vote_shares
from common.schema import MANY_VOTES, PATTERNS, VOTES
from train.data.labels import prior_shares, vote_totals

RESAMPLES, BOOTSTRAP_SEED = 2000, 0
INTERVAL = (2.5, 97.5)  # percentiles of the resampled scores
VOTE_BINS = ((1, 4), (5, 9), (10, 12), (13, 15), (16, 19), (20, None))

# ---- which rows


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


def by_class(votes: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of each consensus: the pattern with most votes, of equals the first of PATTERNS."""
    consensus = votes.argmax(axis=1)
    return {pattern: consensus == k for k, pattern in enumerate(PATTERNS)}


def by_fold(fold: np.ndarray) -> dict[int, np.ndarray]:
    """The rows of each fold, by its number."""
    return {int(k): fold == k for k in np.unique(fold)}


def by_votes(votes: np.ndarray) -> dict[str, np.ndarray]:
    """The rows by their number of votes, as "1 to 4"; bins without a row are left out."""
    totals = vote_totals(votes)
    bins = {
        f"{low} to {high}" if high else f">= {low}": (totals >= low) & (totals <= (high or totals.max()))
        for low, high in VOTE_BINS
    }
    return {label: chosen for label, chosen in bins.items() if chosen.any()}


# ---- scores


def mean_over(kl: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean (predictions,) of `kl` (predictions, rows) over the chosen rows; NaN when none is chosen."""
    return kl[:, chosen].mean(axis=1) if chosen.any() else np.full(len(kl), np.nan)


def kl_columns(votes: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """Mean KL over all rows, and over the rows with at least 10 votes (NaN when there are none)."""
    kl = kl_divergence(vote_shares(votes), prediction)[None]
    return float(kl.mean()), float(mean_over(kl, many_votes(votes))[0])


def out_of_fold_prior(votes: np.ndarray, fold: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
    """The class prior of the other folds for each fold of `wanted` (default: `fold`), (.., 6); with one fold its own.

    votes: (rows, 6), fold: (rows,). The prior is the mean vote shares of rows with many votes.
    """
    wanted = fold if wanted is None else wanted
    prior = np.empty((len(wanted), len(PATTERNS)))
    for k in np.unique(wanted):
        others = votes[fold != k]
        prior[wanted == k] = prior_shares(others if len(others) else votes, MANY_VOTES)
    return prior


# ---- intervals


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


def bounds(resampled: np.ndarray) -> list[Bounds | None]:
    """The 95 % intervals of columns of (RESAMPLES, columns), to write down; None where there were too few patients."""
    low, high = interval(resampled)
    return [None if np.isnan(a) else (round(float(a), 6), round(float(b), 6)) for a, b in zip(low, high, strict=True)]
