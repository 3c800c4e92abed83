"""Fitting weights on given rows: convex problems, each solved to its optimum.

target: (rows, 6) vote shares; predictions, and logs of them: (models, rows, 6).
"""

from collections.abc import Callable

import numpy as np
from scipy import optimize
from scipy.special import log_softmax

from common.metric import CLIP
from common.schema import PATTERNS

SMALLEST_WEIGHT = 1e-6  # of a model in use
N = len(PATTERNS)
SLOPE = 1e-9  # largest slope at the optimum, in nats for each unit of an argument
RESTARTS = 30

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]  # value and gradient


def minimise(objective: Objective, start: np.ndarray, bounded: np.ndarray) -> np.ndarray:
    """x (n,) where a convex `objective` is least among those with x[bounded] >= 0; `start` is one of them.

    L-BFGS-B stops as soon as a step changes the value by less than a rounding, which on a flat objective is far from
    the optimum. So it starts again from there, until the slope is small or it moves no more.
    """
    bounds = [(0.0 if low else None, None) for low in bounded]
    for _ in range(RESTARTS):
        found = optimize.minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 0.0, "gtol": SLOPE}
        )
        if np.array_equal(found.x, start):
            break
        start = found.x
    return found.x


def in_use(weights: np.ndarray) -> np.ndarray:
    """Weights (models,) that sum to 1, those that are next to nothing set to it."""
    weights = np.where(weights > SMALLEST_WEIGHT * weights.sum(), weights, 0.0)
    return weights / weights.sum()


def equal_weights(models: int) -> np.ndarray:
    """Of so many models, (models,)."""
    return np.full(models, 1 / models)


def fit_weights(target: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Convex weights (models,) that minimise the mean KL of the mixture; `optimality_gap` proves how near they are.

    The constraint that they sum to 1 is put into the objective: of any weights above 0 the least of KL + sum does.
    """
    predictions = np.maximum(predictions, CLIP)
    flat, wanted = predictions.reshape(len(predictions), -1), target.ravel()

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixture = weights @ flat  # above 0, as predictions are and some weight is
        value = weights.sum() - (wanted * np.log(mixture)).sum() / len(target)
        return value, 1 - flat @ (wanted / mixture) / len(target)

    return in_use(minimise(objective, equal_weights(len(predictions)), np.full(len(predictions), True)))


def optimality_gap(target: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    """An upper bound, by convexity, of what any other weights could still gain, in nats."""
    predictions = np.maximum(predictions, CLIP)
    mixture = np.tensordot(weights, predictions, axes=1)
    return float((target / mixture * predictions).sum(axis=-1).mean(axis=-1).max() - 1)


def fit_log_linear(target: np.ndarray, logs: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Models' factors (models,), not negative, and six biases of the logits: factors @ logs + bias.

    The ridge holds the factors together, not their sum, which is the sharpness, and the biases near 0. Factors are
    measured against equal ones, so a strength means the same for any number of models.
    """
    models, rows, _ = logs.shape
    ones = np.broadcast_to(np.eye(N)[:, None], (N, rows, N))
    terms = np.concatenate([logs, ones]).reshape(models + N, -1)
    ridge = np.zeros((models + N, models + N))
    ridge[:models, :models] = models * np.eye(models) - 1
    ridge[models:, models:] = np.eye(N)
    ridge *= 2 * strength

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        predicted = log_softmax((x @ terms).reshape(rows, N), axis=1)
        value = -(target * predicted).sum() / rows + x @ ridge @ x / 2
        return value, terms @ (np.exp(predicted) - target).ravel() / rows + ridge @ x

    start = np.concatenate([equal_weights(models), np.zeros(N)])
    found = minimise(objective, start, np.arange(models + N) < models)
    return found[:models], found[models:]


def fit_correction(target: np.ndarray, logits: np.ndarray, summaries: np.ndarray, strength: float) -> np.ndarray:
    """What the summaries (rows, 12) add to the logits (rows, 6), (12, 6), with a ridge."""
    rows, wide = len(target), summaries.shape[1]

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        predicted = log_softmax(logits + summaries @ x.reshape(N, wide).T, axis=1)
        value = -(target * predicted).sum() / rows + strength * x @ x
        return value, ((np.exp(predicted) - target).T @ summaries).ravel() / rows + 2 * strength * x

    return minimise(objective, np.zeros(N * wide), np.full(N * wide, False)).reshape(N, wide).T
