"""The training loop of one model, in plain torch.

Everything drawn at random in a step follows from (seed, stage, epoch, batch) alone. So a run that was
ended at any step and continued from its last saved state ends with the same weights, and several processes
draw the same for the batch they share.
"""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.config import Experiment
from common.errors import KitError
from common.features import Windows, build_input
from common.metric import vote_shares
from common.predict import predict
from common.training import Stage
from train.augment import change_signals, draw_shifts, draw_signal_changes
from train.data.labels import vote_totals
from train.data.sampling import Sampler, Samples
from train.data.windows import TrainingWindows
from train.losses import row_loss, soft_target
from train.mixing import mix_images, mix_windows
from train.optimisation import Optimisation
from train.team import Team

VALIDATION_BATCH = 16
LOSSES_AT_ONCE = 16  # batches between two looks at the losses
# What is drawn. Of the last two each process has its own: 4, 5 in the first, 6, 7 in the second ...
ORDER, PLACES, CHANGES, DROPOUT, MIXTURES = 1, 2, 3, 4, 5


class TrainingError(KitError):
    """Training that cannot go on. The message says why and what to do."""


@dataclass(frozen=True)
class FoldData:
    """What training a model needs to know of the label rows. votes: (rows, 6), as counts."""

    windows: TrainingWindows
    sampler: Sampler
    votes: np.ndarray
    train: np.ndarray  # row numbers
    validation: np.ndarray  # row numbers; none for the full fit
    pseudo: np.ndarray | None = None  # (rows, 6) probabilities, NaN for rows without (train/pseudo.py)


@dataclass
class Fit:
    """A model being trained, and where it stands."""

    experiment: Experiment
    data: FoldData
    model: nn.Module
    folder: Path
    seed: int
    title: str
    team: Team
    precision: torch.dtype | None
    board: Any = None  # a TensorBoard writer
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float = float("inf")
    stage: int = 0
    epoch: int = 0  # within the stage
    saved: float = field(default_factory=time.monotonic)

    @property
    def label_ids(self) -> np.ndarray:
        return self.data.windows.rows["label_id"].to_numpy()

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.experiment.training.stages


@dataclass(frozen=True)
class Batch:
    """Rows that move the weights together with `rows_in_step` rows: those of all batches and processes of a step."""

    number: int
    rows: np.ndarray  # label rows of this process's samples
    counted: np.ndarray  # 1, or 0 for a sample that only fills up
    places: np.ndarray  # of these samples in the whole batch
    size: int  # samples of the whole batch
    rows_in_step: int
    last_of_step: bool


@dataclass
class Epoch:
    """One pass over the rows of a stage, as far as it has come."""

    stage: int
    number: int  # within the stage
    next_batch: int = 0
    rows: int = 0  # that it has seen
    loss: float = 0.0  # weighted, summed over these rows
    unread: list[tuple[Batch, Tensor]] = field(default_factory=list)  # losses that are still on the device

    def read_losses(self, label_ids: np.ndarray) -> None:
        """Fetch the losses of the last batches, all at once: each by itself would make a GPU wait.

        Raises TrainingError naming the first batch whose loss is not a number.
        """
        values = torch.stack([loss for _, loss in self.unread]).tolist() if self.unread else []
        for (batch, _), value in zip(self.unread, values, strict=True):
            if not np.isfinite(value):
                raise TrainingError(
                    f"stage {self.stage}, epoch {self.number}, batch {batch.number}: the loss is {value} in the batch "
                    f"with label_id {label_ids[batch.rows[batch.counted > 0]].tolist()}: lower learning_rate, set "
                    "clip_norm, or look at these windows (python -m train show)"
                )
            self.loss += value
            self.rows += int(batch.counted.sum())
        self.unread.clear()


def seed_of(seed: int, stage: int, epoch: int, batch: int, purpose: int) -> int:
    """Always five numbers, the last not 0: shorter lists would mean the same as with zeros behind them."""
    return int(
        np.random.SeedSequence((seed, stage, epoch, batch, purpose)).generate_state(1, np.uint64)[0] >> np.uint64(1)
    )


def generator(*numbers: int) -> torch.Generator:
    """Random numbers that follow from those of seed_of alone, drawn on the CPU: the same on every device."""
    return torch.Generator().manual_seed(seed_of(*numbers))


def count_batches(n_samples: int, stage: Stage) -> int:
    return -(-n_samples // stage.batch_size)


def count_steps(n_samples: int, stage: Stage) -> int:
    """Steps of the optimiser in a stage."""
    return stage.epochs * -(-count_batches(n_samples, stage) // stage.accumulate)


def cut_batches(order: np.ndarray, stage: Stage, team: Team) -> list[Batch]:
    """An epoch's batches, of which this process sees its part."""
    batches, in_step = [], stage.batch_size * stage.accumulate
    n_batches = count_batches(len(order), stage)
    for number in range(n_batches):
        whole = order[number * stage.batch_size : (number + 1) * stage.batch_size]
        places, counted = team.part_of(len(whole))
        step_starts = number // stage.accumulate * in_step
        batches.append(
            Batch(
                number,
                whole[places],
                counted,
                places,
                len(whole),
                rows_in_step=min(in_step, len(order) - step_starts),
                last_of_step=(number + 1) % stage.accumulate == 0 or number + 1 == n_batches,
            )
        )
    return batches


def targets_of(data: FoldData, rows: np.ndarray, stage: Stage, device: torch.device) -> tuple[Tensor, Tensor]:
    """Target shares (batch, 6), float32, and numbers of votes (batch,) of label rows."""
    votes = torch.from_numpy(data.votes[rows].astype(np.float64))
    n_votes, target = votes.sum(dim=1), soft_target(votes, stage.smoothing)
    if data.pseudo is not None and stage.pseudo:
        few = torch.from_numpy(vote_totals(data.votes[rows]) < stage.pseudo_below)
        mixed = (1 - stage.pseudo) * target + stage.pseudo * torch.from_numpy(data.pseudo[rows])
        target = torch.where(few[:, None], mixed, target)  # the pseudo labels of the other rows are NaN
    return target.float().to(device), n_votes.float().to(device)


def read_epoch(
    data: FoldData, samples: Samples, stage: Stage, draws: torch.Generator, team: Team, first_batch: int
) -> Iterator[tuple[Batch, Windows]]:
    """Batches of an epoch from `first_batch` on, and their raw windows on the device."""
    batches = cut_batches(samples.rows, stage, team)
    first = np.cumsum([0] + [batch.size for batch in batches])
    left = batches[first_batch:]
    if not left:
        return

    def mine(values: np.ndarray | None) -> np.ndarray | None:  # of (samples,) those of this process that are left
        return values if values is None else np.concatenate([values[first[b.number] + b.places] for b in left])

    # Only an epoch's last batch may be smaller, on every process alike, so equal slices are the batches.
    shifts = mine(draw_shifts(stage.augment, len(samples), draws))
    read = data.windows.batches(
        np.concatenate([b.rows for b in left]), len(left[0].rows), team.device, shifts, mine(samples.windows)
    )
    for batch, (_, windows) in zip(left, read, strict=True):
        yield batch, windows


def train_batch(
    net: nn.Module, batch: Batch, windows: Windows, fit: Fit, stage: Stage, step: tuple[int, int, int, int], at: float
) -> Tensor:
    """The weighted loss of one batch, summed over this process's rows.

    step: seed, stage, epoch and batch, which everything drawn follows from; at: how much of the stage is done, 0 to 1.
    """
    device, augment = fit.team.device, stage.augment
    changes = draw_signal_changes(augment, batch.size, generator(*step, CHANGES)).part(batch.places)
    mixtures = generator(*step, MIXTURES + 2 * fit.team.rank)
    torch.manual_seed(seed_of(*step, DROPOUT + 2 * fit.team.rank))
    target, n_votes = targets_of(fit.data, batch.rows, stage, device)
    cast = torch.from_numpy(vote_shares(fit.data.votes[batch.rows])).to(device)
    windows, target, n_votes = mix_windows(change_signals(windows, changes), target, n_votes, augment, mixtures)
    inputs = build_input(windows, fit.experiment.input)
    inputs, target, n_votes = mix_images(inputs, target, n_votes, augment, mixtures, cast)
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, fit.precision, enabled=fit.precision is not None):
        logits = net(inputs)
    losses = row_loss(logits.float(), target, n_votes, stage, at)
    return (losses * torch.from_numpy(batch.counted).to(device)).sum()


def train_epoch(net: nn.Module, fit: Fit, samples: Samples, epoch: Epoch, tools: Optimisation) -> Iterator[None]:
    """What is left of one pass over `samples`; yields after every step of the optimiser, when a state may be saved.

    Raises TrainingError when a loss is not a number or memory does not suffice.
    """
    stage, team = fit.stages[epoch.stage], fit.team
    here = (fit.seed, epoch.stage, epoch.number)
    n_batches = count_batches(len(samples), stage)
    places = generator(*here, 0, PLACES)
    for batch, windows in read_epoch(fit.data, samples, stage, places, team, epoch.next_batch):
        net.train()
        at = (epoch.number * n_batches + batch.number) / max(1, stage.epochs * n_batches - 1)  # 1: the last batch
        waits = team.size > 1 and not batch.last_of_step  # gradients are averaged once a step
        try:
            with net.no_sync() if waits else nullcontext():
                loss = train_batch(net, batch, windows, fit, stage, (*here, batch.number), at)
                # DistributedDataParallel averages over the processes what should be summed.
                tools.scaler.scale(loss * (team.size / batch.rows_in_step)).backward()
            if batch.last_of_step:
                tools.step()
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):  # the CPU's words
                raise
            raise TrainingError(out_of_memory(epoch.stage, stage, team)) from error
        epoch.unread.append((batch, loss.detach()))
        epoch.next_batch = batch.number + 1
        if len(epoch.unread) == LOSSES_AT_ONCE:
            epoch.read_losses(fit.label_ids)
        if batch.last_of_step:
            yield


def out_of_memory(number: int, stage: Stage, team: Team) -> str:
    smaller = f"batch_size = {stage.batch_size // 2} and accumulate = {stage.accumulate * 2}"
    halves = f"in training.stages set {smaller} (the same step in two halves), or take"
    return (
        f"stage {number}: a batch of {stage.batch_size} does not fit in the memory of {team.device}: "
        f"{halves if stage.batch_size > 1 else 'take'} a smaller backbone or input"
    )


def predict_rows(model: nn.Module, data: FoldData, rows: np.ndarray, experiment: Experiment, team: Team) -> np.ndarray:
    """Probabilities (rows, 6) of label rows, through the same functions as inference; known to every process."""
    model.eval()
    mine = rows[team.rank :: team.size]
    batches = data.windows.batches(mine, VALIDATION_BATCH, team.device)
    found = [predict(model, build_input(windows, experiment.input)) for _, windows in batches]
    parts = team.gather(np.concatenate(found) if found else np.empty((0, 6)))
    whole = np.empty((len(rows), 6))
    for rank, part in enumerate(parts):
        whole[rank :: team.size] = part
    return whole
