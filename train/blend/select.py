"""A blend from out-of-fold predictions: which way to combine, and which model is missed least."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from common.blend import Blend, Bounds, Candidate, LogLinear
from common.config import explain
from common.metric import kl_divergence, vote_shares
from common.schema import PATTERNS
from common.tta import View
from train.blend.fit import equal_weights, optimality_gap
from train.blend.methods import Fits, Recipe, Way, mix_nested, possible_ways
from train.blend.out_of_fold import BlendInputError, OutOfFold
from train.evaluate.scores import interval, resampled_means

RULE = (
    "Chosen is the simplest (the first in the table) whose nested score is not worse than the best one's by more than "
    "the noise, that is, by a difference whose 95 % interval is all above 0."
)
DIGITS = 9  # of what is written


@dataclass(frozen=True)
class FittedBlend:
    """A blend and what it was chosen by. nested: for each candidate the probabilities (rows, 6) of each fold by the
    recipe fitted on the others; recipes: of the chosen one, by fold; left_out: (models, many-vote rows), KL of the
    chosen one when it goes on without each model."""

    blend: Blend
    oof: OutOfFold
    nested: dict[str, np.ndarray]
    recipes: dict[int, Recipe]
    left_out: np.ndarray


def bounds(resampled: np.ndarray) -> list[Bounds | None]:
    """The 95 % intervals of columns of (resamples, columns); None where too few groups were there to resample."""
    low, high = interval(resampled)
    return [None if np.isnan(a) else (round(float(a), 6), round(float(b), 6)) for a, b in zip(low, high, strict=True)]


def compare(names: Sequence[str], kl: np.ndarray, group: np.ndarray) -> list[Candidate]:
    """Candidates in the order given, the simplest first, one of them chosen. kl: (candidates, rows)."""
    means, resampled = kl.mean(axis=1), resampled_means(kl, group)
    best = int(means.argmin())
    own, ahead, behind = (bounds(resampled - other) for other in (0, resampled[:, :1], resampled[:, best, None]))
    worse = [(means[k] > means[best]) and behind[k] is not None and behind[k][0] > 0 for k in range(len(names))]
    chosen = worse.index(False)
    return [
        Candidate(
            name=name,
            nested_kl=round(float(means[k]), 6),
            interval=own[k],
            difference=round(float(means[k] - means[0]), 6),
            difference_interval=ahead[k],
            behind=round(float(means[k] - means[best]), 6),
            behind_interval=behind[k],
            chosen=k == chosen,
        )
        for k, name in enumerate(names)
    ]


def losses_without(oof: OutOfFold, recipes: dict[int, Recipe], left_out: Sequence[int]) -> np.ndarray:
    """KL (many-vote rows,) when the kernel goes on without these models, in each fold by its own recipe."""
    for model in left_out:
        recipes = {k: recipe.without(model) for k, recipe in recipes.items()}
    return kl_divergence(vote_shares(oof.votes), mix_nested(oof, recipes))


def order_of_dropping(oof: OutOfFold, recipes: dict[int, Recipe]) -> tuple[list[int], np.ndarray]:
    """Models, each time the one that is missed least by those that are left, of equals the one that is worst alone;
    and the KL (models, rows) without each one alone. `oof`: of many-vote rows."""
    alone = [kl_divergence(vote_shares(oof.votes), values).mean() for values in oof.predictions]
    left, order, first = list(range(len(alone))), [], None
    while len(left) > 1:
        losses = {model: losses_without(oof, recipes, [*order, model]) for model in left}
        first = first or losses
        weakest = min(left, key=lambda model: (round(losses[model].mean(), DIGITS), -alone[model]))
        order.append(weakest)
        left.remove(weakest)
    if first is None:
        first = {left[0]: losses_without(oof, recipes, left)}
    return order + left, np.stack([first[model] for model in range(len(alone))])


def rounded(log_linear: LogLinear) -> LogLinear:
    return LogLinear(
        temperature=round(log_linear.temperature, DIGITS),
        bias=tuple(round(value, DIGITS) for value in log_linear.bias),
        correction=tuple(tuple(round(value, DIGITS) for value in row) for row in log_linear.correction),
    )


def noted(candidate: Candidate, way: Way, fits: Fits) -> Candidate:
    """With what the fit on all folds says of itself."""
    recipe = way.recipe(fits)
    gap = optimality_gap(fits.target, fits.predictions, recipe.weights) if way.name == "convex" else None
    return candidate.model_copy(update={"strength": recipe.strength, "optimality_gap": gap})


# On one core: the matrices are small, and threads that wait for each other take five times as long on a busy machine.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_blend(oof: OutOfFold, views: tuple[View, ...] = (), hours: float | None = None) -> FittedBlend:
    """Every way fitted and scored nested, the chosen one fitted on all folds, and the order of dropping models.

    Raises BlendInputError when views or hours are not what a kernel can do.
    """
    settings = {"views": views} | ({} if hours is None else {"hours": hours})
    try:
        Blend(models={}, prior=tuple(equal_weights(len(PATTERNS)).tolist()), **settings)
    except ValidationError as error:
        raise BlendInputError(explain(error)) from error
    fits = Fits(oof)
    ways = possible_ways(fits)
    recipes = [way.nested(fits) for way in ways]
    nested = {way.name: mix_nested(oof, each) for way, each in zip(ways, recipes, strict=True)}
    losses = np.stack([kl_divergence(fits.target, mixed[oof.many]) for mixed in nested.values()])
    candidates = compare([*nested], losses, oof.group[oof.many])
    chosen = next(k for k, candidate in enumerate(candidates) if candidate.chosen)
    recipe = ways[chosen].recipe(fits)
    order, left_out = order_of_dropping(oof.with_many_votes(), recipes[chosen])
    prior = fits.target.mean(axis=0)
    blend = Blend(
        models=dict(zip(oof.names, recipe.weights.round(DIGITS).tolist(), strict=True)),
        prior=tuple((prior / prior.sum()).tolist()),
        log_linear=None if recipe.log_linear is None else rounded(recipe.log_linear),
        drop=tuple(oof.names[model] for model in order),
        **settings,
        candidates=tuple(noted(*both, fits) for both in zip(candidates, ways, strict=True)),
        rows=int(oof.many.sum()),
        provenance=oof.provenance,
    )
    return FittedBlend(blend, oof, nested, recipes[chosen], left_out)
