"""What a config's training costs on this machine: the engine's own steps on made-up windows, timed.

No competition is needed. The raw windows are noise that lies on the device, as `run --store-on-gpu` would leave
real ones; what a disk adds is not seen, and weights start from random.
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

from common.errors import KitError
from common.features import Windows, with_constants
from common.inputs import needs_eeg, needs_spectrogram
from common.models.build import build_model
from common.schema import N_ELECTRODES, N_FREQUENCIES, REGIONS, SPECTROGRAM_COLUMNS, WINDOW_SAMPLES
from train.engine.distributed import Distributed
from train.engine.fold_model import training_constants
from train.engine.loop import VALIDATION_BATCH, predict_rows, train_epoch
from train.engine.optim import ModelOptimizer, make_optimizer, pick_precision
from train.engine.state import Epoch, FoldData, TrainState
from train.experiment import Experiment
from train.sampling import Sampler, Samples

NOISE_WINDOWS = 64  # different ones, used again and again
MICROVOLTS = 50.0  # their deviation
VOTES_EACH = 12
MORE_WARM_UP = {"cuda": 4, "cpu": 0}  # steps behind the first, which counts activations; a GPU tries algorithms out
KEPT_BYTES = 16  # of a parameter in float32: itself, its gradient and AdamW's two means
AVERAGED_BYTES = 4  # more where weights are averaged


class MeasureError(KitError):
    """A config that could not be measured. The message says why."""


@dataclass(frozen=True)
class StepTime:
    """A step of the optimiser in the stages that take such steps; `outside`: share of its time before the net."""

    stages: tuple[int, ...]
    rows: int
    seconds: float
    outside: float  # windows, targets, augmentation and model input

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


@dataclass(frozen=True)
class Measurement:
    """Of one config on one device, in a process of its own."""

    device: str
    steps: int  # measured, of each kind
    parameters: int
    peak_bytes: int  # GPU: allocated by torch; CPU: resident, the interpreter and torch included
    step_bytes: int  # at least, of a step with the config's own batch: weights and what backward needs of activations
    times: tuple[StepTime, ...]
    predict_seconds: float  # of a held-out row

    def time_of(self, stage: int) -> StepTime:
        return next(time for time in self.times if stage in time.stages)


class Clock:
    """Moments on the device's own time. A GPU works behind the program: it is asked later, never waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[Any] = []

    def mark(self, *_: Any) -> None:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """From each mark to the next."""
        pairs = zip(self.marks, self.marks[1:], strict=False)
        if self.device.type != "cuda":
            return [after - before for before, after in pairs]
        torch.cuda.synchronize(self.device)
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

    def batches(
        self, rows: np.ndarray, batch_size: int, device: torch.device, *_: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, Windows]]:
        for first in range(0, len(rows), batch_size):
            part = rows[first : first + batch_size]
            self.before_batch()
            kinds = (self.eeg, self.spectrogram)
            yield part, Windows(*(None if k is None else k[torch.as_tensor(part)].to(device) for k in kinds))


# ---- one config


def with_batch_size(experiment: Experiment, batch_size: int | None) -> Experiment:
    """The experiment with all its stages' batches of that size, None for their own."""
    if batch_size is None:
        return experiment
    stages = [stage.model_copy(update={"batch_size": batch_size}) for stage in experiment.training.stages]
    training = experiment.training.model_copy(update={"stages": tuple(stages)})
    return experiment.model_copy(update={"training": training})


def prepare(experiment: Experiment, device: torch.device) -> TrainState:
    """A model about to be trained, as train.engine.run begins one, but from random weights and on noise."""
    windows = NoiseWindows(experiment.input, device)
    rows = np.arange(NOISE_WINDOWS)
    votes = np.random.default_rng(0).multinomial(VOTES_EACH, np.full(6, 1 / 6), NOISE_WINDOWS)
    sampler = Sampler(pl.DataFrame({"eeg_starts": [[0]] * NOISE_WINDOWS}))
    data = FoldData(windows, sampler, votes, rows, rows, pseudo=np.full((NOISE_WINDOWS, 6), 1 / 6))
    torch.manual_seed(0)
    model = build_model(experiment)
    constants = training_constants(experiment, data)
    seen = experiment.model_copy(update={"input": with_constants(experiment.input, constants)})
    model = model.to(device).to(memory_format=torch.channels_last)
    precision = pick_precision(experiment.training.precision, device)
    return TrainState(seen, data, model, Path(), 0, experiment.name, Distributed(0, 1, device), precision)


def step_kinds(experiment: Experiment) -> list[tuple[int, ...]]:
    """Stages whose steps do the same work, together."""
    kinds: dict[str, list[int]] = {}
    for number, stage in enumerate(experiment.training.stages):
        work = stage.model_dump_json(include={"augment", "batch_size", "accumulate", "clip_norm", "ema"})
        kinds.setdefault(work, []).append(number)
    return [tuple(stages) for stages in kinds.values()]


def train_on(fit: TrainState, stage: int, n_rows: int, tools: ModelOptimizer) -> None:
    """The engine's own pass over n_rows rows."""
    samples = Samples(np.arange(n_rows) % NOISE_WINDOWS, None)
    for _ in train_epoch(fit.model, fit, samples, Epoch(stage, 0), tools):
        pass


class SavedBytes:
    """Bytes that autograd keeps for the backward pass, without the net's own weights and each memory once."""

    def __init__(self, model: nn.Module) -> None:
        self.known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
        self.bytes = 0

    def keep(self, tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in self.known:
            self.known.add(memory.data_ptr())
            self.bytes += memory.nbytes()
        return tensor.detach()  # itself would refer to the graph that it is kept by


def activation_bytes(fit: TrainState, number: int, tools: ModelOptimizer) -> float:
    """Bytes a row of one batch, which is trained on."""
    saved, rows = SavedBytes(fit.model), fit.stages[number].batch_size
    with torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda tensor: tensor):
        train_on(fit, number, rows, tools)
    return saved.bytes / rows


def time_steps(fit: TrainState, kind: tuple[int, ...], steps: int) -> tuple[StepTime, float]:
    """A kind of step, and the bytes of activations that a row of it takes. Raises TrainingError."""
    number, device, windows = kind[0], fit.distributed.device, fit.data.windows
    rows = fit.stages[number].batch_size * fit.stages[number].accumulate
    warm_up = MORE_WARM_UP[device.type]
    tools = make_optimizer(fit.model, fit.stages[number], 1 + warm_up + steps, fit.precision)
    activations = activation_bytes(fit, number, tools)
    train_on(fit, number, warm_up * rows, tools)
    clock = Clock(device)
    windows.before_batch = clock.mark
    entering = fit.model.register_forward_pre_hook(clock.mark)
    train_on(fit, number, steps * rows, tools)
    clock.mark()
    entering.remove()
    windows.before_batch = lambda: None
    seconds = clock.seconds()  # of each batch: before the net, then the rest
    return StepTime(kind, rows, sum(seconds) / steps, sum(seconds[::2]) / sum(seconds)), activations


def time_prediction(fit: TrainState, steps: int) -> float:
    """Seconds a held-out row."""
    batch = min(VALIDATION_BATCH, fit.stages[0].batch_size)
    rows = np.arange(batch * steps) % NOISE_WINDOWS
    clock = Clock(fit.distributed.device)
    predict_rows(fit.model, fit.data, rows[:batch], fit.experiment, fit.distributed)
    clock.mark()
    predict_rows(fit.model, fit.data, rows, fit.experiment, fit.distributed)
    clock.mark()
    return clock.seconds()[0] / len(rows)


def peak_bytes(device: torch.device) -> int:
    """Most memory this process has had: on a GPU what torch allocated there, else what was resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"a CPU with {threads} thread{'s' * (threads > 1)}"


def measure_experiment(experiment: Experiment, steps: int, batch_size: int | None, device: torch.device) -> Measurement:
    """Raises ConfigError when the net cannot be built, and TrainingError as training would."""
    fit = prepare(with_batch_size(experiment, batch_size), device)
    parameters = sum(weights.numel() for weights in fit.model.parameters())
    times, step_bytes = [], 0
    for kind in step_kinds(fit.experiment):
        timed, activations = time_steps(fit, kind, steps)
        times.append(timed)
        for stage in (experiment.training.stages[number] for number in kind):
            kept = KEPT_BYTES + (AVERAGED_BYTES if stage.ema else 0)
            step_bytes = max(step_bytes, round(kept * parameters + activations * stage.batch_size))
    predicting = time_prediction(fit, steps)
    return Measurement(device_name(device), steps, parameters, peak_bytes(device), step_bytes, tuple(times), predicting)
