"""What a model in training consists of: its data, its net, how far it has come."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from train.data.labels import select_rows
from train.data.sampling import Sampler
from train.data.windows import TrainingWindows
from train.engine.distributed import Distributed
from train.engine.run_folder import RunError
from train.experiment import Experiment, Stage


@dataclass(frozen=True)
class FoldData:
    """What training a model needs to know of the label rows. votes: (rows, 6), as counts."""

    windows: TrainingWindows
    sampler: Sampler
    votes: np.ndarray
    train: np.ndarray  # row numbers
    validation: np.ndarray  # row numbers; none for the full fit
    pseudo: np.ndarray | None = None  # (rows, 6) probabilities, NaN for rows without (train/engine/pseudo_labels.py)

    @property
    def label_ids(self) -> np.ndarray:
        return self.windows.rows["label_id"].to_numpy()


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

        Raises RunError naming the first batch whose loss is not a number.
        """
        values = torch.stack([loss for _, loss in self.unread]).tolist() if self.unread else []
        for (batch, _), value in zip(self.unread, values, strict=True):
            if not np.isfinite(value):
                raise RunError(
                    f"stage {self.stage}, epoch {self.number}, batch {batch.number}: the loss is {value} in the batch "
                    f"with label_id {label_ids[batch.rows[batch.counted > 0]].tolist()}: lower learning_rate, set "
                    "clip_norm, or look at these windows (python -m train show)"
                )
            self.loss += value
            self.rows += int(batch.counted.sum())
        self.unread.clear()


class Selection:
    """When the rows held out are scored, and which score is the best. The published runs had another one
    (train/engine/published.py)."""

    passes = 1  # over the rows held out, in an epoch

    def scores_after(self, batches: int, n_batches: int) -> bool:
        """Whether to score after so many batches of an epoch of n_batches."""
        return batches == n_batches

    def score(self, state: "TrainState", model: nn.Module, epoch: Epoch, kl: np.ndarray) -> float:
        """From the KL of each row held out: the mean over those that the stage would train on, or over all."""
        own = select_rows(state.data.votes[state.data.validation], state.stages[epoch.stage].rows)
        return float((kl[own] if own.any() else kl).mean())

    def is_best(self, state: "TrainState", epoch: Epoch, score: float) -> bool:
        return score < state.best


@dataclass
class TrainState:
    """A model in training, and where it stands."""

    experiment: Experiment  # its input with the constants measured on the training rows
    data: FoldData
    model: nn.Module
    folder: Path
    seed: int
    title: str
    distributed: Distributed
    precision: torch.dtype | None
    selection: Selection = field(default_factory=Selection)
    board: Any = None  # a TensorBoard writer
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float = float("inf")
    saved: float = field(default_factory=time.monotonic)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.experiment.training.stages

    def rows_of(self, number: int) -> np.ndarray:
        """The training rows of a stage. Raises RunError."""
        return stage_rows(self.data.votes, self.data.train, self.stages[number], self.title)

    def batches_of(self, number: int) -> int:
        """Batches in an epoch of a stage."""
        return count_batches(self.data.sampler.count(self.rows_of(number)), self.stages[number])

    def first_stage(self, number: int) -> int:
        """The stage whose optimizer is at work in stage `number`."""
        while self.stages[number].carry_on:
            number -= 1
        return number

    def steps_from(self, number: int) -> int:
        """Steps of the optimizer that starts at a stage: those of this stage and of the stages that carry on."""
        stages = [k for k in range(number, len(self.stages)) if self.first_stage(k) == number]
        return sum(count_steps(self.data.sampler.count(self.rows_of(k)), self.stages[k]) for k in stages)


def stage_rows(votes: np.ndarray, train: np.ndarray, stage: Stage, title: str) -> np.ndarray:
    """Those of the training rows that a stage wants. Raises RunError when there are none."""
    rows = train[select_rows(votes[train], stage.rows)]
    if not len(rows):
        wanted = stage.rows.model_dump(exclude_defaults=True)
        raise RunError(f"{title}: not one of {len(train)} training rows is what a stage asks for: rows {wanted}")
    return rows


def count_batches(n_samples: int, stage: Stage) -> int:
    return -(-n_samples // stage.batch_size)


def count_steps(n_samples: int, stage: Stage) -> int:
    """Steps of the optimizer in a stage."""
    return stage.epochs * -(-count_batches(n_samples, stage) // stage.accumulate)
