"""Training the models of one experiment on one competition: folds, further seeds, the full fit."""

import itertools
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from common.config import Experiment
from common.features import constants_wanted, measure_constants, with_constants
from common.files import write_via
from common.inputs import Constants
from common.models.build import build_model
from common.schema import PATTERNS, VOTES
from train.folds import fold_table, folds_from_table, make_folds, read_fold_table
from train.labels import label_rows
from train.loop import Fit, FoldData, predict_rows
from train.member import load_weights_into, stage_rows, train_member, write_whole
from train.optimisation import pick_precision
from train.pretrained import initialise
from train.pseudo import PseudoLabels, plan_pseudo
from train.run_folder import (
    BEST,
    CONFIG,
    FOLD,
    FOLD_TABLE,
    LAST,
    OOF,
    ROWS,
    STATE,
    Member,
    RunError,
    finished_members,
    is_finished,
    probability_columns,
    read_oof,
    read_table,
    write_json,
)
from train.team import Team, alone, join_team
from train.windows import TrainingWindows

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


# ---- the run folder


def check_folder(run: Path, experiment: Experiment, rows: pl.DataFrame, resume: bool) -> None:
    """Whether a run can start, or the one to continue is of the same experiment and rows. Raises RunError."""
    if not (run / CONFIG).exists():
        return
    if not resume:
        raise RunError(f"{run} exists: --resume continues it; remove it, or give another --out, to start afresh")
    if (run / CONFIG).read_text(encoding="utf-8") != as_json(experiment):
        raise RunError(f"{run / CONFIG} differs from the config: a continued run must be the same experiment")
    before = read_table(run / ROWS)
    if not before.drop("fold", strict=False).equals(rows.drop("fold")):
        raise RunError(f"{run / ROWS} differs from the competition's label rows: this run was made on other data")
    if not before.equals(rows):
        raise RunError(f"{run / ROWS} has other folds: give --fold-table {run / FOLD_TABLE} to go on with them")


def start_folder(run: Path, experiment: Experiment, rows: pl.DataFrame) -> None:
    if not (run / CONFIG).exists():
        run.mkdir(parents=True, exist_ok=True)
        write_via(run / ROWS, rows.write_parquet)
        write_via(run / FOLD_TABLE, fold_table(rows).write_csv)
        write_via(run / CONFIG, lambda path: path.write_text(as_json(experiment), encoding="utf-8"))


def as_json(experiment: Experiment) -> str:
    return experiment.model_dump_json(indent=1) + "\n"


def merge_folds(run: Path, experiment: Experiment) -> None:
    """RUN/oof.parquet from the finished folds: keys, fold, votes and the chosen checkpoint's probabilities."""
    if not any(len(member.held_out) == 1 for member in finished_members(run)):
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


def seed_of_member(experiment: Experiment, member: Member) -> int:
    first, second = (*(fold + 1 for fold in member.held_out), 0, 0)[:2]
    numbers = (experiment.training.seed, member.seed, first, second, 1)
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


# ---- one model


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
                "initialised": initialised,
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
    train_member(fit)
    finish(fit, rows)
    if board is not None:
        board.close()


def open_board(folder: Path) -> Any:
    """A TensorBoard writer; the package may be missing."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))


# ---- the run


def check_plan(
    experiment: Experiment,
    votes: np.ndarray,
    fold_of_row: np.ndarray,
    wanted: Sequence[tuple[int, ...]],
    options: RunOptions,
) -> None:
    """What would fail later fails before anything is written. Raises RunError, TrainingError and what a net raises."""
    torch.manual_seed(experiment.training.seed)
    model = build_model(experiment)
    if options.pretrained and not options.pretrained.is_file():
        raise RunError(f"--pretrained {options.pretrained}: no such file")
    if options.pretrained:
        initialise(model, experiment, options.pretrained)
    if options.tensorboard and find_spec("tensorboard") is None:
        raise RunError("--tensorboard needs the package tensorboard: pip install tensorboard")
    uses_pseudo = any(stage.pseudo for stage in experiment.training.stages)
    if uses_pseudo != (options.pseudo is not None):
        raise RunError(
            "a stage has a share of pseudo labels: --pseudo RUN says whose"
            if uses_pseudo
            else "--pseudo: no stage of this config has a share of them (training.stages, pseudo = 0.5)"
        )
    for held_out in wanted:
        for number, stage in enumerate(experiment.training.stages):
            title = f"{Member(held_out).name}, stage {number}"
            stage_rows(votes, np.flatnonzero(~np.isin(fold_of_row, held_out)), stage, title)


def rows_with_folds(experiment: Experiment, competition: Path, table: Path | None) -> pl.DataFrame:
    """The experiment's label rows, each with its fold. Raises LabelError and FoldError."""
    rows, n_folds = label_rows(competition, experiment.training.labels), experiment.training.folds
    if table is None:
        return rows.with_columns(fold=pl.Series(make_folds(rows, n_folds)))
    folds = folds_from_table(rows, read_fold_table(table))
    if (found := len(np.unique(folds))) != n_folds:
        raise RunError(f"--fold-table {table} has {found} folds, the config's training.folds is {n_folds}")
    return rows.with_columns(fold=pl.Series(folds))


def run_experiment(experiment: Experiment, competition: Path, out: Path, options: RunOptions) -> Path:
    """Train the models asked for; returns the run folder. Finished ones of a continued run stay.

    The store (default: in the competition folder) is made first, or what it lacks. Under torchrun all
    processes train each model together, or each its own models (options.one_fold_a_process).
    """
    wanted = parse_folds(options.folds, experiment.training.folds)
    members = [Member(held_out, seed) for seed in range(options.seeds) for held_out in wanted]
    rows = rows_with_folds(experiment, competition, options.fold_table)
    votes, fold_of_row = rows.select(VOTES).to_numpy(), rows["fold"].to_numpy()
    run = out / experiment.name
    check_plan(experiment, votes, fold_of_row, wanted, options)
    with join_team() as team:
        check_folder(run, experiment, rows, options.resume)
        pseudo = plan_pseudo(options.pseudo, run, experiment, rows, wanted) if options.pseudo else {}
        team.gather(None)  # before one of them starts the folder that the others look for
        if not team.leads:
            team.gather(None)  # the store is made by one
        windows = TrainingWindows(competition, rows, experiment.input, options.store, options.store_on_gpu)
        with closing(windows):
            if team.leads:
                start_folder(run, experiment, rows)
                team.gather(None)
            tell_plan(experiment, rows, members, windows, team)
            mine = members[team.rank :: team.size] if options.one_fold_a_process else members
            for member in mine:
                if is_finished(run, member):
                    say(team, f"{member.name} is finished already")
                    continue
                held_out = np.isin(fold_of_row, member.held_out)
                labels = pseudo.get(member.held_out)
                data = FoldData(
                    windows,
                    votes,
                    np.flatnonzero(~held_out),
                    np.flatnonzero(held_out),
                    labels.probabilities if labels else None,
                )
                together = alone(team) if options.one_fold_a_process else team
                run_member(experiment, data, rows, run, member, together, options, labels)
                if team.leads:
                    merge_folds(run, experiment)  # after each: what blend reads is never behind what evaluate reads
            team.gather(None)
            if team.leads:
                merge_folds(run, experiment)
    return run


def tell_plan(
    experiment: Experiment, rows: pl.DataFrame, members: list[Member], windows: TrainingWindows, team: Team
) -> None:
    names = ", ".join(member.name for member in members)
    processes = f" in {team.size} processes" if team.size > 1 else ""
    say(team, f"{experiment.name}: {rows.height} label rows; {names}; on {team.device}{processes}")
    if windows.findings:
        found = "; ".join(f"{n} x {what}" for what, n in windows.findings.most_common(5))
        say(team, f"recordings repaired: {found}")
