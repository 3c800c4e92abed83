"""The training loop of one fold, in plain torch."""

import pickle
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from common.config import Experiment, Stage
from common.errors import KitError
from common.features import build_input
from common.files import write_via
from common.metric import kl_divergence, vote_shares
from common.predict import predict
from common.schema import MANY_VOTES
from train.augment import draw_shifts, mirror_some
from train.run_folder import BEST, LAST, LOG, STATE
from train.windows import TrainingWindows

VALIDATION_BATCH = 16


class TrainingError(KitError):
    """Training that cannot go on. The message says why and what to do."""


@dataclass(frozen=True)
class FoldData:
    """What a fold's training needs to know of the label rows. votes: (rows, 6) counts."""

    windows: TrainingWindows
    votes: np.ndarray
    train: np.ndarray  # row numbers
    validation: np.ndarray


@dataclass
class Optimisation:
    """What moves the weights; the one-cycle schedule is stepped after every batch."""

    optimiser: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.OneCycleLR
    scaler: torch.amp.GradScaler


def kl_loss(logits: Tensor, target: Tensor) -> Tensor:
    """KL(target || softmax(logits)) of each row, (batch,). 0 ln 0 = 0."""
    return (torch.xlogy(target, target) - target * logits.log_softmax(dim=1)).sum(dim=1)


def predict_rows(model: nn.Module, data: FoldData, rows: np.ndarray, experiment: Experiment) -> np.ndarray:
    """Probabilities (rows, 6) of label rows, through the same functions as inference."""
    device = next(model.parameters()).device
    model.eval()
    batches = data.windows.batches(rows, VALIDATION_BATCH, device)
    return np.concatenate([predict(model, build_input(windows, experiment.input)) for _, windows in batches])


def make_optimisation(model: nn.Module, stage: Stage, n_rows: int) -> Optimisation:
    """AdamW, one cycle over all steps of the stage, and fp16 gradient scaling where there is a GPU."""
    steps = stage.epochs * -(-n_rows // stage.batch_size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=stage.learning_rate, weight_decay=stage.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=stage.learning_rate,
        total_steps=steps,
        pct_start=stage.warm_up if stage.warm_up * steps > 1 else 0.0,  # no way up in less than a step
        div_factor=stage.div_factor,
        final_div_factor=stage.final_div_factor,
    )
    device = next(model.parameters()).device.type
    return Optimisation(optimiser, scheduler, torch.amp.GradScaler(device, enabled=device == "cuda"))


def train_epoch(
    model: nn.Module, data: FoldData, rows: np.ndarray, stage: Stage, experiment: Experiment, tools: Optimisation
) -> float:
    """One pass over `rows`; mean training KL. Raises TrainingError when the loss is not a number."""
    device = next(model.parameters()).device
    model.train()
    total = 0.0
    shifts = draw_shifts(len(rows), stage.shift)
    for chosen, windows in data.windows.batches(rows, stage.batch_size, device, shifts):
        inputs = build_input(mirror_some(windows, stage.mirror), experiment.input)
        target = torch.from_numpy(vote_shares(data.votes[chosen])).float().to(device)
        with torch.autocast(device.type, torch.float16, enabled=tools.scaler.is_enabled()):
            logits = model(inputs)
        loss = kl_loss(logits.float(), target).mean()
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is {loss.item()} in a batch with label rows {chosen.tolist()}")
        tools.optimiser.zero_grad(set_to_none=True)
        tools.scaler.scale(loss).backward()
        tools.scaler.step(tools.optimiser)
        tools.scaler.update()
        tools.scheduler.step()
        total += loss.item() * len(chosen)
    return total / len(rows)


def stage_rows(votes: np.ndarray, train: np.ndarray, stage: Stage, title: str) -> np.ndarray:
    """Those of the training rows that a stage wants. Raises TrainingError when there are none."""
    rows = train[votes[train].sum(axis=1) >= stage.min_votes]
    if not len(rows):
        raise TrainingError(f"{title}: no training row has the {stage.min_votes} votes that a stage asks for")
    return rows


def load_state(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise TrainingError(f"{path} is damaged: remove it, and this fold starts again") from error


def train_fold(experiment: Experiment, data: FoldData, model: nn.Module, folder: Path, seed: int, title: str) -> None:
    """Train `model` on data.train, score every epoch on data.validation, leave LAST, BEST and LOG in `folder`.

    A state file from an interrupted run in `folder` is continued. Every epoch draws from its own
    seed, so a continued run ends with the same weights as one that was never interrupted.
    """
    stages = experiment.training.stages
    state_file = folder / STATE
    state: dict[str, Any] = {"history": [], "best": float("inf"), "stage": -1}
    if state_file.is_file():
        state = load_state(state_file, next(model.parameters()).device)
        model.load_state_dict(state["model"])
    history: list[dict[str, Any]] = state["history"]
    target = vote_shares(data.votes[data.validation])
    many = data.votes[data.validation].sum(axis=1) >= MANY_VOTES
    total_epochs = sum(stage.epochs for stage in stages)
    progress = tqdm(total=total_epochs, initial=len(history), desc=title, unit="epoch")
    last_epoch = 0
    for number, stage in enumerate(stages):
        last_epoch += stage.epochs
        rows = stage_rows(data.votes, data.train, stage, title)
        tools = make_optimisation(model, stage, len(rows))
        if state["stage"] == number:
            for name, tool in vars(tools).items():
                tool.load_state_dict(state[name])
        while len(history) < last_epoch:
            started = time.monotonic()
            generator = torch.manual_seed(seed + len(history))
            order = rows[torch.randperm(len(rows), generator=generator).numpy()]
            train_kl = train_epoch(model, data, order, stage, experiment, tools)
            kl = kl_divergence(target, predict_rows(model, data, data.validation, experiment))
            if not np.isfinite(kl).all():
                where = data.validation[~np.isfinite(kl)].tolist()
                raise TrainingError(f"no finite prediction for label rows {where[:20]}: lower the learning rate")
            history.append(
                {
                    "stage": number,
                    "epoch": len(history),
                    "train_kl": train_kl,
                    "validation_kl": float(kl.mean()),
                    "validation_kl_many": float(kl[many].mean()) if many.any() else None,
                    "learning_rate": tools.scheduler.get_last_lr()[0],
                    "seconds": round(time.monotonic() - started, 2),
                }
            )
            if kl.mean() < state["best"]:
                state["best"] = float(kl.mean())
                write_via(folder / BEST, lambda path: save_file(model.state_dict(), path))
            write_via(folder / LOG, pl.DataFrame(history).write_csv)
            moving = {name: tool.state_dict() for name, tool in vars(tools).items()}
            state = {"model": model.state_dict(), "history": history, "best": state["best"], "stage": number, **moving}
            write_via(state_file, lambda path, state=state: torch.save(state, path))
            progress.update()
            progress.set_postfix(train=f"{train_kl:.3f}", validation=f"{kl.mean():.3f}", refresh=False)
    progress.close()
    write_via(folder / LAST, lambda path: save_file(model.state_dict(), path))


def load_checkpoint(model: nn.Module, path: Path) -> None:
    model.load_state_dict(load_file(path))
