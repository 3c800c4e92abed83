"""Everything that a blend is judged by, as plain values: for text, for JSON and for the report page.

judge() returns a dict; KL is the mean in nats, nested for the blend, and `many` rows are those with at least 10 votes:

rule          the sentence that says how the candidate was chosen
rows, many, group, groups, folds, draws   what was scored: rows, those with many votes, what was resampled how often
candidates    as in the blend file: name, nested_kl, interval, difference (to the first), behind (the best), chosen ...
models        a line each: name, kl, interval, weight, value (what the blend loses without it, the others sharing its
              weight), value_interval, calibration_error, place in the order of dropping (1 goes first)
names         of models, for the two tables of pairs
correlation   of pairs, of their errors (probability less share of votes)
disagreement  of pairs, share of rows whose most probable pattern differs
calibration   of the best model, of the plain mean and of the blend: name, error (ECE over all patterns), by_class
              (ECE each), curve: low and high of a bin of probability, probabilities (how many), predicted, observed
by_votes      label, rows, groups and kl: {best, mean, blend, prior}; empty where votes are shares
by_class      the same, by consensus (the pattern with most votes, of equals the first)
by_fold       the same
by_group      groups, median, p90, worst_tenth (share of the KL that the worst tenth of groups has), worst: the ten
              worst groups, each with group, rows, kl
warnings      sentences
"""

from typing import Any

import numpy as np

from common.metric import kl_divergence, vote_shares
from common.schema import PATTERNS
from train.blend.select import RULE, FittedBlend, bounds
from train.evaluate.scores import RESAMPLES, resampled_means
from train.labels import vote_totals

BINS = np.linspace(0, 1, 11)  # of probabilities
VOTE_BINS = ((1, 4), (5, 9), (10, 12), (13, 15), (16, 19), (20, None))
WORST_GROUPS = 10


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


def calibration(name: str, target: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    return {
        "name": name,
        "error": calibration_error(target, probabilities),
        "by_class": {p: calibration_error(target[:, k], probabilities[:, k]) for k, p in enumerate(PATTERNS)},
        "curve": calibration_curve(target, probabilities),
    }


def error_correlation(target: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """(models, models), of probability less share of votes; 0 beside a model that makes no error."""
    errors = (predictions - target).reshape(len(predictions), -1)
    errors -= errors.mean(axis=1, keepdims=True)
    length = np.sqrt((errors**2).sum(axis=1))
    return errors @ errors.T / np.maximum(np.outer(length, length), 1e-300)


def disagreement(predictions: np.ndarray) -> np.ndarray:
    """(models, models): share of rows whose most probable pattern differs."""
    said = predictions.argmax(axis=2)
    return (said[:, None] != said).mean(axis=2)


def out_of_fold_prior(target: np.ndarray, fold: np.ndarray, many: np.ndarray) -> np.ndarray:
    """For each row the mean shares (rows, 6) of the other folds' many-vote rows; of all where no other has any."""
    prior = np.empty_like(target)
    for k in np.unique(fold):
        others = many & (fold != k)
        prior[fold == k] = target[others if others.any() else many].mean(axis=0)
    return prior


def parts_of(
    labels: list[str], choices: list[np.ndarray], kl: dict[str, np.ndarray], group: np.ndarray
) -> list[dict[str, Any]]:
    """A line for each choice of rows that is not empty."""
    return [
        {
            "label": label,
            "rows": int(chosen.sum()),
            "groups": len(np.unique(group[chosen])),
            "kl": {name: float(values[chosen].mean()) for name, values in kl.items()},
        }
        for label, chosen in zip(labels, choices, strict=True)
        if chosen.any()
    ]


def vote_label(low: int, high: int | None) -> str:
    return f">= {low}" if high is None else f"{low} to {high}"


def by_group(kl: np.ndarray, group: np.ndarray) -> dict[str, Any]:
    """How the KL (rows,) is spread over groups."""
    values, of_row, rows = np.unique(group, return_inverse=True, return_counts=True)
    sums = np.bincount(of_row, kl)
    means, order = sums / rows, np.argsort(-sums / rows, kind="stable")
    tenth = np.sort(sums)[::-1][: max(1, len(sums) // 10)]
    return {
        "groups": len(values),
        "median": float(np.median(means)),
        "p90": float(np.percentile(means, 90)),
        "worst_tenth": float(tenth.sum() / max(kl.sum(), 1e-300)),
        "worst": [
            {"group": values[k].item(), "rows": int(rows[k]), "kl": float(means[k])} for k in order[:WORST_GROUPS]
        ],
    }


def model_lines(fitted: FittedBlend, target: np.ndarray, kl_blend: np.ndarray) -> list[dict[str, Any]]:
    """Each model alone, and what it is worth to the blend. target, kl_blend: of many-vote rows."""
    oof, blend = fitted.oof, fitted.blend
    predictions = oof.predictions[:, oof.many]
    alone = np.stack([kl_divergence(target, values) for values in predictions])
    value = fitted.left_out - kl_blend
    resampled = resampled_means(np.concatenate([alone, value]), oof.group[oof.many])
    intervals = bounds(resampled)
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


def judge(fitted: FittedBlend) -> dict[str, Any]:
    """All numbers, as this file's first lines say."""
    oof, many, blend = fitted.oof, fitted.oof.many, fitted.blend
    target, group, fold = vote_shares(oof.votes), oof.group, oof.fold
    chosen = next(candidate.name for candidate in blend.candidates if candidate.chosen)
    models = model_lines(fitted, target[many], kl_divergence(target, fitted.nested[chosen])[many])
    best = min(range(len(models)), key=lambda k: models[k]["kl"])
    said = {"best": oof.predictions[best], "mean": fitted.nested["mean"], "blend": fitted.nested[chosen]}
    kl = {name: kl_divergence(target, values) for name, values in said.items()}
    kl["prior"] = kl_divergence(target, out_of_fold_prior(target, fold, many))
    totals, consensus, folds = vote_totals(oof.votes), oof.votes.argmax(axis=1), np.unique(fold)
    vote_bins = VOTE_BINS if oof.counted else ()
    by_votes = [(totals >= low) & (totals <= (high or totals.max())) for low, high in vote_bins]
    names = (f"{oof.names[best]} (best model)", "mean", f"{chosen} (the blend)")
    return {
        "rule": RULE,
        "rows": len(target),
        "many": int(many.sum()),
        "group": oof.group_name,
        "groups": len(np.unique(group[many])),
        "folds": folds.tolist(),
        "draws": RESAMPLES,
        "candidates": [candidate.model_dump() for candidate in blend.candidates],
        "models": models,
        "names": list(oof.names),
        "correlation": error_correlation(target[many], oof.predictions[:, many]).tolist(),
        "disagreement": disagreement(oof.predictions[:, many]).tolist(),
        "calibration": [
            calibration(name, target[many], values[many]) for name, values in zip(names, said.values(), strict=True)
        ],
        "by_votes": parts_of([vote_label(*bin_) for bin_ in vote_bins], by_votes, kl, group),
        "by_class": parts_of([*PATTERNS], [many & (consensus == k) for k in range(len(PATTERNS))], kl, group),
        "by_fold": parts_of([f"fold {k}" for k in folds], [many & (fold == k) for k in folds], kl, group),
        "by_group": by_group(kl["blend"][many], group[many]),
        "warnings": list(oof.warnings),
    }
