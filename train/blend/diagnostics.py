"""What is known of a blend and its models, as plain values: for text, for JSON and for the report page.

diagnose() returns a dict; KL is the mean in nats, nested for the blend, and `many` rows are those with at least 10
votes:

rule          the sentence that says how the method was chosen
rows, many, group, groups, draws   what was scored: rows, those with many votes, what was resampled how often
candidates    the methods, as in the blend file: name, nested_kl, interval, difference (to the first), behind (the
              best), chosen ...
models        a line each: name, kl, interval, weight, value (what the blend loses without it, the others sharing its
              weight), value_interval, calibration_error, place in the order of dropping (1 goes first)
names         of models, for the two tables of pairs
correlation   of pairs, of their errors (probability less share of votes)
disagreement  of pairs, share of rows whose most probable pattern differs
calibration   error (ECE over all patterns) of the best model, of the plain mean and of the blend
by_votes      label, rows, groups and kl: {best, mean, blend, prior}; empty where votes are shares
by_class      the same, by consensus (the pattern with most votes, of equals the first)
by_fold       the same
warnings      sentences
"""

from typing import Any

import numpy as np

from common.metric import kl_divergence, vote_shares
from train.blend.out_of_fold import OutOfFold
from train.blend.select import RULE, FittedBlend
from train.evaluate.scores import RESAMPLES, bounds, by_class, by_fold, by_votes, out_of_fold_prior, resampled_means

BINS = np.linspace(0, 1, 11)  # of probabilities


def calibration_curve(target: np.ndarray, probabilities: np.ndarray) -> list[dict[str, float]]:
    """Of each bin of probability that is not empty: how many fell there, their mean, and the mean share of votes."""
    place = np.clip(np.digitize(probabilities, BINS) - 1, 0, len(BINS) - 2).ravel()
    count, predicted, observed = (
        np.bincount(place, weights, len(BINS) - 1) for weights in (None, probabilities.ravel(), target.ravel())
    )
    return [
        {
            "low": round(float(BINS[k]), 6),
            "high": round(float(BINS[k + 1]), 6),
            "probabilities": int(count[k]),
            "predicted": float(predicted[k] / count[k]),
            "observed": float(observed[k] / count[k]),
        }
        for k in np.flatnonzero(count)
    ]


def calibration_error(target: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error: the mean distance of predicted and observed over the bins, by how many are there."""
    curve = calibration_curve(target, probabilities)
    counts = np.array([part["probabilities"] for part in curve])
    return float(np.average([abs(part["predicted"] - part["observed"]) for part in curve], weights=counts))


def error_correlation(target: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """(models, models), of probability less share of votes; 0 beside a model that makes no error."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.atleast_2d(np.corrcoef((predictions - target).reshape(len(predictions), -1))))


def disagreement(predictions: np.ndarray) -> np.ndarray:
    """(models, models): share of rows whose most probable pattern differs."""
    named = predictions.argmax(axis=2)
    return (named[:, None] != named).mean(axis=2)


def parts_of(rows: dict[str, np.ndarray], kl: dict[str, np.ndarray], group: np.ndarray) -> list[dict[str, Any]]:
    """A line for each choice of rows, by its label, that is not empty."""
    return [
        {
            "label": label,
            "rows": int(chosen.sum()),
            "groups": len(np.unique(group[chosen])),
            "kl": {name: float(values[chosen].mean()) for name, values in kl.items()},
        }
        for label, chosen in rows.items()
        if chosen.any()
    ]


def all_parts(oof: OutOfFold, kl: dict[str, np.ndarray]) -> dict[str, list[dict[str, Any]]]:
    """KL by votes, class and fold."""
    votes = by_votes(oof.votes) if oof.counted else {}
    classes = {pattern: oof.many & chosen for pattern, chosen in by_class(oof.votes).items()}
    folds = {f"fold {k}": oof.many & chosen for k, chosen in by_fold(oof.fold).items()}
    named = {"by_votes": votes, "by_class": classes, "by_fold": folds}
    return {name: parts_of(rows, kl, oof.group) for name, rows in named.items()}


def model_lines(fitted: FittedBlend, target: np.ndarray, kl_blend: np.ndarray) -> list[dict[str, Any]]:
    """Each model alone, and what it is worth to the blend. target, kl_blend: of many-vote rows."""
    oof, blend = fitted.oof, fitted.blend
    predictions = oof.predictions[:, oof.many]
    alone = np.stack([kl_divergence(target, values) for values in predictions])
    value = fitted.left_out - kl_blend
    intervals = bounds(resampled_means(np.concatenate([alone, value]), oof.group[oof.many]))
    return [
        {
            "name": name,
            "kl": float(alone[k].mean()),
            "interval": intervals[k],
            "weight": blend.models[name],
            "value": float(value[k].mean()),
            "value_interval": intervals[len(alone) + k],
            "calibration_error": calibration_error(target, predictions[k]),
            "place": blend.drop.index(name) + 1,
        }
        for k, name in enumerate(oof.names)
    ]


def diagnose(fitted: FittedBlend) -> dict[str, Any]:
    """All numbers, as this file's first lines say."""
    oof, many, blend = fitted.oof, fitted.oof.many, fitted.blend
    target, chosen = vote_shares(oof.votes), blend.chosen
    models = model_lines(fitted, target[many], kl_divergence(target, fitted.nested[chosen])[many])
    best = min(range(len(models)), key=lambda k: models[k]["kl"])
    compared = {"best": oof.predictions[best], "mean": fitted.nested["mean"], "blend": fitted.nested[chosen]}
    names = (f"{oof.names[best]} (best model)", "mean", f"{chosen} (the blend)")
    errors = [calibration_error(target[many], values[many]) for values in compared.values()]
    kl = {name: kl_divergence(target, values) for name, values in compared.items()}
    kl["prior"] = kl_divergence(target, out_of_fold_prior(oof.votes, oof.fold))
    return {
        "rule": RULE,
        "rows": len(target),
        "many": int(many.sum()),
        "group": oof.group_name,
        "groups": len(np.unique(oof.group[many])),
        "draws": RESAMPLES,
        "candidates": [method.model_dump() for method in blend.candidates],
        "models": models,
        "names": list(oof.names),
        "correlation": error_correlation(target[many], oof.predictions[:, many]).tolist(),
        "disagreement": disagreement(oof.predictions[:, many]).tolist(),
        "calibration": dict(zip(names, errors, strict=True)),
        **all_parts(oof, kl),
        "warnings": list(oof.warnings),
    }
