"""One model of a run: its first weights, what it learns from, its predictions of the rows it never saw."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from common.config import Experiment
from common.features import constants_wanted, measure_constants, with_constants
from common.files import sha256_of
from common.inputs import Constants
from common.models.build import build_model
from common.schema import REGIONS, VOTES
from train.engine.distributed import Team
from train.engine.loop import Fit, FoldData, predict_rows
from train.engine.optim import pick_precision
from train.engine.pretrained import initialise
from train.engine.pseudo_labels import PseudoLabels
from train.engine.run_folder import (
    BEST,
    CONFIG,
    FOLD,
    LAST,
    OOF,
    STATE,
    Member,
    RunError,
    probability_columns,
    write_json,
)
from train.engine.stages import load_weights_into, train_stages, write_whole

MEASURED_AT_ONCE = 64  # windows
VERSIONED = ("torch", "timm", "numpy", "polars", "scipy", "scikit-learn")


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


def seed_of_member(experiment: Experiment, member: Member) -> int:
    first, second = (*(fold + 1 for fold in member.held_out), 0, 0)[:2]
    numbers = (experiment.training.seed, member.seed, first, second, 1)
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def training_constants(experiment: Experiment, data: FoldData) -> tuple[Constants, ...]:
    """Constants of the training rows, as many as the input asks for. Raises RunError."""
    if not constants_wanted(experiment.input):
        return ()
    batches = data.windows.batches(data.train, MEASURED_AT_ONCE, torch.device("cpu"))
    try:
        return measure_constants(experiment.input, (windows for _, windows in batches))
    except ValueError as error:
        raise RunError(f"{experiment.name}: {error}") from error


def begin(
    experiment: Experiment,
    data: FoldData,
    folder: Path,
    seed: int,
    team: Team,
    pretrained: Path | None,
    pseudo: PseudoLabels | None,
) -> tuple[nn.Module, Experiment]:
    """The model with its first weights, and the experiment with its measured constants; both known again to a
    continued one from its folder."""
    torch.manual_seed(seed)
    model = build_model(experiment)
    if (folder / STATE).is_file():
        known = json.loads((folder / FOLD).read_text(encoding="utf-8"))["constants"]
        constants = tuple(Constants.model_validate(values) for values in known)
        say(team, f"{folder.name}: continued")
    else:
        initialised = initialise(model, experiment, pretrained)
        constants = training_constants(experiment, data)
        say(team, f"{folder.name}: first weights: {initialised}")
        if team.leads:
            facts = {
                "member": [folder.name, sha256_of(folder.parent / CONFIG)],
                "initialised": initialised,
                "regions": REGIONS,
                "versions": {name: version(name) for name in VERSIONED},
                "constants": [values.model_dump() for values in constants],
                "train_rows": len(data.train),
                "pseudo": None if pseudo is None else pseudo.record(),
            }
            write_json(folder / FOLD, facts)
    if team.device.type == "cuda":
        model = (convert_sync_batchnorm(model) if team.size > 1 else model).to(team.device)
    seen = experiment.model_copy(update={"input": with_constants(experiment.input, constants)})
    return model.to(memory_format=torch.channels_last), seen


def say(team: Team, line: str) -> None:
    if team.leads:
        print(line, flush=True)


def finish(fit: Fit, rows: pl.DataFrame) -> None:
    """Out-of-fold predictions of both checkpoints, in one table; then the state goes, as the last thing."""
    if len(fit.data.validation):
        table = rows[fit.data.validation.tolist()].select(
            "label_id", "eeg_id", "spectrogram_id", "patient_id", "fold", *VOTES, "total_votes"
        )
        for checkpoint, file in (("last", LAST), ("best", BEST)):
            load_weights_into(fit.model, fit.folder / file)
            probabilities = predict_rows(fit.model, fit.data, fit.data.validation, fit.experiment, fit.team)
            names = probability_columns(checkpoint)
            table = table.with_columns(pl.Series(name, probabilities[:, k]) for k, name in enumerate(names))
        if fit.team.leads:
            write_whole(fit.folder / OOF, table.write_parquet)
    if fit.team.leads:
        known = json.loads((fit.folder / FOLD).read_text(encoding="utf-8"))
        written = [fit.folder / name for name in (LAST, BEST) if (fit.folder / name).is_file()]
        write_json(fit.folder / FOLD, known | {"weights_sha256": {path.name: sha256_of(path) for path in written}})
        (fit.folder / STATE).unlink(missing_ok=True)
    fit.team.gather(None)


def run_member(
    experiment: Experiment,
    data: FoldData,
    rows: pl.DataFrame,
    run: Path,
    member: Member,
    team: Team,
    options: RunOptions,
    pseudo: PseudoLabels | None,
) -> None:
    """Train one model, or what is left of it, and write its out-of-fold predictions."""
    folder, seed = run / member.name, seed_of_member(experiment, member)
    folder.mkdir(exist_ok=True)
    model, seen = begin(experiment, data, folder, seed, team, options.pretrained, pseudo)
    board = open_board(folder) if options.tensorboard and team.leads else None
    precision = pick_precision(experiment.training.precision, team.device)
    title = f"{experiment.name} {member.name}"
    fit = Fit(seen, data, model, folder, seed, title, team, precision, board)
    train_stages(fit)
    finish(fit, rows)
    if board is not None:
        board.close()


def open_board(folder: Path) -> Any:
    """A TensorBoard writer; the package may be missing."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
