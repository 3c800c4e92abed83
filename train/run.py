"""Training the models of one experiment on one competition: folds, further seeds, the full fit."""

import fcntl
import itertools
import json
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
import torch

from common.config import Experiment
from common.features import input_shape
from common.files import write_via
from common.models.build import build_model
from common.schema import PATTERNS, VOTES
from train.data.folds import fold_table, folds_from_table, make_folds, read_fold_table
from train.data.labels import label_rows
from train.data.sampling import Sampler
from train.data.windows import TrainingWindows
from train.loop import FoldData
from train.member import RunOptions, run_member, say
from train.pretrained import initialise
from train.pseudo import plan_pseudo
from train.run_folder import (
    CONFIG,
    FOLD,
    FOLD_TABLE,
    LOCK,
    OOF,
    ROWS,
    Member,
    RunError,
    check_member,
    check_regions,
    finished_members,
    is_finished,
    member_of,
    probability_columns,
    read_oof,
    read_table,
)
from train.stages import stage_rows, write_whole
from train.team import Team, alone, join_team

# ---- the run folder


def check_folder(run: Path, experiment: Experiment, rows: pl.DataFrame, resume: bool) -> None:
    """Whether a run can start, or the one to continue is of the same experiment and rows. Raises RunError."""
    if not (run / CONFIG).exists():
        if members := [path.name for path in sorted(run.glob("f*")) if member_of(path.name)]:
            raise RunError(f"{run} has {', '.join(members)} and no {CONFIG}: remove it, or put its {CONFIG} back")
        return
    if not resume:
        raise RunError(f"{run} exists: --resume continues it; remove it, or give another --out, to start afresh")
    for facts in run.glob(f"f*/{FOLD}"):
        check_regions(facts.parent, json.loads(facts.read_text(encoding="utf-8")))
    if (run / CONFIG).read_text(encoding="utf-8") != as_json(experiment):
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
        write_via(run / CONFIG, lambda path: path.write_text(as_json(experiment), encoding="utf-8"))


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
    check_bands(experiment)
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
        sampler = Sampler(rows, experiment.training.labels)
        with hold_run(run) if team.leads else nullcontext():
            if team.leads:
                start_folder(run, experiment, rows)
                team.gather(None)
            tell_plan(experiment, rows, members, windows, team)
            mine = members[team.rank :: team.size] if options.one_fold_a_process else members
            for member in mine:
                if is_finished(run, member):
                    check_member(run, member)
                    say(team, f"{member.name} is finished already")
                    continue
                held_out = np.isin(fold_of_row, member.held_out)
                labels = pseudo.get(member.held_out)
                data = FoldData(
                    windows,
                    sampler,
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
