"""What a run is to do: its models, its label rows with their folds, and whether it can be done."""

import itertools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import torch

from common.inputs.build import input_shape
from common.models.build import build_model
from common.schema import VOTES
from train.data.folds import folds_from_table, make_folds, read_fold_table
from train.data.labels import label_rows
from train.engine.options import RunOptions
from train.engine.pretrained import initialise
from train.engine.run_folder import FoldModel, RunError
from train.engine.state import stage_rows
from train.experiment import Experiment

# ---- which models


def parse_folds(text: str, n_folds: int) -> list[tuple[int, ...]]:
    """What models hold out: 'all' folds, some as in '0,2', 'full' for none, 'pairs' for every two. Raises RunError."""
    found: set[tuple[int, ...]] = set()
    for part in (part.strip() for part in text.split(",")):
        if part == "all":
            found |= {(fold,) for fold in range(n_folds)}
        elif part == "pairs":
            found |= set(itertools.combinations(range(n_folds), 2))
        elif part == "full":
            found.add(())
        elif part.isdecimal() and int(part) < n_folds:
            found.add((int(part),))
        else:
            raise RunError(
                f"--folds {text}: expected 'all', 'full', 'pairs' or numbers from 0 to {n_folds - 1}, as in 0,1,full"
            )
    return sorted(found, key=lambda held_out: (not held_out, len(held_out), held_out))  # folds, pairs, full


def rows_with_folds(experiment: Experiment, competition: Path, table: Path | None) -> pl.DataFrame:
    """The experiment's label rows, each with its fold. Raises LabelError and FoldError."""
    training = experiment.training
    rows, n_folds = label_rows(competition, training.labels, training.window), training.folds
    if table is None:
        return rows.with_columns(fold=pl.Series(make_folds(rows, n_folds)))
    folds = folds_from_table(rows, read_fold_table(table))
    if (found := len(np.unique(folds))) != n_folds:
        raise RunError(f"--fold-table {table} has {found} folds, the config's training.folds is {n_folds}")
    return rows.with_columns(fold=pl.Series(folds))


# ---- what would fail later fails before anything is written


def check_plan(
    experiment: Experiment, rows: pl.DataFrame, wanted: Sequence[tuple[int, ...]], options: RunOptions
) -> None:
    """Raises RunError and what a net raises."""
    torch.manual_seed(experiment.training.seed)
    net = build_model(experiment)
    if options.pretrained and not options.pretrained.is_file():
        raise RunError(f"--pretrained {options.pretrained}: no such file")
    if options.pretrained:
        initialise(net, experiment, options.pretrained)
    if options.tensorboard and find_spec("tensorboard") is None:
        raise RunError("--tensorboard needs the package tensorboard: pip install tensorboard")
    check_bands(experiment)
    uses_pseudo = any(stage.pseudo for stage in experiment.training.stages)
    if uses_pseudo and options.pseudo is None:
        raise RunError("a stage has a share of pseudo labels: --pseudo RUN says whose")
    if options.pseudo and not uses_pseudo:
        raise RunError("--pseudo: no stage of this config has a share of them (training.stages, pseudo = 0.5)")
    votes, fold_of_row = rows.select(VOTES).to_numpy(), rows["fold"].to_numpy()
    for held_out in wanted:
        for number, stage in enumerate(experiment.training.stages):
            title = f"{FoldModel(held_out).name}, stage {number}"
            stage_rows(votes, np.flatnonzero(~np.isin(fold_of_row, held_out)), stage, title)


def check_bands(experiment: Experiment) -> None:
    """Raises RunError when CutMix draws its bands from more steps than the image has: most would miss it."""
    for number, stage in enumerate(experiment.training.stages):
        if (cutmix := stage.augment.cutmix) is not None:
            steps = input_shape(experiment.input)[-1 if cutmix.axis == "time" else -2]
            if cutmix.length > steps:
                raise RunError(
                    f"stages.{number}: augment.cutmix draws bands from length = {cutmix.length} steps of "
                    f"{cutmix.axis}, the image has {steps}: set length, and margin, smallest and largest to fit"
                )
