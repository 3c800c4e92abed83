"""Training the models of one experiment on one competition: folds, further seeds, the full fit."""

import fcntl
import itertools
import json
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
import torch

from common.features import input_shape
from common.files import write_text, write_via
from common.models.build import build_model
from common.recipe import as_json
from common.schema import PATTERNS, VOTES
from train.engine.checkpoint import write_whole
from train.engine.distributed import Distributed, join_processes
from train.engine.fold_model import begin, finish, seed_of_model, train_stages
from train.engine.optim import pick_precision
from train.engine.pretrained import initialise
from train.engine.pseudo_labels import PseudoLabels, plan_pseudo
from train.engine.published import SELECTIONS
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
from train.engine.state import FoldData, TrainState, stage_rows
from train.experiment import Experiment
from train.folds import fold_table, folds_from_table, make_folds, read_fold_table
from train.labels import label_rows
from train.sampling import Sampler
from train.windows import TrainingWindows


@dataclass(frozen=True)
class RunOptions:
    """What a run is told beside its experiment; none of it changes what one of its models becomes."""

    folds: str = "all"
    seeds: int = 1
    resume: bool = False
    pretrained: Path | None = None
    store: Path | None = None
    store_on_gpu: bool = False
    fold_table: Path | None = None
    pseudo: Path | None = None
    tensorboard: bool = False
    one_fold_a_process: bool = False


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


def start_folder(run: Path, experiment: Experiment, rows: pl.DataFrame) -> None:
    if not (run / CONFIG).exists():
        write_via(run / ROWS, rows.write_parquet)
        write_via(run / FOLD_TABLE, fold_table(rows).write_csv)
        write_text(run / CONFIG, as_json(experiment))


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
    """Raises RunError, TrainingError and what a net raises."""
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


# ---- the run


def run_experiment(experiment: Experiment, competition: Path, out: Path, options: RunOptions) -> Path:
    """Train the models asked for; returns the run folder. Finished ones of a continued run stay.

    The store (default: in the competition folder) is made first, or what it lacks. Under torchrun all
    processes train each model together, or each its own models (options.one_fold_a_process).
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
        with closing(windows), hold_run(run) if distributed.is_main else nullcontext():
            if distributed.is_main:
                start_folder(run, experiment, rows)
                distributed.barrier()
            tell_plan(experiment, rows, models, windows, distributed)
            mine = models[distributed.rank :: distributed.size] if options.one_fold_a_process else models
            for model in mine:
                if is_finished(run, model):
                    check_model(run, model)
                    distributed.say(f"{model.name} is finished already")
                    continue
                labels = pseudo.get(model.held_out)
                data = fold_data(experiment, windows, rows, model, labels)
                together = distributed.alone() if options.one_fold_a_process else distributed
                train_model(experiment, data, rows, run, model, together, options, labels)
                if distributed.is_main:
                    merge_folds(run, experiment)  # after each: what blend reads is never behind what evaluate reads
            distributed.barrier()
            if distributed.is_main:
                merge_folds(run, experiment)
    return run


def tell_plan(
    experiment: Experiment,
    rows: pl.DataFrame,
    models: list[FoldModel],
    windows: TrainingWindows,
    distributed: Distributed,
) -> None:
    names = ", ".join(model.name for model in models)
    processes = f" in {distributed.size} processes" if distributed.size > 1 else ""
    distributed.say(f"{experiment.name}: {rows.height} label rows; {names}; on {distributed.device}{processes}")
    if windows.findings:
        found = "; ".join(f"{n} x {what}" for what, n in windows.findings.most_common(5))
        distributed.say(f"recordings repaired: {found}")


def fold_data(
    experiment: Experiment,
    windows: TrainingWindows,
    rows: pl.DataFrame,
    model: FoldModel,
    pseudo: PseudoLabels | None,
) -> FoldData:
    held_out = np.isin(rows["fold"].to_numpy(), model.held_out)
    return FoldData(
        windows,
        Sampler(rows, experiment.training.labels),
        rows.select(VOTES).to_numpy(),
        np.flatnonzero(~held_out),
        np.flatnonzero(held_out),
        pseudo.probabilities if pseudo else None,
    )


def train_model(
    experiment: Experiment,
    data: FoldData,
    rows: pl.DataFrame,
    run: Path,
    model: FoldModel,
    distributed: Distributed,
    options: RunOptions,
    pseudo: PseudoLabels | None,
) -> None:
    """Train one model, or what is left of it, and write its out-of-fold predictions."""
    folder, seed = run / model.name, seed_of_model(experiment, model)
    folder.mkdir(exist_ok=True)
    net, with_constants = begin(experiment, data, folder, seed, distributed, options.pretrained, pseudo)
    board = open_board(folder) if options.tensorboard and distributed.is_main else None
    precision = pick_precision(experiment.training.precision, distributed.device)
    title, selection = f"{experiment.name} {model.name}", SELECTIONS[experiment.training.selection]
    state = TrainState(with_constants, data, net, folder, seed, title, distributed, precision, selection, board=board)
    train_stages(state)
    finish(state, rows)
    if board is not None:
        board.close()


def open_board(folder: Path) -> Any:
    """A TensorBoard writer; the package may be missing."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
