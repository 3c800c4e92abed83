"""Seconds a step and memory of a config's training on this machine.

The engine's own steps are timed on noise that lies on the device, as `run --store-on-gpu` would leave real windows: no
competition is needed, and what a disk adds is not seen.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from common.inputs.base import Windows, needs_eeg, needs_spectrogram, with_constants
from common.models.build import build_model
from common.schema import N_ELECTRODES, N_FREQUENCIES, REGIONS, SPECTROGRAM_COLUMNS, WINDOW_SAMPLES
from train.data.sampling import Sampler, Samples
from train.engine.distributed import Distributed
from train.engine.fold_model import training_constants
from train.engine.loop import VALIDATION_BATCH, predict_rows, train_epoch
from train.engine.optim import ModelOptimizer, make_optimizer, pick_precision
from train.engine.state import Epoch, FoldData, TrainState
from train.experiment import Experiment

NOISE_WINDOWS, MICROVOLTS, VOTES_EACH = 64, 50.0, 12  # windows that are used again and again, their deviation, votes
MORE_WARM_UP = {"cuda": 4, "cpu": 0}  # steps behind the first, which counts activations; a GPU tries algorithms out
KEPT_BYTES, AVERAGED_BYTES = 16, 4  # of a float32 parameter: itself, gradient, AdamW's two means; its average


@dataclass(frozen=True)
class StepTime:
    """A step of the optimiser in one stage."""

    rows: int
    seconds: float
    outside: float  # share of the time that windows, targets, augmentation and model input take
    row_bytes: float  # what the backward pass keeps of a row

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


@dataclass(frozen=True)
class Measurement:
    """Of one config on one device, in a process of its own."""

    device: str
    steps: int  # measured, of each stage
    parameters: int
    peak_bytes: int  # GPU: allocated by torch; CPU: resident, the interpreter and torch included
    step_bytes: int  # at least, of a step with the config's own batch: weights and what backward needs of activations
    times: tuple[StepTime, ...]  # of each stage
    predict_seconds: float  # of a held-out row


class Clock:
    """Moments on the device's own time. A GPU works behind the program: it is asked later, never waited for."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu, self.marks = device.type == "cuda", []

    def mark(self, *_: Any) -> None:
        self.marks.append(torch.cuda.Event(enable_timing=True) if self.on_gpu else time.perf_counter())
        if self.on_gpu:
            self.marks[-1].record()

    def seconds(self) -> list[float]:
        """From each mark to the next."""
        pairs = zip(self.marks, self.marks[1:], strict=False)
        if not self.on_gpu:
            return [after - before for before, after in pairs]
        torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1e3 for before, after in pairs]


class NoiseWindows:
    """Stands for TrainingWindows: the same noise whatever the rows, on the device from the start."""

    def __init__(self, config: Any, device: torch.device) -> None:
        noise = torch.Generator(device).manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(NOISE_WINDOWS, *shape, generator=noise, device=device)

        self.rows = pl.DataFrame({"label_id": np.arange(NOISE_WINDOWS)})
        self.eeg = draw(N_ELECTRODES, WINDOW_SAMPLES) * MICROVOLTS if needs_eeg(config) else None
        panels = (len(REGIONS), N_FREQUENCIES, SPECTROGRAM_COLUMNS)
        self.spectrogram = draw(*panels).exp() if needs_spectrogram(config) else None
        self.before_batch: Callable[[], None] = lambda: None

    def batches(self, rows: np.ndarray, batch_size: int, *_: Any) -> Iterator[tuple[np.ndarray, Windows]]:
        for first in range(0, len(rows), batch_size):
            part = rows[first : first + batch_size]
            self.before_batch()
            yield part, Windows(*(kind if kind is None else kind[part] for kind in (self.eeg, self.spectrogram)))


def with_batch_size(experiment: Experiment, batch_size: int) -> Experiment:
    stages = tuple(stage.model_copy(update={"batch_size": batch_size}) for stage in experiment.training.stages)
    return experiment.model_copy(update={"training": experiment.training.model_copy(update={"stages": stages})})


def prepare(experiment: Experiment, device: torch.device) -> TrainState:
    """A model about to be trained, as train.engine.run begins one, but from random weights and on noise."""
    windows, rows = NoiseWindows(experiment.input, device), np.arange(NOISE_WINDOWS)
    votes = np.random.default_rng(0).multinomial(VOTES_EACH, np.full(6, 1 / 6), NOISE_WINDOWS)
    sampler = Sampler(pl.DataFrame({"eeg_starts": [[0]] * NOISE_WINDOWS}))
    data = FoldData(windows, sampler, votes, rows, rows, pseudo=np.full((NOISE_WINDOWS, 6), 1 / 6))
    torch.manual_seed(0)
    model = build_model(experiment).to(device).to(memory_format=torch.channels_last)
    constants = training_constants(experiment, data)
    seen = experiment.model_copy(update={"input": with_constants(experiment.input, constants)})
    precision = pick_precision(experiment.training.precision, device)
    return TrainState(seen, data, model, Path(), 0, experiment.name, Distributed(0, 1, device), precision)


def train_on(state: TrainState, stage: int, n_rows: int, optimizer: ModelOptimizer) -> None:
    """The engine's own pass over n_rows rows."""
    samples = Samples(np.arange(n_rows) % NOISE_WINDOWS, None)
    for _ in train_epoch(state.model, state, samples, Epoch(stage, 0), optimizer):
        pass


def kept_bytes(model: nn.Module, train: Callable[[], None]) -> int:
    """Bytes that autograd keeps for the backward pass of `train`: without the net's weights, each memory once."""
    sizes = {tensor.untyped_storage().data_ptr(): 0 for tensor in (*model.parameters(), *model.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        sizes.setdefault(tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes())
        return tensor.detach()  # itself would refer to the graph that it is kept by

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        train()
    return sum(sizes.values())


def time_steps(state: TrainState, number: int, steps: int) -> StepTime:
    """A step of a stage. Raises RunError."""
    stage, device, windows = state.stages[number], state.distributed.device, state.data.windows
    rows, warm_up = stage.batch_size * stage.accumulate, MORE_WARM_UP[device.type]
    optimizer = make_optimizer(state.model, stage, 1 + warm_up + steps, state.precision)
    kept = kept_bytes(state.model, lambda: train_on(state, number, stage.batch_size, optimizer))
    train_on(state, number, warm_up * rows, optimizer)
    clock = Clock(device)
    windows.before_batch = clock.mark
    entering = state.model.register_forward_pre_hook(clock.mark)
    train_on(state, number, steps * rows, optimizer)
    clock.mark()
    entering.remove()
    windows.before_batch = lambda: None
    seconds = clock.seconds()  # of each batch: before the net, then the rest
    return StepTime(rows, sum(seconds) / steps, sum(seconds[::2]) / sum(seconds), kept / stage.batch_size)


def time_prediction(state: TrainState, steps: int) -> float:
    """Seconds a held-out row."""
    batch = min(VALIDATION_BATCH, state.stages[0].batch_size)
    rows, clock = np.arange(batch * steps) % NOISE_WINDOWS, Clock(state.distributed.device)
    predict_rows(state.model, state.data, rows[:batch], state.experiment, state.distributed)
    clock.mark()
    predict_rows(state.model, state.data, rows, state.experiment, state.distributed)
    clock.mark()
    return clock.seconds()[0] / len(rows)


def peak_resident() -> int:
    """Bytes. Not what `resource` counts, which starts from the peak of the process that started this one."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def measure_experiment(experiment: Experiment, steps: int, batch_size: int | None, device: torch.device) -> Measurement:
    """Stages whose steps do the same work are measured once.

    Raises ConfigError when the net cannot be built, and RunError as training would.
    """
    state = prepare(with_batch_size(experiment, batch_size) if batch_size else experiment, device)
    works = [
        s.model_dump_json(include={"augment", "batch_size", "accumulate", "clip_norm", "ema"}) for s in state.stages
    ]
    known = {work: time_steps(state, works.index(work), steps) for work in dict.fromkeys(works)}
    times = tuple(known[work] for work in works)
    parameters = sum(weights.numel() for weights in state.model.parameters())
    step_bytes = [
        (KEPT_BYTES + AVERAGED_BYTES * bool(stage.ema)) * parameters + taken.row_bytes * stage.batch_size
        for stage, taken in zip(experiment.training.stages, times, strict=True)
    ]
    predict_seconds = time_prediction(state, steps)
    on_gpu, threads = device.type == "cuda", torch.get_num_threads()
    return Measurement(
        device=torch.cuda.get_device_name() if on_gpu else f"a CPU with {threads} thread{'s' * (threads > 1)}",
        steps=steps,
        parameters=parameters,
        peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else peak_resident(),
        step_bytes=round(max(step_bytes)),
        times=times,
        predict_seconds=predict_seconds,
    )
