"""Training the models of one experiment on one competition: folds, further seeds, the full fit."""

import fcntl
import json
from contextlib import nullcontext
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from common.files import write_text, write_via
from common.recipe import as_json
from common.schema import PATTERNS, VOTES
from train.data.folds import fold_table
from train.data.sampling import Sampler
from train.data.windows import TrainingWindows
from train.engine.checkpoint import write_whole
from train.engine.distributed import join_processes
from train.engine.fold_model import train_model
from train.engine.options import RunOptions
from train.engine.plan import check_plan, parse_folds, rows_with_folds
from train.engine.pseudo_labels import plan_pseudo
from train.engine.run_folder import (
    CONFIG,
    FOLD,
    FOLD_TABLE,
    LOCK,
    OOF,
    ROWS,
    FoldModel,
    RunError,
    check_model,
    check_regions,
    finished_models,
    is_finished,
    model_of,
    probability_columns,
    read_config,
    read_oof,
    read_table,
)
from train.engine.state import FoldData
from train.experiment import Experiment

# ---- the run folder


def check_folder(run: Path, experiment: Experiment, rows: pl.DataFrame, resume: bool) -> None:
    """Whether a run can start, or the one to continue is of the same experiment and rows. Raises RunError."""
    if not (run / CONFIG).exists():
        if models := [path.name for path in sorted(run.glob("f*")) if model_of(path.name)]:
            raise RunError(f"{run} has {', '.join(models)} and no {CONFIG}: remove it, or put its {CONFIG} back")
        return
    if not resume:
        raise RunError(f"{run} exists: --resume continues it; remove it, or give another --out, to start afresh")
    for facts in run.glob(f"f*/{FOLD}"):
        check_regions(facts.parent, json.loads(facts.read_text(encoding="utf-8")))
    if read_config(run) != experiment:
        raise RunError(f"{run / CONFIG} differs from the config: a continued run must be the same experiment")
    before = read_table(run / ROWS)
    if not before.drop("fold", strict=False).equals(rows.drop("fold")):
        raise RunError(f"{run / ROWS} differs from the competition's label rows: this run was made on other data")
    if not before.equals(rows):
        raise RunError(f"{run / ROWS} has other folds: give --fold-table {run / FOLD_TABLE} to go on with them")


def hold_run(run: Path) -> IO[bytes]:
    """Nobody else writes to the run folder while the returned file is open. Raises RunError."""
    run.mkdir(parents=True, exist_ok=True)
    file = (run / LOCK).open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise RunError(f"{run} is being written by another command: wait for it, or give another --out") from error
    return file


def merge_folds(run: Path, experiment: Experiment) -> None:
    """RUN/oof.parquet from the finished folds: keys, fold, votes and the chosen checkpoint's probabilities."""
    if not any(len(model.held_out) == 1 for model in finished_models(run)):
        return
    chosen = dict(zip(probability_columns(experiment.training.checkpoint), PATTERNS, strict=True))
    table = read_oof(run).rename(chosen)
    table = table.select([c for c in table.columns if not c.endswith(("_last", "_best"))])
    write_whole(run / OOF, table.write_parquet)


# ---- the run


def run_experiment(experiment: Experiment, competition: Path, out: Path, options: RunOptions) -> Path:
    """Train the models asked for; returns the run folder. Finished ones of a continued run stay.

    The store (default: in the competition folder) is made first, or what it lacks. Under torchrun all
    processes train each model together, or each its own models (options.spread).
    """
    wanted = parse_folds(options.folds, experiment.training.folds)
    models = [FoldModel(held_out, seed) for seed in range(options.seeds) for held_out in wanted]
    rows, run = rows_with_folds(experiment, competition, options.fold_table), out / experiment.name
    check_plan(experiment, rows, wanted, options)
    with join_processes() as distributed:
        check_folder(run, experiment, rows, options.resume)
        pseudo = plan_pseudo(options.pseudo, run, experiment, rows, wanted) if options.pseudo else {}
        distributed.barrier()  # before one of them starts the folder that the others look for
        if not distributed.is_main:
            distributed.barrier()  # the store is made by one
        windows = TrainingWindows(competition, rows, experiment.input, options.store, options.store_on_gpu)
        with hold_run(run) if distributed.is_main else nullcontext():
            if distributed.is_main:
                if not (run / CONFIG).exists():
                    write_via(run / ROWS, rows.write_parquet)
                    write_via(run / FOLD_TABLE, fold_table(rows).write_csv)
                    write_text(run / CONFIG, as_json(experiment))
                distributed.barrier()
            names = ", ".join(model.name for model in models)
            processes = f" in {distributed.size} processes" if distributed.size > 1 else ""
            distributed.say(f"{experiment.name}: {rows.height} label rows; {names}; on {distributed.device}{processes}")
            if windows.findings:
                found = "; ".join(f"{n} x {what}" for what, n in windows.findings.most_common(5))
                distributed.say(f"recordings repaired: {found}")
            sampler = Sampler(rows, experiment.training.labels)
            votes, fold = rows.select(VOTES).to_numpy(), rows["fold"].to_numpy()
            mine = models[distributed.rank :: distributed.size] if options.spread == "folds" else models
            for model in mine:
                if is_finished(run, model):
                    check_model(run, model)
                    distributed.say(f"{model.name} is finished already")
                    continue
                labels = pseudo.get(model.held_out)
                held_out = np.isin(fold, model.held_out)
                parts = np.flatnonzero(~held_out), np.flatnonzero(held_out)
                data = FoldData(windows, sampler, votes, *parts, labels.probabilities if labels else None)
                together = distributed.alone() if options.spread == "folds" else distributed
                train_model(experiment, data, rows, run, model, together, options, labels)
                if distributed.is_main:
                    merge_folds(run, experiment)  # after each: what blend reads is never behind what evaluate reads
            distributed.barrier()
            if distributed.is_main:
                merge_folds(run, experiment)
    return run
