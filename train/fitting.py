"""Fitting one way to combine on given rows: convex problems, each solved to its optimum.

target: (rows, 6) vote shares; predictions, and logs of them: (models, rows, 6).
"""

import numpy as np

from common.metric import CLIP
from common.schema import PATTERNS
from train.newton import Evaluated, minimise

SMALLEST_WEIGHT = 1e-6  # of a model in use
N = len(PATTERNS)


def in_use(weights: np.ndarray) -> np.ndarray:
    """Weights (models,) that sum to 1, those that are next to nothing set to it."""
    weights = np.where(weights > SMALLEST_WEIGHT * weights.sum(), weights, 0.0)
    return weights / weights.sum()


def equal_weights(models: int) -> np.ndarray:
    return np.full(models, 1 / models)


def fit_weights(target: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Convex weights (models,) that minimise the mean KL of the mixture; `optimality_gap` proves how near they are.

    The constraint that they sum to 1 is put into the objective: of any weights above 0 the least of KL + sum does.
    """
    predictions = np.maximum(predictions, CLIP)
    flat, wanted = predictions.reshape(len(predictions), -1), target.ravel()

    def objective(weights: np.ndarray) -> Evaluated:
        mixture = weights @ flat  # above 0, as predictions are and some weight is
        value = weights.sum() - (wanted * np.log(mixture)).sum() / len(target)

        def hessian() -> np.ndarray:
            rate = flat * (np.sqrt(wanted) / mixture)
            return rate @ rate.T / len(target)

        return value, 1 - flat @ (wanted / mixture) / len(target), hessian

    return in_use(minimise(objective, equal_weights(len(predictions)), np.full(len(predictions), True)))


def optimality_gap(target: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    """An upper bound, by convexity, of what any other weights could still gain, in nats."""
    predictions = np.maximum(predictions, CLIP)
    mixture = np.tensordot(weights, predictions, axes=1)
    return float((target / mixture * predictions).sum(axis=-1).mean(axis=-1).max() - 1)


def softmax_parts(logits: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean logarithm of the sum of powers, and the probabilities (rows, 6)."""
    highest = logits.max(axis=1, keepdims=True)
    powers = np.exp(logits - highest)
    sums = powers.sum(axis=1, keepdims=True)
    return float((highest + np.log(sums)).mean()), powers / sums


def fit_log_linear(target: np.ndarray, logs: np.ndarray, strength: float, start: np.ndarray | None) -> np.ndarray:
    """Models' factors (not negative) and six biases, (models + 6,), of the logits: factors @ logs + bias.

    The ridge holds the factors together, not their sum, which is the sharpness, and the biases near 0. Factors are
    measured against equal ones, so a strength means the same for any number of models.
    """
    models, rows, _ = logs.shape
    ones = np.broadcast_to(np.eye(N)[:, None], (N, rows, N))
    terms = np.concatenate([logs, ones]).reshape(models + N, -1)
    observed = terms @ target.ravel() / rows
    ridge = np.zeros((models + N, models + N))
    ridge[:models, :models] = models * np.eye(models) - 1
    ridge[models:, models:] = np.eye(N)
    ridge *= 2 * strength

    def objective(x: np.ndarray) -> Evaluated:
        height, predicted = softmax_parts((x @ terms).reshape(rows, N))
        value = height - x @ observed + x @ ridge @ x / 2

        def hessian() -> np.ndarray:
            expected = terms * predicted.ravel()
            of_row = expected.reshape(-1, rows, N).sum(axis=2)
            return (expected @ terms.T - of_row @ of_row.T) / rows + ridge

        return value, terms @ predicted.ravel() / rows - observed + ridge @ x, hessian

    if start is None:
        start = np.concatenate([equal_weights(models), np.zeros(N)])
    return minimise(objective, start, np.arange(models + N) < models)


def fit_correction(target: np.ndarray, logits: np.ndarray, summaries: np.ndarray, strength: float) -> np.ndarray:
    """What the summaries (rows, 12) add to the logits (rows, 6), (12, 6), with a ridge."""
    rows, wide = len(target), summaries.shape[1]

    def objective(x: np.ndarray) -> Evaluated:
        moved = logits + summaries @ x.reshape(N, wide).T
        height, predicted = softmax_parts(moved)
        value = height - (target * moved).sum() / rows + strength * x @ x

        def hessian() -> np.ndarray:
            per_row = (predicted[:, :, None] * summaries[:, None]).reshape(rows, -1)
            products = -per_row.T @ per_row
            for k in range(N):
                part = slice(k * wide, (k + 1) * wide)
                products[part, part] += summaries.T @ per_row[:, part]
            return products / rows + 2 * strength * np.eye(len(x))

        return value, ((predicted - target).T @ summaries).ravel() / rows + 2 * strength * x, hessian

    return minimise(objective, np.zeros(N * wide), np.full(N * wide, False)).reshape(N, wide).T
