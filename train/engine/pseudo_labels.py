"""Pseudo labels: what models of another run, the teachers, say of rows with few votes; and that no vote leaks.

A model M may not learn from a teacher that was trained on the row's patient, for it repeats the votes that it learnt;
nor from one that was trained on a patient whom M holds out, for it carries those votes into M's targets: M's
out-of-fold score then rises, its leaderboard score does not. In a run of K folds the teachers of fold j's model are
therefore the K - 1 models that never saw j and one fold more (--folds pairs); the full fit learns from the folds'.

Teachers are found by the rows that they held out and checked by the patients that they were trained on. The folds of
the two runs may differ.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.schema import PATTERNS, VOTES
from train.data.labels import select_rows, vote_totals
from train.engine.run_folder import (
    FOLD,
    FOLD_TABLE,
    LAST,
    OOF,
    ROWS,
    STATE,
    FoldModel,
    RunError,
    finished_models,
    model_of,
    probability_columns,
    read_run,
    read_table,
)
from train.experiment import Experiment, Stage

SAME_ROWS = ("label_id", "eeg_id", "patient_id", *VOTES)  # of label rows; windows may differ


@dataclass(frozen=True)
class Teacher:
    """A finished model of the other run and its predictions after the last epoch."""

    model: FoldModel
    trained_on: frozenset[int]  # patients of its training rows
    predicted: np.ndarray  # (rows,) of bool: those that it held out
    probabilities: np.ndarray  # (rows, 6), NaN where it did not predict


@dataclass(frozen=True)
class PseudoLabels:
    """The pseudo labels of one model's training rows: (rows, 6) probabilities, NaN where none is wanted."""

    probabilities: np.ndarray
    run: str
    models: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """What a model's folder keeps of them."""
        return {
            "run": self.run,
            "models": list(self.models),
            "rows": int(np.isfinite(self.probabilities).all(axis=1).sum()),
            "sha256": hashlib.sha256(self.probabilities.tobytes()).hexdigest(),
        }


# ---- the other run


def read_teachers(source: Path, rows: pl.DataFrame) -> list[Teacher]:
    """The finished models of the run `source` that held out something; `rows`: the new run's label rows.

    Always their last epoch: the best one was chosen by the votes of the rows that it predicts. For the same reason
    a run is refused whose later stages start from the best weights. Raises RunError.
    """
    experiment = read_run(source)
    if any(stage.start == "best" for stage in experiment.training.stages):
        raise RunError(
            f"{source}: a stage with start = 'best' goes on from weights chosen by the votes of the rows held out, so "
            "its predictions know these votes: pseudo labels need a run whose stages start from 'last'"
        )
    theirs = read_table(source / ROWS)
    if not theirs.select(SAME_ROWS).equals(rows.select(SAME_ROWS)):
        raise RunError(
            f"{source / ROWS} has other label rows ({theirs.height}, training.labels = {experiment.training.labels!r}) "
            f"than this run ({rows.height}): pseudo labels need a run with the same train.csv and training.labels"
        )
    return [read_teacher(source, model, theirs) for model in finished_models(source) if model.held_out]


def read_teacher(source: Path, model: FoldModel, rows: pl.DataFrame) -> Teacher:
    """`rows` are the label rows of the run `source` with its folds. Raises RunError."""
    path, names = source / model.name / OOF, probability_columns("last")
    held_out = np.isin(rows["fold"].to_numpy(), model.held_out)
    table, keys = read_table(path), ["label_id", "patient_id", *VOTES]
    whole = {*keys, *names} <= set(table.columns)
    if not whole or not table.select(keys).equals(rows.filter(held_out).select(keys)):
        raise RunError(
            f"{path} does not have the rows that {model.name} holds out by {source / ROWS}: which patients this model "
            f"saw is not known; remove {path.parent} and train it again (--resume)"
        )
    probabilities = np.full((rows.height, len(PATTERNS)), np.nan)
    probabilities[held_out] = table.select(names).to_numpy()
    trained_on = frozenset(rows.filter(~held_out)["patient_id"].to_list())
    return Teacher(model, trained_on, held_out, probabilities)


# ---- who teaches whom


def rows_with_pseudo(votes: np.ndarray, stages: Sequence[Stage]) -> np.ndarray:
    """Which rows of `votes` (rows, 6) have a pseudo label in some stage that trains on them, (rows,) of bool."""
    totals = vote_totals(votes)
    wanted = [select_rows(votes, stage.rows) & (totals < stage.pseudo_below) for stage in stages if stage.pseudo]
    return np.any([np.full(len(votes), False), *wanted], axis=0)


def choose_teachers(teachers: Sequence[Teacher], wanted: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Whose predictions a row's pseudo label is the mean of, (teachers, rows) of bool; none where nobody may.

    wanted, held_out: (rows,) of bool. A teacher fits that held out the row and all that the new model holds out. Of
    those that fit the ones with the fewest folds held out are taken, for they had the most to learn from: all seeds
    of one model as a rule.
    """
    predicted = np.array([teacher.predicted for teacher in teachers], dtype=bool).reshape(-1, len(wanted))
    fitting = predicted & wanted & predicted[:, held_out].all(axis=1, keepdims=True)
    n_folds = np.array([len(teacher.model.held_out) for teacher in teachers])[:, None]
    fewest = np.where(fitting, n_folds, np.inf).min(axis=0, initial=np.inf)
    return fitting & (n_folds == fewest)


def refuse_leaks(
    teachers: Sequence[Teacher], chosen: np.ndarray, patients: np.ndarray, held_out: np.ndarray, source: str
) -> None:
    """Raises RunError naming a patient whose votes would leak.

    chosen: (teachers, rows) of bool, however it came about; patients: (rows,); held_out: (rows,) of bool, the new
    model's. By the patients of each teacher's training rows, and by nothing else.
    """
    hidden = set(patients[held_out].tolist())
    for teacher, rows in zip(teachers, chosen, strict=True):
        name = f"{source}/{teacher.model.name}"
        if own := teacher.trained_on & set(patients[rows].tolist()):
            raise RunError(
                f"patient {min(own)}: {name} was trained on the votes of this patient and may not make pseudo labels "
                f"of it ({len(own)} such patients)"
            )
        if rows.any() and (leaking := teacher.trained_on & hidden):
            raise RunError(
                f"patient {min(leaking)} is held out, but {name} was trained on the votes of this patient: its pseudo "
                f"labels would bring them to the model that is scored on them ({len(leaking)} such patients)"
            )


def missing_teacher(source: Path, folds: list[int], n_folds: int) -> str:
    """What to do when no model of `source` may teach; folds: those of `source` that it must not have seen."""
    needed = f"that needs a model of {source} that never saw its folds {', '.join(map(str, folds))}"
    if len(folds) > 2 or len(folds) == n_folds:
        return (
            f"{needed}, and there can be none: give both runs the same folds (--fold-table {source / FOLD_TABLE}), 3 "
            "or more of them, and leave 'pairs' out of --folds: models of pairs only teach"
        )
    asked = "pairs" if len(folds) == 2 else str(folds[0])
    return (
        f"{needed}, {FoldModel(tuple(folds)).name}. Train it: python -m train run {source.name}.toml "
        f"--competition DIR --out {source.parent} --folds {asked} --fold-table {source / FOLD_TABLE} --resume"
    )


# ---- the labels


def mean_prediction(teachers: Sequence[Teacher], chosen: np.ndarray) -> np.ndarray:
    """The mean over the chosen (teachers, rows) predictions of each row, (rows, 6); NaN for rows without."""
    total, count = np.zeros((chosen.shape[1], len(PATTERNS))), chosen.sum(axis=0)[:, None]
    for teacher, rows in zip(teachers, chosen, strict=True):
        total[rows] += teacher.probabilities[rows]
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def make_pseudo(
    source: Path, teachers: Sequence[Teacher], rows: pl.DataFrame, wanted: np.ndarray, model: FoldModel
) -> PseudoLabels:
    """The pseudo labels of a new run's model for those of its training rows that are wanted, (rows,) of bool.

    rows: the new run's label rows with its folds. Raises RunError.
    """
    held_out = np.isin(rows["fold"].to_numpy(), model.held_out)
    wanted = wanted & ~held_out
    chosen = choose_teachers(teachers, wanted, held_out)
    missing = np.flatnonzero(wanted & ~chosen.any(axis=0))
    if len(missing):
        theirs = read_table(source / ROWS)["fold"].to_numpy()
        folds = np.unique(np.append(theirs[held_out], theirs[missing[0]])).tolist()
        todo = missing_teacher(source, folds, len(np.unique(theirs)))
        patient = rows["patient_id"][int(missing[0])]
        raise RunError(f"{model.name}: no pseudo labels for {len(missing)} rows, first of patient {patient}: {todo}")
    refuse_leaks(teachers, chosen, rows["patient_id"].to_numpy(), held_out, source.name)
    models = tuple(teacher.model.name for teacher, used in zip(teachers, chosen, strict=True) if used.any())
    return PseudoLabels(mean_prediction(teachers, chosen), source.name, models)


def plan_pseudo(
    source: Path, run: Path, experiment: Experiment, rows: pl.DataFrame, held_out: Sequence[tuple[int, ...]]
) -> dict[tuple[int, ...], PseudoLabels]:
    """The pseudo labels of every model of a run: of those asked for, by the folds that they hold out, and of those
    that `run` has already, which must be the ones that they were trained with.

    source: the run whose models teach; rows: the label rows of `run` with its folds. Raises RunError.
    """
    wanted = rows_with_pseudo(rows.select(VOTES).to_numpy(), experiment.training.stages)
    if not wanted.any():
        raise RunError(f"{experiment.name}: no stage with a share of pseudo labels has rows below its pseudo_below")
    source = source.resolve()  # it is named by its folder, also when given as "."
    teachers = read_teachers(source, rows)
    folders = {file.parent.name for name in (LAST, STATE) for file in run.glob(f"*/{name}")}  # finished, or continued
    begun = [model for model in map(model_of, sorted(folders)) if model]
    needed = {*held_out, *(model.held_out for model in begun)}
    labels = {folds: make_pseudo(source, teachers, rows, wanted, FoldModel(folds)) for folds in sorted(needed)}
    for model in begun:
        refuse_others(run / model.name, labels[model.held_out])
    return labels


def refuse_others(folder: Path, labels: PseudoLabels) -> None:
    """Raises RunError when the model in `folder` was trained with other pseudo labels."""
    known = json.loads((folder / FOLD).read_text(encoding="utf-8"))["pseudo"]
    found = labels.record()
    if known["sha256"] != found["sha256"]:
        raise RunError(
            f"{folder} was trained with pseudo labels of run {known['run']} ({', '.join(known['models'])}); those of "
            f"{found['run']} ({', '.join(found['models'])}) now are others: all models of a run share theirs; give the "
            "same run, unchanged, or start a new one with another --out"
        )
