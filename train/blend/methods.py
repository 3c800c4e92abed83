"""The ways to combine models: how each is fitted, and what it predicts for rows it was not fitted on."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from common.blend import LEAST_LOGGED, LogLinear, combine, mean_and_spread
from common.metric import kl_divergence, vote_shares
from train.blend.fit import N, equal_weights, fit_correction, fit_log_linear, fit_weights, in_use
from train.blend.out_of_fold import OutOfFold

STRENGTHS = (1.0, 0.1, 0.01, 0.001)  # of the regularisation, the strongest first
FLATTEST = 1e6  # temperature, where no model says more than the biases do


@dataclass(frozen=True)
class Recipe:
    """All that the kernel needs to combine models. weights: (models,), summing to 1."""

    weights: np.ndarray
    log_linear: LogLinear | None = None
    strength: float | None = None

    def mix(self, names: tuple[str, ...], predictions: np.ndarray) -> np.ndarray:
        """Probabilities (rows, 6) of `predictions` (models, rows, 6), by the function that the kernel runs."""
        weights = {name: float(weight) for name, weight in zip(names, self.weights, strict=True) if weight > 0}
        given = dict(zip(names, predictions, strict=True))
        return combine(given, weights, (1 / N,) * N, predictions.shape[1], self.log_linear)

    def without(self, left_out: int) -> "Recipe":
        """As the kernel goes on when it leaves a model out: the others share its weight."""
        weights = self.weights.copy()
        weights[left_out] = 0.0
        return Recipe(weights / weights.sum() if weights.any() else weights, self.log_linear, self.strength)


# ---- ways, and their fits without some of the folds


@dataclass
class Fits:
    """Every fit on the many-vote rows of all folds but some, made once and kept for whoever asks again."""

    oof: OutOfFold
    kept: dict[tuple, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        oof = self.oof
        self.fold, self.target = oof.fold[oof.many], vote_shares(oof.votes[oof.many])
        self.predictions = oof.predictions[:, oof.many]
        self.logs = np.log(np.maximum(self.predictions, LEAST_LOGGED))
        self.folds = [int(k) for k in np.unique(self.fold)]

    def once(self, key: tuple, fit: Callable[[], np.ndarray]) -> np.ndarray:
        if key not in self.kept:
            self.kept[key] = fit()
        return self.kept[key]

    def rows(self, without: frozenset[int]) -> np.ndarray:
        return ~np.isin(self.fold, list(without))

    def mean(self, without: frozenset[int], strength: float | None) -> Recipe:
        return Recipe(equal_weights(len(self.predictions)))

    def geometric(self, without: frozenset[int], strength: float | None) -> Recipe:
        return Recipe(equal_weights(len(self.predictions)), LogLinear())

    def convex(self, without: frozenset[int], strength: float | None) -> Recipe:
        rows = self.rows(without)
        return Recipe(self.once((without,), lambda: fit_weights(self.target[rows], self.predictions[:, rows])))

    def factors(self, without: frozenset[int], strength: float) -> np.ndarray:
        """From those of the next stronger regularisation, which are near."""
        rows, place = self.rows(without), STRENGTHS.index(strength)
        start = self.factors(without, STRENGTHS[place - 1]) if place else None
        fit = lambda: fit_log_linear(self.target[rows], self.logs[:, rows], strength, start)  # noqa: E731
        return self.once((without, strength), fit)

    def log_linear(self, without: frozenset[int], strength: float) -> Recipe:
        factors, bias = np.split(self.factors(without, strength), [len(self.predictions)])
        if factors.sum() < 1 / FLATTEST:
            factors = equal_weights(len(factors)) / FLATTEST
        shape = LogLinear(temperature=float(1 / factors.sum()), bias=tuple(bias.tolist()))
        return Recipe(in_use(factors), shape, strength)

    def stacker(self, without: frozenset[int], strength: float) -> Recipe:
        """The log-linear way, corrected where models disagree and by which patterns they name together."""
        base, rows = self.log_linear(without, strength), self.rows(without)
        shape, predictions = base.log_linear, self.predictions[:, rows]

        def fit() -> np.ndarray:
            logits = np.tensordot(base.weights, self.logs[:, rows], axes=1) / shape.temperature + np.array(shape.bias)
            mean, square = (np.tensordot(base.weights, values, axes=1) for values in (predictions, predictions**2))
            return fit_correction(self.target[rows], logits, mean_and_spread(mean, square), strength)

        correction = tuple(map(tuple, self.once((without, strength, "correction"), fit).tolist()))
        return Recipe(base.weights, shape.model_copy(update={"correction": correction}), strength)


@dataclass(frozen=True)
class Way:
    """One way to combine. strengths: of regularisation, to choose from; none for ways that have none."""

    name: str
    fit: Callable[[Fits, frozenset[int], float | None], Recipe]
    fitted: bool = True
    strengths: tuple[float, ...] = ()

    def recipe(self, fits: Fits, without: frozenset[int] = frozenset()) -> Recipe:
        """Fitted on all folds but `without`, the strength chosen by cross-validation among those folds alone."""
        inside = [k for k in fits.folds if k not in without]
        if len(self.strengths) < 2 or len(inside) < 2:  # with one fold there is nothing to choose by
            return self.fit(fits, without, self.strengths[0] if self.strengths else None)

        def score(strength: float) -> float:
            parts = [self.score_fold(fits, without | {k}, k, strength) for k in inside]
            return float(np.concatenate(parts).mean())

        return self.fit(fits, without, min(self.strengths, key=score))

    def score_fold(self, fits: Fits, without: frozenset[int], k: int, strength: float) -> np.ndarray:
        """KL of the rows of fold k, fitted without it."""
        here = fits.fold == k
        mixed = self.fit(fits, without, strength).mix(fits.oof.names, fits.predictions[:, here])
        return kl_divergence(fits.target[here], mixed)

    def nested(self, fits: Fits) -> dict[int, Recipe]:
        """For each fold the recipe that was fitted without it."""
        return {int(k): self.recipe(fits, frozenset({int(k)})) for k in np.unique(fits.oof.fold)}


# The simplest first: what is chosen is the first that is as good as the best, but for noise.
WAYS = (
    Way("mean", Fits.mean, fitted=False),
    Way("geometric", Fits.geometric, fitted=False),
    Way("convex", Fits.convex),
    Way("log-linear", Fits.log_linear, strengths=STRENGTHS),
    Way("stacker", Fits.stacker, strengths=STRENGTHS),
)


def possible_ways(fits: Fits) -> tuple[Way, ...]:
    """Fitted ways need rows to fit on when each fold is left out."""
    return tuple(way for way in WAYS if not way.fitted or len(fits.folds) > 1)


def mix_nested(oof: OutOfFold, recipes: dict[int, Recipe]) -> np.ndarray:
    """Probabilities (rows, 6) of each fold by its own recipe."""
    mixed = np.empty_like(oof.predictions[0])
    for k, recipe in recipes.items():
        here = oof.fold == k
        mixed[here] = recipe.mix(oof.names, oof.predictions[:, here])
    return mixed


def nested_kl(oof: OutOfFold, name: str) -> np.ndarray:
    """KL (rows,) of each fold combined in the way of this name, fitted on the other folds."""
    way = next(way for way in WAYS if way.name == name)
    return kl_divergence(vote_shares(oof.votes), mix_nested(oof, way.nested(Fits(oof))))
