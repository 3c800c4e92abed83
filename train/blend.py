"""Convex weights for models from their out-of-fold predictions, and the honest score of doing so."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.optimize import minimize

from common.blend import Blend, Candidate
from common.errors import KitError
from common.metric import CLIP, kl_divergence, vote_shares
from common.schema import MANY_VOTES, PATTERNS, VOTES
from train.labels import vote_totals
from train.run_folder import CONFIG, OOF, read_run, read_table


class BlendInputError(KitError):
    """Out-of-fold files that cannot be blended. The message names them and what differs."""


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of several models on the same rows. votes: (rows, 6); predictions: (models, rows, 6)."""

    names: tuple[str, ...]
    votes: np.ndarray
    fold: np.ndarray
    predictions: np.ndarray
    many: np.ndarray  # rows with at least 10 votes: those that are fitted on and scored

    def fit(self, rows: np.ndarray) -> np.ndarray:
        """Weights (models,) from those of `rows` that have many votes."""
        chosen = rows & self.many
        return fit_weights(vote_shares(self.votes[chosen]), self.predictions[:, chosen])


def fit_weights(target: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Convex weights (models,) that minimise the mean KL of the mixture; target (rows, 6).

    The problem is convex, so a local method finds the optimum; `optimality_gap` proves how near it is.
    """
    predictions = np.maximum(predictions, CLIP)

    def cross_entropy(weights: np.ndarray) -> tuple[float, np.ndarray]:  # KL but for the targets' own entropy
        mixture = np.tensordot(weights, predictions, axes=1)
        return -(target * np.log(mixture)).sum(axis=1).mean(), -gain(target, predictions, mixture)

    fitted = minimize(
        cross_entropy,
        np.full(len(predictions), 1 / len(predictions)),
        jac=True,
        method="SLSQP",
        bounds=[(1e-9, 1)] * len(predictions),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    weights = np.where(fitted.x > 1e-6, fitted.x, 0.0)
    return weights / weights.sum()


def gain(target: np.ndarray, predictions: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    """How fast the KL falls as weight goes to each model, (models,); 1 for every model in use at the optimum."""
    return (target / mixture * predictions).sum(axis=-1).mean(axis=-1)


def optimality_gap(target: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    """An upper bound, by convexity, of what any other weights could still gain, in nats."""
    predictions = np.maximum(predictions, CLIP)
    return float(gain(target, predictions, np.tensordot(weights, predictions, axes=1)).max() - 1)


def nested_kl(oof: OutOfFold, fitted: bool) -> np.ndarray:
    """KL (rows,) of each fold mixed with weights fitted on the other folds, or with equal weights."""
    mixture = np.empty_like(oof.predictions[0])
    for k in np.unique(oof.fold):
        here = oof.fold == k
        weights = oof.fit(~here) if fitted else np.full(len(oof.names), 1 / len(oof.names))
        mixture[here] = np.tensordot(weights, oof.predictions[:, here], axes=1)
    return kl_divergence(vote_shares(oof.votes), mixture)


def fit_blend(oof: OutOfFold) -> Blend:
    """The better, by nested score, of the plain mean and fitted convex weights; the mean when they tie."""
    scores = {"mean": float(nested_kl(oof, fitted=False)[oof.many].mean())}
    if all((oof.many & (oof.fold != k)).any() for k in np.unique(oof.fold)):  # else there is nothing to fit on
        scores["convex"] = float(nested_kl(oof, fitted=True)[oof.many].mean())
    chosen = min(scores, key=lambda name: scores[name])
    weights = np.full(len(oof.names), 1 / len(oof.names))
    if chosen == "convex":
        weights = oof.fit(np.full(len(oof.votes), True))
    prior = vote_shares(oof.votes[oof.many]).mean(axis=0)
    return Blend(
        models=dict(zip(oof.names, (weights / weights.sum()).round(9).tolist(), strict=True)),
        prior=tuple((prior / prior.sum()).tolist()),
        candidates=tuple(
            Candidate(name=name, nested_kl=round(kl, 6), chosen=name == chosen) for name, kl in scores.items()
        ),
        rows=int(oof.many.sum()),
    )


def read_predictions(path: Path) -> tuple[str, pl.DataFrame]:
    """A run folder or an out-of-fold parquet: its name and its table."""
    file = path / OOF if path.is_dir() else path
    if not file.is_file():
        raise BlendInputError(f"{path}: no such run or parquet (a run has {OOF} once a fold is finished)")
    return path.name if path.is_dir() else path.stem, read_table(file)


def read_out_of_fold(sources: list[Path], labels: Path | None, group: str | None) -> OutOfFold:
    """All sources on the same rows. Raises BlendInputError.

    Our own oof.parquet carries keys, votes and fold; other tables need `labels` with these: votes as
    counts or as shares (then every row counts as one with many votes), and `fold`. Rows are matched on
    all id columns both have. With `group`, no value of that column may be in two folds.
    """
    named = [read_predictions(source) for source in sources]
    names = [name for name, _ in named]
    if len(set(names)) != len(names):
        raise BlendInputError(f"the same model twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    check_label_rows(sources)
    truth = read_table(labels) if labels else named[0][1]
    if absent := [column for column in (*VOTES, "fold") if column not in truth.columns]:
        raise BlendInputError(f"{labels or sources[0]}: no column {', '.join(absent)}; --labels FILE gives them")
    shared = set(truth.columns).intersection(*(table.columns for _, table in named))
    keys = [key for key in ("label_id", "eeg_id", "eeg_sub_id") if key in shared]
    if not keys or truth.select(keys).is_duplicated().any():
        raise BlendInputError(f"{labels or sources[0]}: its id columns {keys} do not tell its rows apart")
    check_groups(truth, group)
    predictions = [aligned(truth, table, keys, name, labels is None) for name, table in named]
    votes = truth.select(VOTES).to_numpy().astype(np.float64)
    counted = all(truth[vote].dtype.is_integer() for vote in VOTES)
    shares_only = not counted and bool(np.allclose(votes.sum(axis=1), 1))
    many = np.full(len(votes), True) if shares_only else vote_totals(votes) >= MANY_VOTES
    if not many.any():
        raise BlendInputError(f"no row has at least {MANY_VOTES} votes: there is nothing to fit a blend on")
    return OutOfFold(tuple(names), votes, truth["fold"].to_numpy(), np.stack(predictions), many)


def check_label_rows(sources: list[Path]) -> None:
    """Raises BlendInputError when runs have label rows of different kinds."""
    kinds = {s.name: read_run(s).training.labels for s in sources if (s / CONFIG).is_file()}
    if len(set(kinds.values())) > 1:
        named = ", ".join(f"{name} has labels = {kind!r}" for name, kind in kinds.items())
        raise BlendInputError(f"label rows of different kinds cannot be blended: {named}")


def check_groups(truth: pl.DataFrame, group: str | None) -> None:
    column = group or ("patient_id" if "patient_id" in truth.columns else None)
    if column is None:
        return
    if column not in truth.columns:
        raise BlendInputError(f"--group {column}: no such column; there are {', '.join(truth.columns)}")
    torn = truth.group_by(column).agg(pl.col("fold").n_unique()).filter(pl.col("fold") > 1)
    if torn.height:
        raise BlendInputError(f"{column} {torn[column][0]} is in several folds ({torn.height} such): that would leak")


def aligned(truth: pl.DataFrame, table: pl.DataFrame, keys: list[str], name: str, own: bool) -> np.ndarray:
    """The table's probabilities in the order of `truth`, (rows, 6). Raises BlendInputError."""
    columns = list(PATTERNS) if set(PATTERNS) <= set(table.columns) else list(VOTES)
    if not set(columns) <= set(table.columns) or (own and columns == list(VOTES)):
        raise BlendInputError(f"{name}: no columns {', '.join(PATTERNS)} with probabilities")
    if table.select(keys).is_duplicated().any():
        raise BlendInputError(f"{name}: a row occurs twice ({', '.join(keys)})")
    if own and "fold" in table.columns:
        both = truth.select(*keys, "fold").join(table.select(*keys, "fold"), on=keys, suffix="_other")
        if (both["fold"] != both["fold_other"]).any():
            raise BlendInputError(f"{name}: its folds differ from those of the first model")
    joined = truth.select(keys).join(table.select(*keys, *columns), on=keys, how="left", maintain_order="left")
    values = joined.select(columns).to_numpy().astype(np.float64)
    if table.height != truth.height or not np.isfinite(values).all():
        known = int(np.isfinite(values).all(axis=1).sum())
        raise BlendInputError(f"{name}: {table.height} rows, of which {known} are among the {truth.height} expected")
    sums = values.sum(axis=1, keepdims=True)
    if (values < 0).any() or not np.allclose(sums, 1, atol=1e-3):
        raise BlendInputError(f"{name}: its rows are not probabilities that sum to 1")
    return values / sums
