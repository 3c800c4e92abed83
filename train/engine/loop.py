"""The training loop of one model, in plain torch.

Everything drawn at random in a step follows from (seed, stage, epoch, batch) alone. So a run that was
ended at any step and continued from its last saved state ends with the same weights, and several processes
draw the same for the batch they share.
"""

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from common.inputs.base import Windows
from common.inputs.build import build_input
from common.metric import vote_shares
from common.predict import predict
from train.augment.mixing import mix_images, mix_windows
from train.augment.signal import change_signals, draw_shifts, draw_signal_changes
from train.data.labels import vote_totals
from train.data.sampling import Samples
from train.engine.distributed import Distributed
from train.engine.losses import row_loss, soft_target
from train.engine.optim import ModelOptimizer
from train.engine.run_folder import RunError
from train.engine.state import Batch, Epoch, FoldData, TrainState, count_batches
from train.experiment import Experiment, Stage

VALIDATION_BATCH = 16
LOSSES_AT_ONCE = 16  # batches between two looks at the losses
# What is drawn. Of the last two each process has its own: 4, 5 in the first, 6, 7 in the second ...
ORDER, PLACES, CHANGES, DROPOUT, MIXTURES = 1, 2, 3, 4, 5


def seed_of(seed: int, stage: int, epoch: int, batch: int, purpose: int) -> int:
    """Always five numbers, the last not 0: shorter lists would mean the same as with zeros behind them."""
    return int(
        np.random.SeedSequence((seed, stage, epoch, batch, purpose)).generate_state(1, np.uint64)[0] >> np.uint64(1)
    )


def generator(*numbers: int) -> torch.Generator:
    """Random numbers that follow from those of seed_of alone, drawn on the CPU: the same on every device."""
    return torch.Generator().manual_seed(seed_of(*numbers))


def cut_batches(order: np.ndarray, stage: Stage, distributed: Distributed) -> list[Batch]:
    """An epoch's batches, of which this process sees its part."""
    batches, in_step = [], stage.batch_size * stage.accumulate
    n_batches = count_batches(len(order), stage)
    for number in range(n_batches):
        whole = order[number * stage.batch_size : (number + 1) * stage.batch_size]
        places, counted = distributed.part_of(len(whole))
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
    data: FoldData, samples: Samples, stage: Stage, draws: torch.Generator, distributed: Distributed, first_batch: int
) -> Iterator[tuple[Batch, Windows]]:
    """Batches of an epoch from `first_batch` on, and their raw windows on the device."""
    batches = cut_batches(samples.rows, stage, distributed)
    first = np.cumsum([0] + [batch.size for batch in batches])
    left = batches[first_batch:]
    if not left:
        return

    def mine(values: np.ndarray | None) -> np.ndarray | None:  # of (samples,) those of this process that are left
        return values if values is None else np.concatenate([values[first[b.number] + b.places] for b in left])

    # Only an epoch's last batch may be smaller, on every process alike, so equal slices are the batches.
    shifts = mine(draw_shifts(stage.augment, len(samples), draws))
    read = data.windows.batches(
        np.concatenate([b.rows for b in left]), len(left[0].rows), distributed.device, shifts, mine(samples.windows)
    )
    for batch, (_, windows) in zip(left, read, strict=True):
        yield batch, windows


def train_batch(
    net: nn.Module,
    batch: Batch,
    windows: Windows,
    state: TrainState,
    stage: Stage,
    step: tuple[int, int, int, int],
    at: float,
) -> Tensor:
    """The weighted loss of one batch, summed over this process's rows.

    step: seed, stage, epoch and batch, which everything drawn follows from; at: how much of the stage is done, 0 to 1.
    """
    device, augment = state.distributed.device, stage.augment
    changes = draw_signal_changes(augment, batch.size, generator(*step, CHANGES)).part(batch.places)
    mixtures = generator(*step, MIXTURES + 2 * state.distributed.rank)
    torch.manual_seed(seed_of(*step, DROPOUT + 2 * state.distributed.rank))
    target, n_votes = targets_of(state.data, batch.rows, stage, device)
    cast = torch.from_numpy(vote_shares(state.data.votes[batch.rows])).to(device)
    windows, target, n_votes = mix_windows(change_signals(windows, changes), target, n_votes, augment, mixtures)
    inputs = build_input(windows, state.experiment.input)
    inputs, target, n_votes = mix_images(inputs, target, n_votes, augment, mixtures, cast)
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, state.precision, enabled=state.precision is not None):
        logits = net(inputs)
    losses = row_loss(logits.float(), target, n_votes, stage, at)
    return (losses * torch.from_numpy(batch.counted).to(device)).sum()


def train_epoch(
    net: nn.Module, state: TrainState, samples: Samples, epoch: Epoch, optimizer: ModelOptimizer
) -> Iterator[None]:
    """What is left of one pass over `samples`; yields after every step of the optimizer, when a state may be saved.

    Raises RunError when a loss is not a number or memory does not suffice.
    """
    stage, distributed = state.stages[epoch.stage], state.distributed
    here = (state.seed, epoch.stage, epoch.number)
    n_batches = count_batches(len(samples), stage)
    places = generator(*here, 0, PLACES)
    for batch, windows in read_epoch(state.data, samples, stage, places, distributed, epoch.next_batch):
        net.train()
        at = (epoch.number * n_batches + batch.number) / max(1, stage.epochs * n_batches - 1)  # 1: the last batch
        waits = distributed.size > 1 and not batch.last_of_step  # gradients are averaged once a step
        try:
            with net.no_sync() if waits else nullcontext():
                loss = train_batch(net, batch, windows, state, stage, (*here, batch.number), at)
                # DistributedDataParallel averages over the processes what should be summed.
                optimizer.scaler.scale(loss * (distributed.size / batch.rows_in_step)).backward()
            if batch.last_of_step:
                optimizer.step()
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):  # the CPU's words
                raise
            raise RunError(out_of_memory(epoch.stage, stage, distributed)) from error
        epoch.unread.append((batch, loss.detach()))
        epoch.next_batch = batch.number + 1
        if len(epoch.unread) == LOSSES_AT_ONCE:
            epoch.read_losses(state.data.label_ids)
        if batch.last_of_step:
            yield


def out_of_memory(number: int, stage: Stage, distributed: Distributed) -> str:
    smaller = f"batch_size = {stage.batch_size // 2} and accumulate = {stage.accumulate * 2}"
    halves = f"in training.stages set {smaller} (the same step in two halves), or take"
    return (
        f"stage {number}: a batch of {stage.batch_size} does not fit in the memory of {distributed.device}: "
        f"{halves if stage.batch_size > 1 else 'take'} a smaller backbone or input"
    )


def predict_rows(
    model: nn.Module, data: FoldData, rows: np.ndarray, experiment: Experiment, distributed: Distributed
) -> np.ndarray:
    """Probabilities (rows, 6) of label rows, through the same functions as inference; known to every process."""
    model.eval()
    mine = rows[distributed.rank :: distributed.size]
    batches = data.windows.batches(mine, VALIDATION_BATCH, distributed.device)
    found = [predict(model, build_input(windows, experiment.input)) for _, windows in batches]
    parts = distributed.gather(np.concatenate(found) if found else np.empty((0, 6)))
    whole = np.empty((len(rows), 6))
    for rank, part in enumerate(parts):
        whole[rank :: distributed.size] = part
    return whole
