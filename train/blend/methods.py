"""The methods to combine models. A new one is a function that fits it and a line in METHODS.

What a method predicts is done by combine() in common/blend.py, the function that the kernel runs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from common.blend import LEAST_LOGGED, LogLinear, combine, mean_and_spread
from common.metric import kl_divergence, vote_shares
from train.blend.fit import N, equal_weights, fit_correction, fit_log_linear, fit_weights, in_use, optimality_gap
from train.blend.out_of_fold import OutOfFold

STRENGTHS = (1.0, 0.1, 0.01, 0.001)  # of the regularisation, the strongest first
FLATTEST = 1e6  # temperature, where the models add nothing to the biases
NO_FOLD = frozenset[int]()  # is left out


@dataclass(frozen=True)
class BlendWeights:
    """All that the kernel needs to combine models. models: their weights (models,), summing to 1."""

    models: np.ndarray
    log_linear: LogLinear | None = None
    strength: float | None = None  # of the regularisation that they were fitted with
    optimality_gap: float | None = None  # what other weights could still gain at most, in nats

    def predict(self, names: tuple[str, ...], predictions: np.ndarray) -> np.ndarray:
        """Probabilities (rows, 6) from `predictions` (models, rows, 6)."""
        weights = {name: float(weight) for name, weight in zip(names, self.models, strict=True) if weight > 0}
        given = dict(zip(names, predictions, strict=True))
        return combine(given, weights, (1 / N,) * N, predictions.shape[1], self.log_linear)

    def without(self, left_out: int) -> "BlendWeights":
        """As the kernel goes on when it leaves a model out: the others share its weight."""
        models = self.models.copy()
        models[left_out] = 0.0
        return replace(self, models=models / models.sum() if models.any() else models)


@dataclass(frozen=True)
class Rows:
    """Rows to fit on, and what was fitted on them: methods and folds ask for the same fits again.

    fold: (rows,); target: (rows, 6) vote shares; predictions: (models, rows, 6).
    """

    names: tuple[str, ...]
    fold: np.ndarray
    target: np.ndarray
    predictions: np.ndarray
    fitted: dict[tuple[str, float | None], BlendWeights] = field(default_factory=dict)
    parts: dict[frozenset[int], "Rows"] = field(default_factory=dict)

    def folds(self) -> list[int]:
        return np.unique(self.fold).tolist()

    def logs(self) -> np.ndarray:
        """Logarithms of the predictions, those of 0 as of the least that counts."""
        return np.log(np.maximum(self.predictions, LEAST_LOGGED))

    def without(self, folds: frozenset[int]) -> "Rows":
        """The rows of the other folds."""
        if folds not in self.parts:
            here = ~np.isin(self.fold, list(folds))
            self.parts[folds] = Rows(self.names, self.fold[here], self.target[here], self.predictions[:, here])
        return self.parts[folds]


def rows_of(oof: OutOfFold) -> Rows:
    """Those with many votes."""
    many = oof.many
    return Rows(oof.names, oof.fold[many], vote_shares(oof.votes[many]), oof.predictions[:, many])


# ---- methods


@dataclass(frozen=True)
class Method:
    """One way to combine models. fit: from rows and a strength of regularisation, one of `strengths`, if any."""

    name: str
    description: str
    fit: Callable[[Rows, float | None], BlendWeights]
    strengths: tuple[float, ...] = ()
    needs_folds: bool = True  # fitted, so it is scored on folds that it was not fitted on

    def fit_once(self, rows: Rows, strength: float | None) -> BlendWeights:
        """`fit`, kept by the rows for the next who asks."""
        if (self.name, strength) not in rows.fitted:
            rows.fitted[self.name, strength] = self.fit(rows, strength)
        return rows.fitted[self.name, strength]

    def fit_without(self, rows: Rows, folds: frozenset[int] = NO_FOLD) -> BlendWeights:
        """Fitted on all folds but these, the strength chosen by cross-validation among the folds fitted on."""
        part = rows.without(folds)
        inside = part.folds()
        if len(self.strengths) < 2 or len(inside) < 2:  # with one fold there is nothing to choose by
            return self.fit_once(part, self.strengths[0] if self.strengths else None)

        def score(strength: float) -> float:
            return float(np.concatenate([self.score_fold(rows, folds, k, strength) for k in inside]).mean())

        return self.fit_once(part, min(self.strengths, key=score))

    def score_fold(self, rows: Rows, folds: frozenset[int], k: int, strength: float) -> np.ndarray:
        """KL of the rows of fold k, fitted without it and without `folds`."""
        here = rows.fold == k
        weights = self.fit_once(rows.without(folds | {k}), strength)
        return kl_divergence(rows.target[here], weights.predict(rows.names, rows.predictions[:, here]))

    def fit_nested(self, rows: Rows, folds: Iterable[int]) -> dict[int, BlendWeights]:
        """For each fold the weights that were fitted without it."""
        return {k: self.fit_without(rows, frozenset({k})) for k in folds}


def fit_mean(rows: Rows, strength: float | None) -> BlendWeights:
    """All models alike, probabilities averaged."""
    return BlendWeights(equal_weights(len(rows.predictions)))


def fit_geometric(rows: Rows, strength: float | None) -> BlendWeights:
    """All models alike, logarithms averaged."""
    return BlendWeights(equal_weights(len(rows.predictions)), LogLinear())


def fit_convex(rows: Rows, strength: float | None) -> BlendWeights:
    """The weights of the least KL, probabilities averaged."""
    models = fit_weights(rows.target, rows.predictions)
    return BlendWeights(models, optimality_gap=optimality_gap(rows.target, rows.predictions, models))


def fit_logs(rows: Rows, strength: float) -> BlendWeights:
    """Weights, a temperature and biases, logarithms averaged."""
    factors, bias = fit_log_linear(rows.target, rows.logs(), strength)
    if factors.sum() < 1 / FLATTEST:
        factors = equal_weights(len(factors)) / FLATTEST
    shape = LogLinear(temperature=float(1 / factors.sum()), bias=tuple(bias.tolist()))
    return BlendWeights(in_use(factors), shape, strength)


def fit_stacker(rows: Rows, strength: float) -> BlendWeights:
    """The log-linear blend, corrected by what the models' mean and spread tell."""
    base = LOG_LINEAR.fit_once(rows, strength)
    shape, weights = base.log_linear, base.models
    logits = np.tensordot(weights, rows.logs(), axes=1) / shape.temperature + np.array(shape.bias)
    mean, square = (np.tensordot(weights, values, axes=1) for values in (rows.predictions, rows.predictions**2))
    correction = fit_correction(rows.target, logits, mean_and_spread(mean, square), strength)
    shape = shape.model_copy(update={"correction": tuple(map(tuple, correction.tolist()))})
    return BlendWeights(weights, shape, strength)


LOG_LINEAR = Method(
    "log-linear", "weighted mean of the logarithms, a temperature and a bias for each pattern", fit_logs, STRENGTHS
)
# The simplest first: the blend is the first one that is as good as the best, but for noise.
METHODS = (
    Method("mean", "mean of the probabilities", fit_mean, needs_folds=False),
    Method("geometric", "mean of the logarithms of the probabilities", fit_geometric, needs_folds=False),
    Method("convex", "weighted mean of the probabilities", fit_convex),
    LOG_LINEAR,
    Method("stacker", "log-linear, corrected by the models' means and spreads", fit_stacker, STRENGTHS),
)


def method_named(name: str) -> Method:
    """The line of METHODS."""
    return next(method for method in METHODS if method.name == name)


def possible_methods(rows: Rows) -> tuple[Method, ...]:
    """What is fitted needs rows to fit on when each fold is left out."""
    return tuple(method for method in METHODS if not method.needs_folds or len(rows.folds()) > 1)


def predict_nested(rows: OutOfFold | Rows, nested: dict[int, BlendWeights]) -> np.ndarray:
    """Probabilities (rows, 6) of each fold by its own weights."""
    mixed = np.empty_like(rows.predictions[0])
    for k, weights in nested.items():
        here = rows.fold == k
        mixed[here] = weights.predict(rows.names, rows.predictions[:, here])
    return mixed


def nested_kl(oof: OutOfFold, name: str) -> np.ndarray:
    """KL (rows,) of each fold combined by the method of this name, fitted on the other folds."""
    nested = method_named(name).fit_nested(rows_of(oof), np.unique(oof.fold).tolist())
    return kl_divergence(vote_shares(oof.votes), predict_nested(oof, nested))
