"""Out-of-fold scores of runs, beside the Bayes floor, the class prior and uniform."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.metric import kl_divergence, refusals, vote_shares
from common.schema import PATTERNS, VOTES
from train.data.labels import ROW_KEYS
from train.engine.run_folder import ROWS, RunError, finished_models, probability_columns, read_oof, read_run, read_table
from train.evaluate.scores import (
    by_class,
    by_fold,
    interval,
    many_votes,
    mean_over,
    one_per_eeg,
    out_of_fold_prior,
    resampled_means,
)
from train.experiment import Experiment

FLOOR, PRIOR = "Bayes floor (the generating probabilities)", "class prior"
UNIFORM = np.full(len(PATTERNS), 1 / len(PATTERNS))
# The best epoch never goes without its warning.
CHECKPOINTS = {"last": "last epoch", "best": "best epoch, chosen on the fold that scores it"}
BY_VOTES = "one for each vote vector of an EEG"
LABELS = {
    "votes": BY_VOTES,
    "eeg": "one for each EEG",
    "window": "one for each window",
    "one-per-eeg": f"{BY_VOTES}; an epoch of training took one window of each EEG",
    "one-per-stretch": f"{BY_VOTES}; an epoch of training took one window of each stretch of equal votes",
}


@dataclass(frozen=True)
class Evaluation:
    """KL of every prediction, a line each, named in `what`; NaN where there is nothing to average.

    scores: kl_all, kl_many (rows with at least 10 votes) and its 95 % interval low, high; kl_folds (the mean of
    the folds' kl_many); kl_eeg, kl_eeg_many (one row per EEG); run and checkpoint, null where no model predicted.
    classes, folds_many: kl_many by consensus, by fold. differences: kl_many less that of the first run's same
    checkpoint, with low and high. rows: how many label rows each column of the first three is read on.
    """

    scores: pl.DataFrame
    classes: pl.DataFrame
    folds_many: pl.DataFrame
    differences: pl.DataFrame
    rows: dict[str, dict[str, int]]
    patients: int  # with rows that have many votes: those that are resampled
    folds: list[int]  # that are finished
    n_folds: int
    labels: str  # what a label row is


@dataclass(frozen=True)
class Prediction:
    """One prediction of the rows, by a checkpoint of a run or by none."""

    what: str
    probabilities: np.ndarray  # (rows, 6)
    run: Path | None = None
    checkpoint: str | None = None


def prior_of(run: Path, fold: np.ndarray) -> np.ndarray:
    """For each fold in `fold` the class prior of the run's other folds, finished or not, (.., 6)."""
    rows = read_table(run / ROWS)
    return out_of_fold_prior(rows.select(VOTES).to_numpy(), rows["fold"].to_numpy(), fold)


def names_of(runs: list[Path], experiments: list[Experiment]) -> list[str]:
    """What each run is called: its experiment, or its path where two have one experiment's name; and its seeds.

    Raises RunError.
    """
    places = [run.resolve() for run in runs]
    if twice := [str(run) for run, place in zip(runs, places, strict=True) if places.count(place) > 1]:
        raise RunError(f"{' and '.join(twice)} are the same run: give it once")
    names = [experiment.name for experiment in experiments]
    named = zip(runs, names, strict=True)
    return [(str(run) if names.count(name) > 1 else name) + seeds_of(run) for run, name in named]


def seeds_of(run: Path) -> str:
    """Words for several models of a fold: their mean is a small blend, which scores better than one of them."""
    counts = Counter(
        fold_model.held_out for fold_model in finished_models(run) if len(fold_model.held_out) == 1
    ).values()
    fewest, most = min(counts, default=1), max(counts, default=1)
    return "" if most == 1 else f", mean of {most if fewest == most else f'{fewest} to {most}'} seeds"


def check_same_rows(run: Path, experiment: Experiment, oof: pl.DataFrame, first_run: Path, first: pl.DataFrame) -> None:
    """Raises RunError, saying how they differ, unless both runs predicted the same rows in the same folds."""
    known = read_run(first_run).training
    one, other = (sorted(table["fold"].unique()) for table in (first, oof))
    if ROW_KEYS[experiment.training.labels] != ROW_KEYS[known.labels]:
        how = (
            f"its label rows are {LABELS[experiment.training.labels]} (training.labels), those of {first_run} "
            f"{LABELS[known.labels]}"
        )
    elif one != other:
        how = f"its finished folds are {', '.join(map(str, other))}, those of {first_run} {', '.join(map(str, one))}"
    elif not oof.select("label_id", *VOTES).equals(first.select("label_id", *VOTES)):
        how = f"it was scored on other label rows than {first_run}"
    elif not oof["fold"].equals(first["fold"]):
        how = f"its label rows are in other folds than those of {first_run}"
    else:
        return
    raise RunError(f"{run}: {how}; their scores cannot stand in one table: evaluate them one by one")


def model_predictions(name: str, run: Path, oof: pl.DataFrame) -> list[Prediction]:
    """Both checkpoints. Raises RunError when they are no probabilities."""
    found = []
    for checkpoint, label in CHECKPOINTS.items():
        probabilities = oof.select(probability_columns(checkpoint)).to_numpy()
        if reasons := refusals(probabilities):
            raise RunError(f"{run}: predictions of the {checkpoint} epoch: {reasons[0]}; train this run again")
        found.append(Prediction(f"{name} ({label})", probabilities, run, checkpoint))
    return found


def floor_prediction(truth: Path, rows: pl.DataFrame, run: Path) -> Prediction:
    """What the votes of a simulation were drawn from. Raises RunError when `truth` is not its table, or rows are of
    whole EEGs: their votes were drawn from several windows' probabilities."""
    if read_run(run).training.labels == "eeg":
        raise RunError(f"{run} has one label row for each EEG, {truth} knows windows: leave --truth out")
    try:
        answers = pl.read_csv(truth)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"{truth}: cannot be read ({str(error).strip().splitlines()[0]})") from error
    if absent := [column for column in ("label_id", *VOTES) if column not in answers.columns]:
        raise RunError(f"{truth}: no column {', '.join(absent)}; give a simulation's truth/train_probabilities.csv")
    answers = answers.select(pl.col("label_id").cast(pl.Int64, strict=False), pl.col(VOTES).cast(float, strict=False))
    known = rows.select("label_id").join(answers, on="label_id", how="left", maintain_order="left")
    probabilities = known.select(VOTES).to_numpy()
    if known.height != rows.height or refusals(probabilities):
        raise RunError(f"{truth} does not know every label row of {run} once: is it of this simulation?")
    return Prediction(FLOOR, probabilities)


def read_predictions(runs: list[Path], truth: Path | None) -> tuple[pl.DataFrame, list[Prediction]]:
    """The label rows that all runs predicted, by label_id, and all that is scored on them. Raises RunError."""
    experiments = [read_run(run) for run in runs]
    names = names_of(runs, experiments)
    tables = [read_oof(run).sort("label_id") for run in runs]
    found = []
    for name, run, experiment, oof in zip(names, runs, experiments, tables, strict=True):
        check_same_rows(run, experiment, oof, runs[0], tables[0])
        found += model_predictions(name, run, oof)
    rows = tables[0]
    floor = [floor_prediction(truth, rows, runs[0])] if truth else []
    prior = Prediction(PRIOR, prior_of(runs[0], rows["fold"].to_numpy()))
    return rows, [*floor, *found, prior, Prediction("uniform", np.tile(UNIFORM, (rows.height, 1)))]


def difference_table(predictions: list[Prediction], kl_many: np.ndarray, resampled: np.ndarray) -> pl.DataFrame:
    """Each later run minus the first, last epoch with last epoch and best with best, on the same resamples."""
    index = {(p.run, p.checkpoint): k for k, p in enumerate(predictions) if p.run}
    first = next(run for run, _ in index)
    lines = []
    for (run, checkpoint), k in index.items():
        if run != first:
            reference = index[first, checkpoint]
            low, high = interval(resampled[:, k] - resampled[:, reference])
            lines.append((predictions[k].what, float(kl_many[k] - kl_many[reference]), float(low), float(high)))
    schema = {"what": pl.String, "difference": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.DataFrame(lines, schema=schema, orient="row")


def row_choices(rows: pl.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """Which rows each column of each table of an Evaluation is read on, (rows,) of bool."""
    votes, fold = rows.select(VOTES).to_numpy(), rows["fold"].to_numpy()
    many, single = many_votes(votes), one_per_eeg(rows)
    whole = {"kl_all": np.full(len(votes), True), "kl_many": many, "kl_eeg": single, "kl_eeg_many": single & many}
    return {
        "scores": whole,
        "classes": {pattern: many & chosen for pattern, chosen in by_class(votes).items()},
        "folds_many": {f"fold{k}": many & chosen for k, chosen in by_fold(fold).items()},
    }


def mean_of_folds(folds_many: pl.DataFrame) -> np.ndarray:
    """Mean (predictions,) of the folds that have rows with many votes; NaN when none has."""
    kl = folds_many.drop("what").to_numpy()
    return mean_over(kl, ~np.isnan(kl).all(axis=0))


def evaluate(runs: list[Path], truth: Path | None) -> Evaluation:
    """Out-of-fold KL of the runs' two checkpoints, of prior, uniform and, with `truth`, the Bayes floor.

    Raises RunError when a run is not finished or the runs were not scored on the same rows.
    """
    rows, predictions = read_predictions(runs, truth)
    target = vote_shares(rows.select(VOTES).to_numpy())
    kl = np.stack([kl_divergence(target, prediction.probabilities) for prediction in predictions])
    what, choices = [prediction.what for prediction in predictions], row_choices(rows)
    tables = {
        table: pl.DataFrame({"what": what} | {column: mean_over(kl, chosen) for column, chosen in parts.items()})
        for table, parts in choices.items()
    }
    many, patient = choices["scores"]["kl_many"], rows["patient_id"].to_numpy()
    resampled = resampled_means(kl[:, many], patient[many])
    low, high = interval(resampled)
    scores = tables.pop("scores").with_columns(
        pl.Series("run", [str(p.run) if p.run else None for p in predictions], dtype=pl.String),
        pl.Series("checkpoint", [p.checkpoint for p in predictions], dtype=pl.String),
        pl.Series("low", low),
        pl.Series("high", high),
        pl.Series("kl_folds", mean_of_folds(tables["folds_many"])),
    )
    training = read_run(runs[0]).training
    return Evaluation(
        scores,
        **tables,
        differences=difference_table(predictions, scores["kl_many"].to_numpy(), resampled),
        rows={table: {k: int(chosen.sum()) for k, chosen in parts.items()} for table, parts in choices.items()},
        patients=len(np.unique(patient[many])),
        folds=np.unique(rows["fold"]).tolist(),
        n_folds=training.folds,
        labels=LABELS[training.labels],
    )


def as_values(evaluation: Evaluation) -> dict[str, Any]:
    """What a JSON file holds of it: tables as lists of lines, null where there is no number."""
    return {
        name: value.fill_nan(None).to_dicts() if isinstance(value, pl.DataFrame) else value
        for name, value in vars(evaluation).items()
    }
