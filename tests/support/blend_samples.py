"""Made-up out-of-fold predictions."""

import numpy as np

from train.blend.out_of_fold import OutOfFold

PATTERNS = ["seizure", "lpd", "gpd", "lrda", "grda", "other"]
UNIFORM = (1 / 6,) * 6
PRIOR = (0.05, 0.15, 0.2, 0.1, 0.1, 0.4)


def dirichlet(seed, *shape):
    return np.random.default_rng(seed).dirichlet(np.full(6, 0.7), shape)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def noisy(rng, truth, scale, models):
    """Models that see the truth (rows, 6) through noise of their own; scale: of all, or of each model or row."""
    return softmax(np.log(truth + 0.01) + rng.normal(size=(models, *truth.shape)) * scale)


def out_of_fold(predictions, votes, fold):
    """Each row its own patient."""
    names, many = tuple("abcdef"[: len(predictions)]), votes.sum(axis=1) >= 10
    return OutOfFold(names, votes, fold, predictions, many, np.arange(len(votes)))
