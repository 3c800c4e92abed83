"""Training the folds of one experiment on one competition."""

import json
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import torch

from common.config import Experiment
from common.features import constants_wanted, measure_constants, with_constants
from common.files import write_via
from common.inputs import Constants
from common.models.build import build_model
from common.predict import pick_device
from common.schema import PATTERNS, VOTES
from train.folds import make_folds
from train.labels import label_rows
from train.loop import FoldData, load_checkpoint, predict_rows, stage_rows, train_fold
from train.pretrained import initialise
from train.run_folder import (
    BEST,
    CONFIG,
    FOLD,
    LAST,
    OOF,
    ROWS,
    STATE,
    RunError,
    fold_folder,
    probability_columns,
    read_table,
    write_json,
)
from train.windows import TrainingWindows

MEASURED_AT_ONCE = 64  # windows
VERSIONED = ("torch", "timm", "numpy", "polars", "scipy", "scikit-learn")


def check_folder(run: Path, experiment: Experiment, rows: pl.DataFrame, resume: bool) -> None:
    """Whether a run can start, or the one to continue is of the same experiment and rows. Raises RunError."""
    if not (run / CONFIG).exists():
        return
    if not resume:
        raise RunError(f"{run} exists: --resume continues it; remove it, or give another --out, to start afresh")
    if (run / CONFIG).read_text(encoding="utf-8") != as_json(experiment):
        raise RunError(f"{run / CONFIG} differs from the config: a continued run must be the same experiment")
    if not read_table(run / ROWS).equals(rows):
        raise RunError(f"{run / ROWS} differs from the competition's label rows: this run was made on other data")


def start_folder(run: Path, experiment: Experiment, rows: pl.DataFrame) -> None:
    if not (run / CONFIG).exists():
        run.mkdir(parents=True, exist_ok=True)
        write_via(run / ROWS, rows.write_parquet)
        write_via(run / CONFIG, lambda path: path.write_text(as_json(experiment), encoding="utf-8"))


def as_json(experiment: Experiment) -> str:
    return experiment.model_dump_json(indent=1) + "\n"


def finish_fold(experiment: Experiment, data: FoldData, model, rows: pl.DataFrame, folder: Path) -> None:
    """Out-of-fold predictions of both checkpoints, in one table."""
    table = rows[data.validation.tolist()].select(
        "label_id", "eeg_id", "spectrogram_id", "patient_id", "fold", *VOTES, "total_votes"
    )
    for checkpoint, file in (("last", LAST), ("best", BEST)):
        load_checkpoint(model, folder / file)
        probabilities = predict_rows(model, data, data.validation, experiment)
        names = probability_columns(checkpoint)
        table = table.with_columns(pl.Series(name, probabilities[:, k]) for k, name in enumerate(names))
    write_via(folder / OOF, table.write_parquet)
    (folder / STATE).unlink(missing_ok=True)


def merge_folds(run: Path, experiment: Experiment) -> None:
    """RUN/oof.parquet from the finished folds: keys, fold, votes and the chosen checkpoint's probabilities."""
    parts = sorted(run.glob(f"fold*/{OOF}"))
    chosen = dict(zip(probability_columns(experiment.training.checkpoint), PATTERNS, strict=True))
    table = pl.concat([read_table(part) for part in parts]).rename(chosen)
    table = table.select([c for c in table.columns if not c.endswith(("_last", "_best"))])
    write_via(run / OOF, table.write_parquet)


def parse_folds(text: str, n_folds: int) -> list[int]:
    """'0,2' or 'all' to fold numbers. Raises RunError."""
    if text == "all":
        return list(range(n_folds))
    wanted = text.split(",")
    if not all(part.strip().isdecimal() and int(part) < n_folds for part in wanted):
        raise RunError(f"--folds {text}: expected 'all' or numbers from 0 to {n_folds - 1}, as in 0,1")
    return sorted({int(part) for part in wanted})


def training_constants(experiment: Experiment, data: FoldData) -> tuple[Constants, ...]:
    """Constants of the fold's training rows, as many as its input asks for. Raises RunError."""
    if not constants_wanted(experiment.input):
        return ()
    batches = data.windows.batches(data.train, MEASURED_AT_ONCE, torch.device("cpu"))
    try:
        return measure_constants(experiment.input, (windows for _, windows in batches))
    except ValueError as error:
        raise RunError(f"{experiment.name}: {error}") from error


def run_fold(
    experiment: Experiment, data: FoldData, rows: pl.DataFrame, fold: int, folder: Path, pretrained: Path | None
) -> None:
    """Train one fold, or what is left of it, and write its out-of-fold predictions."""
    folder.mkdir(exist_ok=True)
    seed = experiment.training.seed + 1000 * fold
    torch.manual_seed(seed)
    model = build_model(experiment)
    if (folder / STATE).is_file():  # its weights, and what is known of their origin, go on
        print(f"fold {fold}: continued")
        known = json.loads((folder / FOLD).read_text(encoding="utf-8"))["constants"]
        constants = tuple(Constants.model_validate(values) for values in known)
    else:
        initialised = initialise(model, experiment, pretrained)
        print(f"fold {fold}: first weights: {initialised}")
        constants = training_constants(experiment, data)
        versions = {name: version(name) for name in VERSIONED}
        measured = [values.model_dump() for values in constants]
        write_json(folder / FOLD, {"initialised": initialised, "versions": versions, "constants": measured})
    seen = experiment.model_copy(update={"input": with_constants(experiment.input, constants)})
    model = model.to(pick_device())
    train_fold(seen, data, model, folder, seed, f"{experiment.name} fold {fold}")
    finish_fold(seen, data, model, rows, folder)


def check_plan(
    experiment: Experiment, votes: np.ndarray, fold_of_row: np.ndarray, folds: list[int], pretrained: Path | None
) -> None:
    """What would fail later fails before anything is written. Raises RunError, TrainingError and what a net raises."""
    torch.manual_seed(experiment.training.seed)
    build_model(experiment)
    if pretrained and not pretrained.is_file():
        raise RunError(f"--pretrained {pretrained}: no such file")
    for fold in folds:
        for stage in experiment.training.stages:
            stage_rows(votes, np.flatnonzero(fold_of_row != fold), stage, f"fold {fold}")


def run_experiment(
    experiment: Experiment,
    competition: Path,
    out: Path,
    folds: str,
    resume: bool,
    pretrained: Path | None,
    store: Path | None = None,
    store_on_gpu: bool = False,
) -> Path:
    """Train the folds asked for; returns the run folder. Finished folds of a continued run stay.

    The store (default: in the competition folder) is made first, or what it lacks.
    """
    wanted = parse_folds(folds, experiment.training.folds)
    rows = label_rows(competition)
    fold_of_row = make_folds(rows, experiment.training.folds)
    rows = rows.with_columns(fold=pl.Series(fold_of_row))
    votes = rows.select(VOTES).to_numpy()
    run = out / experiment.name
    check_plan(experiment, votes, fold_of_row, wanted, pretrained)
    check_folder(run, experiment, rows, resume)
    with closing(TrainingWindows(competition, rows, experiment.input, store, store_on_gpu)) as windows:
        start_folder(run, experiment, rows)
        print(f"{experiment.name}: {rows.height} label rows, folds {wanted}, on {pick_device()}")
        if windows.findings:
            print("recordings repaired: " + "; ".join(f"{n} x {what}" for what, n in windows.findings.most_common(5)))
        for fold in wanted:
            if (fold_folder(run, fold) / OOF).is_file():
                print(f"fold {fold} is finished already")
            else:
                train, validation = np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold)
                data = FoldData(windows, votes, train, validation)
                run_fold(experiment, data, rows, fold, fold_folder(run, fold), pretrained)
            merge_folds(run, experiment)  # after each: what blend reads is never behind what evaluate reads
    return run
