"""The stages of one model's training, from its first weights to its checkpoints."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from common.files import write_via
from common.metric import kl_divergence, vote_shares
from common.schema import MANY_VOTES
from common.training import Stage
from train.data.labels import select_rows, vote_totals
from train.loop import (
    ORDER,
    Epoch,
    Fit,
    TrainingError,
    count_batches,
    count_steps,
    generator,
    predict_rows,
    train_epoch,
)
from train.optimisation import Optimisation, make_optimisation
from train.run_folder import BEST, LAST, LOG, STATE
from train.selection import evaluates_after, forgets_best, published_loss
from train.team import Team

SECONDS_BETWEEN_SAVES = 600.0  # within an epoch


def stage_rows(votes: np.ndarray, train: np.ndarray, stage: Stage, title: str) -> np.ndarray:
    """Those of the training rows that a stage wants. Raises TrainingError when there are none."""
    rows = train[select_rows(votes[train], stage.rows)]
    if not len(rows):
        wanted = stage.rows.model_dump(exclude_defaults=True)
        raise TrainingError(f"{title}: not one of {len(train)} training rows is what a stage asks for: rows {wanted}")
    return rows


def count_samples(fit: Fit, stage: Stage) -> int:
    """Samples of one epoch of a stage."""
    return fit.data.sampler.count(stage_rows(fit.data.votes, fit.data.train, stage, fit.title))


def steps_together(fit: Fit, number: int) -> int:
    """Steps of the optimiser that starts at a stage: those of this stage and of the stages that carry on."""
    stages = fit.stages
    last = number + 1
    while last < len(stages) and stages[last].carry_on:
        last += 1
    return sum(count_steps(count_samples(fit, stage), stage) for stage in stages[number:last])


def first_of(stages: tuple[Stage, ...], number: int) -> int:
    """The stage whose optimiser is at work in stage `number`."""
    while stages[number].carry_on:
        number -= 1
    return number


# ---- what is written


def best_of_stage(folder: Path, number: int | str) -> Path:
    """The best weights of the stages that share an optimiser, named after the first of them."""
    return folder / f"best-stage{number}.safetensors"


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """As write_via. Raises TrainingError where that fails."""
    try:
        write_via(path, write)
    except (OSError, RuntimeError, SafetensorError, pl.exceptions.PolarsError) as error:  # one for each kind of file
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f"{path} cannot be written ({reason}): make room, then --resume goes on") from error


def save_weights(model: nn.Module, path: Path) -> None:
    weights = {name: values.contiguous() for name, values in model.state_dict().items()}
    write_whole(path, lambda temporary: save_file(weights, temporary))


def load_weights_into(model: nn.Module, path: Path) -> None:
    model.load_state_dict(load_file(path))


def save_state(fit: Fit, tools: Optimisation, epoch: Epoch) -> None:
    """Everything that continuing needs, in one file."""
    epoch.read_losses(fit.label_ids)
    if fit.team.leads:
        state = {
            "model": fit.model.state_dict(),
            "history": fit.history,
            "best": fit.best,
            "epoch": {"stage": epoch.stage, "number": epoch.number, "next_batch": epoch.next_batch},
            "seen": {"rows": epoch.rows, "loss": epoch.loss},
            **tools.state(),
        }
        write_whole(fit.folder / STATE, lambda path: torch.save(state, path))
    fit.saved = time.monotonic()


def load_state(fit: Fit) -> tuple[Optimisation, Epoch]:
    """Put the model where its state file left it. Raises TrainingError when the file is damaged or another model's.

    Read to the CPU, from where each part goes to its own device: AdamW's counts of steps stay, or a GPU would wait
    for each of them.
    """
    path, remedy = fit.folder / STATE, f"remove {fit.folder}, and this model starts again"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in its readers, in a dozen ways
        raise TrainingError(f"{path} is damaged: {remedy}") from error
    try:
        fit.model.load_state_dict(state["model"])
        fit.history, fit.best = state["history"], state["best"]
        epoch = Epoch(**state["epoch"])
        if fit.team.leads:
            epoch.rows, epoch.loss = state["seen"]["rows"], state["seen"]["loss"]
        first = first_of(fit.stages, epoch.stage)
        tools = make_optimisation(fit.model, fit.stages[first], steps_together(fit, first), fit.precision)
        tools.load_state(state)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise TrainingError(f"{path} is the state of another model or config: {remedy}") from error
    return tools, epoch


def write_log(fit: Fit, line: dict[str, Any]) -> None:
    """A line of epochs.csv and, if wanted, of TensorBoard."""
    fit.history.append(line)
    if not fit.team.leads:
        return
    table = pl.DataFrame(fit.history, infer_schema_length=None)
    write_whole(fit.folder / LOG, table.write_csv)
    if fit.board is not None:
        for name, value in line.items():
            if isinstance(value, float):
                fit.board.add_scalar(name, value, len(fit.history))
        fit.board.flush()


# ---- scores while training


def evaluate(fit: Fit, tools: Optimisation, epoch: Epoch, started: float) -> None:
    """Score the net on the rows held out, log it, keep it when it is the best yet."""
    data, stage = fit.data, fit.stages[epoch.stage]
    epoch.read_losses(fit.label_ids)
    seen = sum(fit.team.gather(epoch.rows))
    line: dict[str, Any] = {
        "stage": epoch.stage,
        "epoch": epoch.number,
        "batches": epoch.next_batch,
        "train_loss": sum(fit.team.gather(epoch.loss)) / seen,
        "validation_kl": None,
        "validation_kl_many": None,
        "selected_by": None,
        "learning_rate": float(tools.optimiser.param_groups[0]["lr"]),
        "seconds": 0.0,
    }
    if len(data.validation):
        rows = data.validation
        fit.team.share_buffers(tools.scored)
        prediction = predict_rows(tools.scored, data, rows, fit.experiment, fit.team)
        kl = kl_divergence(vote_shares(data.votes[rows]), prediction)
        if not np.isfinite(kl).all():
            labels = fit.label_ids[rows[~np.isfinite(kl)]].tolist()
            raise TrainingError(f"no finite prediction for label_id {labels[:20]}: lower the learning rate")
        many, stages_own = vote_totals(data.votes[rows]) >= MANY_VOTES, select_rows(data.votes[rows], stage.rows)
        line["validation_kl"] = float(kl.mean())
        line["validation_kl_many"] = float(kl[many].mean()) if many.any() else None
        score = float(kl[stages_own].mean()) if stages_own.any() else float(kl.mean())
        if fit.experiment.training.selection == "as-published":
            score = published_loss(tools.scored, data, fit.experiment, epoch, fit.seed)
        line["selected_by"] = score
        keep_best(fit, tools, epoch, score)
    line["seconds"] = round(time.monotonic() - started, 2)
    write_log(fit, line)


def keep_best(fit: Fit, tools: Optimisation, epoch: Epoch, score: float) -> None:
    forgets = fit.experiment.training.selection == "as-published" and forgets_best(fit.stages, epoch)
    if score < fit.best or forgets:
        fit.best = score
        if fit.team.leads:
            number = first_of(fit.stages, epoch.stage)
            save_weights(tools.scored, best_of_stage(fit.folder, number))


# ---- stages


def train_stage(fit: Fit, net: nn.Module, tools: Optimisation, epoch: Epoch, bar: tqdm) -> None:
    """What is left of a stage, from `epoch` on; a state is saved after every epoch and, alone, every ten minutes."""
    stage = fit.stages[epoch.stage]
    rows = stage_rows(fit.data.votes, fit.data.train, stage, fit.title)
    n_batches = count_batches(count_samples(fit, stage), stage)
    halfway = fit.experiment.training.selection == "as-published"
    while epoch.number < stage.epochs:
        started, before = time.monotonic(), epoch.next_batch
        draws = generator(fit.seed, epoch.stage, epoch.number, 0, ORDER)
        samples = fit.data.sampler.draw(rows, stage.augment.any_window, draws)
        for _ in train_epoch(net, fit, samples, epoch, tools):
            bar.update(epoch.next_batch - before)
            before = epoch.next_batch
            if evaluates_after(before, n_batches) if halfway else before == n_batches:
                evaluate(fit, tools, epoch, started)
                bar.set_postfix(train=f"{fit.history[-1]['train_loss']:.3f}", refresh=False)
            elif fit.team.size == 1 and time.monotonic() - fit.saved > SECONDS_BETWEEN_SAVES:
                save_state(fit, tools, epoch)
        epoch = Epoch(epoch.stage, epoch.number + 1)
        save_state(fit, tools, epoch)


def next_stage(fit: Fit, number: int, tools: Optimisation | None) -> Optimisation:
    """The optimisation that a stage begins with: the one at work, or a new one on the weights that it starts from."""
    stage = fit.stages[number]
    if stage.carry_on and tools is not None:
        if stage.rows != fit.stages[number - 1].rows:
            fit.best = float("inf")  # scores on other rows do not compare
        return tools
    if stage.start == "best" and len(fit.data.validation):
        fit.team.gather(None)  # all wait until the file is there
        load_weights_into(fit.model, best_of_stage(fit.folder, first_of(fit.stages, number - 1)))
    elif tools is not None and tools.average is not None:
        fit.model.load_state_dict(tools.average.module.state_dict())
    fit.best = float("inf")
    return make_optimisation(fit.model, stage, steps_together(fit, number), fit.precision)


def wrap(model: nn.Module, team: Team) -> nn.Module:
    """The net whose backward pass averages gradients over the team."""
    if team.size == 1:
        return model
    return DistributedDataParallel(model, device_ids=[team.device.index] if team.device.type == "cuda" else None)


def train_stages(fit: Fit) -> None:
    """Train a model through all stages and leave LAST, BEST (where rows are held out) and LOG in its folder.

    A state file of an interrupted run in the folder is continued.
    """
    stages = fit.stages
    tools, epoch = load_state(fit) if (fit.folder / STATE).is_file() else (None, Epoch(0, 0))
    net = wrap(fit.model, fit.team)
    sizes = [count_batches(count_samples(fit, stage), stage) for stage in stages]
    done = sum(stages[k].epochs * sizes[k] for k in range(epoch.stage)) + epoch.number * sizes[epoch.stage]
    total = sum(stage.epochs * size for stage, size in zip(stages, sizes, strict=True))
    quiet = not fit.team.leads
    with tqdm(total=total, initial=done + epoch.next_batch, desc=fit.title, unit="batch", disable=quiet) as bar:
        for number in range(epoch.stage, len(stages)):
            if tools is None or number > epoch.stage:
                tools = next_stage(fit, number, tools)
                epoch = Epoch(number, 0)
            train_stage(fit, net, tools, epoch, bar)
    assert tools is not None
    if not all(values.isfinite().all() for values in tools.scored.state_dict().values()):
        raise TrainingError(f"{fit.title}: weights are not numbers after the last step: lower learning_rate")
    if fit.team.leads:
        best = best_of_stage(fit.folder, first_of(stages, len(stages) - 1))
        if best.is_file():
            best.replace(fit.folder / BEST)
        save_weights(tools.scored, fit.folder / LAST)
        for left in fit.folder.glob(best_of_stage(Path(), "*").name):  # of earlier stages: nothing starts from them now
            left.unlink()
    fit.team.gather(None)  # all wait until the files are there
