"""The files of a model in training: its weights, its log, the state that a run goes on from."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from common.files import write_via
from train.engine.optim import ModelOptimizer, make_optimizer
from train.engine.run_folder import LOG, STATE, RunError
from train.engine.state import Epoch, TrainState


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """As write_via. Raises RunError where that fails."""
    try:
        write_via(path, write)
    except (OSError, RuntimeError, SafetensorError, pl.exceptions.PolarsError) as error:  # one for each kind of file
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"{path} cannot be written ({reason}): make room, then --resume goes on") from error


def best_of_stage(folder: Path, number: int | str) -> Path:
    """The best weights of the stages that share an optimizer, named after the first of them."""
    return folder / f"best-stage{number}.safetensors"


def save_weights(model: nn.Module, path: Path) -> None:
    weights = {name: values.contiguous() for name, values in model.state_dict().items()}
    write_whole(path, lambda temporary: save_file(weights, temporary))


def load_weights_into(model: nn.Module, path: Path) -> None:
    model.load_state_dict(load_file(path))


def save_state(state: TrainState, optimizer: ModelOptimizer, epoch: Epoch) -> None:
    """Everything that continuing needs, in one file."""
    epoch.read_losses(state.data.label_ids)
    if state.distributed.is_main:
        values = {
            "model": state.model.state_dict(),
            "history": state.history,
            "best": state.best,
            "epoch": {"stage": epoch.stage, "number": epoch.number, "next_batch": epoch.next_batch},
            "seen": {"rows": epoch.rows, "loss": epoch.loss},
            **optimizer.state(),
        }
        write_whole(state.folder / STATE, lambda path: torch.save(values, path))
    state.saved = time.monotonic()


def load_state(state: TrainState) -> tuple[ModelOptimizer, Epoch]:
    """Put the model where its state file left it. Raises RunError when the file is damaged or another model's.

    Read to the CPU, from where each part goes to its own device: AdamW's counts of steps stay, or a GPU would wait
    for each of them.
    """
    path, remedy = state.folder / STATE, f"remove {state.folder}, and this model starts again"
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in its readers, in a dozen ways
        raise RunError(f"{path} is damaged: {remedy}") from error
    try:
        state.model.load_state_dict(values["model"])
        state.history, state.best = values["history"], values["best"]
        epoch = Epoch(**values["epoch"])
        if state.distributed.is_main:
            epoch.rows, epoch.loss = values["seen"]["rows"], values["seen"]["loss"]
        first = state.first_stage(epoch.stage)
        optimizer = make_optimizer(state.model, state.stages[first], state.steps_from(first), state.precision)
        optimizer.load_state(values)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise RunError(f"{path} is the state of another model or config: {remedy}") from error
    return optimizer, epoch


def write_log(state: TrainState, line: dict[str, Any]) -> None:
    """A line of epochs.csv and, if wanted, of TensorBoard."""
    state.history.append(line)
    if not state.distributed.is_main:
        return
    table = pl.DataFrame(state.history, infer_schema_length=None)
    write_whole(state.folder / LOG, table.write_csv)
    if state.board is not None:
        for name, value in line.items():
            if isinstance(value, float):
                state.board.add_scalar(name, value, len(state.history))
        state.board.flush()


def open_board(folder: Path) -> Any:
    """A TensorBoard writer; the package may be missing."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
