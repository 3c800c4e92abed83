"""Out-of-fold scores of runs, beside what no model is needed for."""

from pathlib import Path

import numpy as np
import polars as pl

from common.metric import kl_divergence, vote_shares
from common.schema import MANY_VOTES, PATTERNS, VOTES
from train.labels import prior_shares
from train.run_folder import OOF, ROWS, RunError, probability_columns, read_run, read_table

FLOOR, PRIOR = "floor (the generating probabilities)", "class prior"
UNIFORM = np.full(len(PATTERNS), 1 / len(PATTERNS))


def kl_columns(votes: np.ndarray, prediction: np.ndarray) -> tuple[float, float]:
    """Mean KL over all rows, and over the rows with at least 10 votes (NaN when there are none)."""
    kl, many = kl_divergence(vote_shares(votes), prediction), votes.sum(axis=1) >= MANY_VOTES
    return float(kl.mean()), float(kl[many].mean()) if many.any() else float("nan")


def out_of_fold_prior(fold: np.ndarray, rows: pl.DataFrame) -> np.ndarray:
    """For each fold in `fold` the class prior (many-vote rows) of the other folds of the run's `rows`, (.., 6)."""
    prior = np.empty((len(fold), len(PATTERNS)))
    for k in np.unique(fold):
        prior[fold == k] = prior_shares(rows.filter(pl.col("fold") != k).select(VOTES).to_numpy(), MANY_VOTES)
    return prior


def read_oof(run: Path) -> pl.DataFrame:
    """The finished folds of a run with the probabilities of both checkpoints."""
    return pl.concat([read_table(part) for part in sorted(run.glob(f"fold*/{OOF}"))])


def evaluate(runs: list[Path], truth: Path | None) -> pl.DataFrame:
    """Table of out-of-fold KL: one row per run and checkpoint, then prior, uniform and, with `truth`, the floor.

    Columns: what, kl_all, kl_many (rows with at least 10 votes), rows, rows_many, folds. Raises RunError when
    runs were not scored on the same rows.
    """
    lines, first = [], None
    for run in runs:
        name, oof = read_run(run).name, read_oof(run).sort("label_id")
        if first is None:
            first = oof
        elif not oof.select("label_id", *VOTES).equals(first.select("label_id", *VOTES)):
            raise RunError(f"{run} was scored on other label rows than {runs[0]}: evaluate them one by one")
        votes = oof.select(VOTES).to_numpy()
        for checkpoint, label in (("last", "last epoch"), ("best", "best epoch, chosen on the fold that scores it")):
            prediction = oof.select(probability_columns(checkpoint)).to_numpy()
            lines.append((f"{name} ({label})", *kl_columns(votes, prediction)))
    assert first is not None
    votes, fold = first.select(VOTES).to_numpy(), first["fold"].to_numpy()
    lines.append((PRIOR, *kl_columns(votes, out_of_fold_prior(fold, read_table(runs[0] / ROWS)))))
    lines.append(("uniform", *kl_columns(votes, np.tile(UNIFORM, (len(votes), 1)))))
    if truth:
        answers = pl.read_csv(truth)
        if absent := [column for column in ("label_id", *VOTES) if column not in answers.columns]:
            raise RunError(f"{truth}: no column {', '.join(absent)}; give a simulation's truth/train_probabilities.csv")
        known = first.select("label_id").join(answers, on="label_id", how="left", maintain_order="left")
        probabilities = known.select(VOTES).to_numpy()
        if not np.isfinite(probabilities).all():
            raise RunError(f"{truth} does not know every label row of {runs[0]}: is it of this simulation?")
        lines.insert(0, (FLOOR, *kl_columns(votes, probabilities)))
    many = int((votes.sum(axis=1) >= MANY_VOTES).sum())
    table = pl.DataFrame(lines, schema=["what", "kl_all", "kl_many"], orient="row")
    n_folds = read_run(runs[0]).training.folds
    folds = ", ".join(str(k) for k in np.unique(fold))
    return table.with_columns(
        rows=pl.lit(len(votes)), rows_many=pl.lit(many), folds=pl.lit(f"folds {folds} of {n_folds}")
    )


def as_text(table: pl.DataFrame) -> str:
    """The table as aligned text."""
    width = table["what"].str.len_chars().max()
    head = f"{'':{width}}   KL, all rows   KL, rows with >= {MANY_VOTES} votes"
    lines = [f"{what:{width}}   {all_rows:12.4f}   {many:12.4f}" for what, all_rows, many, *_ in table.iter_rows()]
    rows, rows_many, folds = table.row(0)[3:]
    foot = f"out of fold, {folds}: {rows} label rows, {rows_many} of them with >= {MANY_VOTES} votes"
    return "\n".join([head, *lines, foot])
