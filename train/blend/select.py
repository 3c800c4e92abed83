"""A blend from out-of-fold predictions: which method, and which model is missed least."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from common.blend import Blend, LogLinear, MethodScore
from common.metric import kl_divergence
from common.schema import PATTERNS
from common.strict import explain
from common.tta import View
from train.blend.fit import equal_weights
from train.blend.methods import BlendWeights, Rows, possible_methods, predict_nested, rows_of
from train.blend.out_of_fold import BlendInputError, OutOfFold
from train.evaluate.scores import bounds, resampled_means

RULE = (
    "Chosen is the simplest (the first in the table) whose nested score is not worse than the best one's by more than "
    "the noise, that is, by a difference whose 95 % interval is all above 0."
)
DIGITS = 9  # of what is written


@dataclass(frozen=True)
class FittedBlend:
    """A blend and what it was chosen by. nested: by method the probabilities (rows, 6) of each fold, fitted on the
    others; left_out: (models, many-vote rows), KL of the chosen method when it goes on without each model."""

    blend: Blend
    oof: OutOfFold
    nested: dict[str, np.ndarray]
    left_out: np.ndarray


def compare(names: Sequence[str], kl: np.ndarray, group: np.ndarray) -> list[MethodScore]:
    """Methods in the order given, the simplest first, one of them chosen. kl: (methods, rows)."""
    means, resampled = kl.mean(axis=1), resampled_means(kl, group)
    best = int(means.argmin())
    own, to_first, behind = (bounds(resampled - other) for other in (0, resampled[:, :1], resampled[:, best, None]))
    worse = [(means[k] > means[best]) and behind[k] is not None and behind[k][0] > 0 for k in range(len(names))]
    chosen = worse.index(False)
    return [
        MethodScore(
            name=name,
            nested_kl=round(float(means[k]), 6),
            interval=own[k],
            difference=round(float(means[k] - means[0]), 6),
            difference_interval=to_first[k],
            behind=round(float(means[k] - means[best]), 6),
            behind_interval=behind[k],
            chosen=k == chosen,
        )
        for k, name in enumerate(names)
    ]


def losses_without(rows: Rows, nested: dict[int, BlendWeights], left_out: Sequence[int]) -> np.ndarray:
    """KL (rows,) when the kernel goes on without these models, in each fold by its own weights."""
    for model in left_out:
        nested = {k: weights.without(model) for k, weights in nested.items()}
    return kl_divergence(rows.target, predict_nested(rows, nested))


def order_of_dropping(rows: Rows, nested: dict[int, BlendWeights]) -> tuple[list[int], np.ndarray]:
    """Models, each time the one that is missed least by those that are left, of equals the one that is worst alone;
    and the KL (models, rows) without each one alone."""
    alone = [kl_divergence(rows.target, values).mean() for values in rows.predictions]
    without_one = {model: losses_without(rows, nested, [model]) for model in range(len(alone))}
    left, order, losses = list(range(len(alone))), [], without_one
    while left:
        weakest = min(left, key=lambda model: (round(losses[model].mean(), DIGITS), -alone[model]))
        order.append(weakest)
        left.remove(weakest)
        if len(left) > 1:
            losses = {model: losses_without(rows, nested, [*order, model]) for model in left}
    return order, np.stack([*without_one.values()])


def rounded(log_linear: LogLinear) -> LogLinear:
    """To the digits that are written."""
    return LogLinear(
        temperature=round(log_linear.temperature, DIGITS),
        bias=tuple(round(value, DIGITS) for value in log_linear.bias),
        correction=tuple(tuple(round(value, DIGITS) for value in row) for row in log_linear.correction),
    )


# On one core: the matrices are small, and threads that wait for each other take five times as long on a busy machine.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_blend(oof: OutOfFold, views: tuple[View, ...] = (), hours: float | None = None) -> FittedBlend:
    """Every method fitted and scored nested, the chosen one fitted on all folds, and the order of dropping models.

    views: of TTA. Raises BlendInputError when views or hours are not what a kernel can do.
    """
    settings = {"views": views} | ({} if hours is None else {"hours": hours})
    try:
        Blend(models={}, prior=tuple(equal_weights(len(PATTERNS)).tolist()), **settings)
    except ValidationError as error:
        raise BlendInputError(explain(error, Blend)) from error
    rows, folds = rows_of(oof), np.unique(oof.fold).tolist()
    methods = possible_methods(rows)
    fits = [method.fit_nested(rows, folds) for method in methods]
    nested = {method.name: predict_nested(oof, each) for method, each in zip(methods, fits, strict=True)}
    losses = np.stack([kl_divergence(rows.target, mixed[oof.many]) for mixed in nested.values()])
    on_all_folds = [method.fit_without(rows) for method in methods]
    scores = [
        score.model_copy(update={"strength": weights.strength, "optimality_gap": weights.optimality_gap})
        for score, weights in zip(compare([*nested], losses, oof.group[oof.many]), on_all_folds, strict=True)
    ]
    chosen = [score.chosen for score in scores].index(True)
    weights = on_all_folds[chosen]
    order, left_out = order_of_dropping(rows, fits[chosen])
    prior = rows.target.mean(axis=0)
    blend = Blend(
        models=dict(zip(oof.names, weights.models.round(DIGITS).tolist(), strict=True)),
        prior=tuple((prior / prior.sum()).tolist()),
        log_linear=None if weights.log_linear is None else rounded(weights.log_linear),
        drop=tuple(oof.names[model] for model in order),
        **settings,
        candidates=tuple(scores),
        rows=int(oof.many.sum()),
        provenance=oof.provenance,
    )
    return FittedBlend(blend, oof, nested, left_out)
