"""The competition's score: mean Kullback-Leibler divergence of predicted from voted shares."""

import numpy as np

CLIP = 1e-15  # the metric clips predictions to [CLIP, 1 - CLIP] before it takes logarithms


def vote_shares(votes: np.ndarray) -> np.ndarray:
    """Vote counts (rows, 6) to shares that sum to 1. Raises ValueError on a row without votes."""
    votes = np.asarray(votes, dtype=np.float64)
    totals = votes.sum(axis=1, keepdims=True)
    if (totals <= 0).any():
        raise ValueError(f"row {int(np.argmax(totals <= 0))} has no votes: shares are undefined")
    return votes / totals


def kl_divergence(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """KL(target || prediction) of each row, in nats.

    target, prediction: (rows, 6), rows summing to 1. Terms whose target is 0 count 0; predictions
    are clipped as the competition's metric does.
    """
    target = np.asarray(target, dtype=np.float64)
    prediction = np.clip(np.asarray(prediction, dtype=np.float64), CLIP, 1 - CLIP)
    safe = np.where(target > 0, target, 1.0)
    return np.where(target > 0, target * (np.log(safe) - np.log(prediction)), 0.0).sum(axis=1)


def refusals(prediction: np.ndarray) -> list[str]:
    """Why the competition would refuse these rows (rows, 6); empty when it would not."""
    prediction = np.asarray(prediction, dtype=np.float64)
    finite, sums = np.isfinite(prediction).all(axis=1), prediction.sum(axis=1)
    faults = {
        "hold a value that is not a number": ~finite,
        "hold a value below 0 or above 1": ((prediction < 0) | (prediction > 1)).any(axis=1),
        "do not sum to 1": finite & ~np.isclose(sums, 1.0),
    }
    reasons = [f"{rows.sum()} rows {what}, first row {np.argmax(rows)}" for what, rows in faults.items() if rows.any()]
    if (wrong := faults["do not sum to 1"]).any():
        reasons[-1] += f" sums to {sums[np.argmax(wrong)]:.6f}"
    return reasons
