"""An evaluation as aligned text."""

import polars as pl

from common.schema import MANY_VOTES, PATTERNS
from train.evaluate.runs import CHECKPOINTS, Evaluation
from train.evaluate.scores import RESAMPLES
from train.tables import aligned, between, number

MANY = f">= {MANY_VOTES} votes"


def score_lines(evaluation: Evaluation) -> list[str]:
    """A line for each prediction."""
    rows = evaluation.rows["scores"]
    with_many = sum(n > 0 for n in evaluation.rows["folds_many"].values())
    heads = ["", "all rows", MANY, "95 % interval", "mean of folds", "one per EEG", f"one per EEG, >= {MANY_VOTES}"]
    behind = [f"{evaluation.patients} patients", f"{with_many} folds", str(rows["kl_eeg"]), str(rows["kl_eeg_many"])]
    lines = [heads, ["label rows", str(rows["kl_all"]), str(rows["kl_many"]), *behind]]
    for line in evaluation.scores.iter_rows(named=True):
        means = [number(line[column]) for column in ("kl_all", "kl_many", "kl_folds", "kl_eeg", "kl_eeg_many")]
        lines.append([line["what"], *means[:2], between((line["low"], line["high"])), *means[2:]])
    return aligned(lines)


def part_lines(table: pl.DataFrame, rows: dict[str, int], heads: list[str]) -> list[str]:
    """A table whose columns are parts of the rows."""
    body = [[what, *map(number, values)] for what, *values in table.iter_rows()]
    return aligned([["", *heads], ["label rows", *map(str, rows.values())], *body])


def difference_lines(evaluation: Evaluation) -> list[str]:
    """How far each run is from the first."""
    lines = [["", "difference", "95 % interval", "verdict"]]
    for what, difference, low, high in evaluation.differences.iter_rows():
        verdict = "better" if high < 0 else "worse" if low > 0 else "not told apart"
        lines.append([what, number(difference, "+"), between((low, high), "+"), verdict])
    return aligned(lines)


def as_text(evaluation: Evaluation) -> str:
    """All tables, each under what it shows."""
    rows, folds = evaluation.rows, [f"fold {k}" for k in evaluation.folds]
    finished = ", ".join(map(str, evaluation.folds))
    lines = [
        "KL divergence, lower is better",
        *score_lines(evaluation),
        f"Out of fold, folds {finished} of {evaluation.n_folds}. Label rows: {evaluation.labels}.",
        f"95 % interval of the score on {MANY}: {RESAMPLES} draws of as many patients, with replacement; what another "
        "training seed would change is not in it.",
        f"Mean of folds: of the folds' scores on {MANY}. One per EEG: its row with most votes, as in the hidden test.",
        f"\n{MANY}, by consensus (the pattern with most votes, of equals the first)",
        *part_lines(evaluation.classes, rows["classes"], list(PATTERNS)),
        f"\n{MANY}, by fold",
        *part_lines(evaluation.folds_many, rows["folds_many"], folds),
    ]
    if evaluation.differences.height:
        first = next(line for line in evaluation.scores.iter_rows(named=True) if line["run"])
        name = first["what"].removesuffix(f" ({CHECKPOINTS['last']})")
        lines += [f"\n{MANY}, difference to {name} (last with last, best with best)", *difference_lines(evaluation)]
    return "\n".join(lines)
