"""All models on all devices: which nets there are, and what they predict for a batch of recordings."""

import functools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.inputs.base import Windows, needs_eeg, needs_spectrogram
from common.inputs.build import build_input
from common.predict import seen_as
from common.schema import PATTERNS
from common.tta import PLAIN, View
from common.weights import FoldEntry, ModelFolds
from infer.budget import Budget, Pass
from infer.net import Net
from infer.recordings import RowRecordings

Predictions = dict[str, np.ndarray]  # model -> (rows, 6), NaN in rows that it gives no answer to
Costs = dict[Hashable, float]  # seconds of each part


@dataclass(frozen=True)
class LoadedFold:
    """One fold's net as it was loaded, on the CPU, and the input that it wants."""

    model_name: str
    entry: FoldEntry
    net: nn.Module
    input_config: Any

    @property
    def label(self) -> str:
        return f"{self.model_name}/{self.entry.file}"

    def on_view(self, view: View) -> Pass:
        return Pass(self.model_name, self.entry.fold, self.entry.seed, view)


def loaded_folds(models: Iterable[ModelFolds]) -> list[LoadedFold]:
    return [
        LoadedFold(model.experiment.name, *parts)
        for model in models
        for parts in zip(model.entries, model.models, model.inputs, strict=True)
    ]


@dataclass(frozen=True)
class BuiltInput:
    """The cost key of a model input: built once, for all nets that want it."""

    input_config: Any
    view: View


def stacked(
    batch: list[RowRecordings], eegs: bool, spectrograms: bool, device: torch.device
) -> tuple[list[int], Windows]:
    """Rows that have the recordings asked for, and those recordings on the device."""
    rows = [
        number
        for number, row in enumerate(batch)
        if not (eegs and row.eeg is None) and not (spectrograms and row.spectrogram is None)
    ]

    def stack(recordings: list[Any]) -> Tensor | None:
        return torch.from_numpy(np.stack(recordings)).to(device) if recordings else None

    eeg = stack([batch[row].eeg for row in rows if eegs])
    return rows, Windows(eeg, stack([batch[row].spectrogram for row in rows if spectrograms]))


class Ensemble:
    """The nets of these folds, all of them on each device.

    Strict, every error raises. Forgiving, a net that fails is left out from then on, and when a device fails all
    goes on on the CPU; `warn` gets both.
    """

    def __init__(
        self,
        folds: list[LoadedFold],
        devices: list[torch.device],
        budget: Budget,
        warn: Callable[[str], None],
        forgiving: bool = False,
    ) -> None:
        self.folds, self.budget, self.warn, self.forgiving = folds, budget, warn, forgiving
        self.failed: set[str] = set()  # labels of nets that are left out
        try:
            self.put_on(devices)
        except RuntimeError as error:
            self.go_on_without_gpu(error)

    def go_on_without_gpu(self, error: RuntimeError) -> None:
        """All nets on the CPU; the error again where that is not forgiven."""
        if not self.forgiving:
            raise error
        self.warn(f"the GPU failed, all goes on on the CPU: {str(error).splitlines()[0]}")
        self.put_on([torch.device("cpu")])

    def put_on(self, devices: list[torch.device]) -> None:
        """Every net on every device. A GPU gets a copy, so that what was loaded survives the GPU."""
        self.devices = devices
        self.nets = [
            [
                Net(fold.label, fold.net if device.type == "cpu" else deepcopy(fold.net), device, self.warn)
                for fold in self.folds
            ]
            for device in devices
        ]

    def predict_batch(self, batch: list[RowRecordings], active: set[Pass]) -> tuple[Predictions, Costs]:
        """Mean over the active passes of each model, and the seconds of each part.

        NaN where a model's input could not be read, or no pass of it was made before the time was over. Each device
        gets an equal part of the batch; what is predicted of a row depends on no other row.
        """
        size = -(-len(batch) // len(self.devices))
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        try:
            if len(parts) == 1:
                return self.predict_on_device(0, batch, active)
            with ThreadPoolExecutor(len(parts)) as pool:
                jobs = [pool.submit(self.predict_on_device, k, part, active) for k, part in enumerate(parts)]
                return joined([job.result() for job in jobs])
        except RuntimeError as error:
            self.go_on_without_gpu(error)
            return self.predict_on_device(0, batch, active)

    def predict_on_device(self, number: int, part: list[RowRecordings], active: set[Pass]) -> tuple[Predictions, Costs]:
        """In halves where the inputs of the whole part are too much for the device's memory."""
        try:
            return self.predict_at_once(number, part, active)
        except torch.OutOfMemoryError:
            if len(part) == 1:
                raise
        torch.cuda.empty_cache()
        self.warn(f"inputs of {len(part)} EEGs at once are too many for {self.devices[number]}, half are tried")
        half = len(part) // 2
        return joined([self.predict_on_device(number, some, active) for some in (part[:half], part[half:])])

    def predict_at_once(self, number: int, part: list[RowRecordings], active: set[Pass]) -> tuple[Predictions, Costs]:
        """Each distinct input of each view is built once and given to all nets that want it."""
        device, clock = self.devices[number], self.budget.clock
        costs: Costs = {}
        raw = functools.cache(lambda eegs, spectrograms: stacked(part, eegs, spectrograms, device))
        totals = {fold.model_name: np.zeros((len(part), len(PATTERNS))) for fold in self.folds}
        counts = {name: np.zeros((len(part), 1)) for name in totals}
        for built, wanted in self.by_input(active).items():
            rows, windows = raw(needs_eeg(built.input_config), needs_spectrogram(built.input_config))
            if not rows or self.budget.is_over():
                continue
            begun = clock()
            inputs = self.build(windows, built)
            if inputs is None:
                continue
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            costs[built] = clock() - begun
            for place in wanted:
                if self.budget.is_over():
                    break
                begun, fold = clock(), self.folds[place]
                answer, finite = self.probabilities_of(self.nets[number][place], inputs)
                costs[fold.on_view(built.view)] = clock() - begun
                totals[fold.model_name][rows] += answer
                counts[fold.model_name][rows] += finite
        with np.errstate(invalid="ignore"):
            return {name: total / counts[name] for name, total in totals.items()}, costs

    def by_input(self, active: set[Pass]) -> dict[BuiltInput, list[int]]:
        """Distinct inputs, the plain view's first, with the places of the folds that want each."""
        views = sorted({one.view for one in active}, key=lambda view: (view != PLAIN, str(view)))
        found: dict[BuiltInput, list[int]] = {}
        for view in views:
            for place, fold in enumerate(self.folds):
                if fold.on_view(view) in active and fold.label not in self.failed:
                    found.setdefault(BuiltInput(fold.input_config, view), []).append(place)
        return found

    def build(self, windows: Windows, built: BuiltInput) -> Tensor | None:
        """The input; None where it could not be made and that is forgiven: the other inputs may be sound."""
        try:
            return build_input(seen_as(windows, built.view), built.input_config)
        except (torch.AcceleratorError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if not self.forgiving:
                raise
            kind = type(built.input_config).__name__
            self.warn(f"an input of {kind} could not be made: {type(error).__name__}: {error}")
            return None

    def probabilities_of(self, net: Net, inputs: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The net's probabilities, 0 in rows that it gives no finite ones for, and whether it does, (windows, 1)."""
        try:
            answer = net.probabilities(inputs)
        except Exception as error:  # whatever it is: the other nets can still answer, and this one is named
            on_gpu = net.device.type == "cuda" and isinstance(error, RuntimeError)
            if on_gpu or not self.forgiving:  # whether a GPU or the net is at fault shows on the CPU
                raise
            self.failed.add(net.label)
            self.warn(f"{net.label} is left out, it failed: {type(error).__name__}: {error}")
            return np.zeros((len(inputs), len(PATTERNS))), np.zeros((len(inputs), 1), dtype=bool)
        finite = np.isfinite(answer).all(axis=1, keepdims=True)
        if not finite.all():
            self.warn(f"{net.label} gave answers that are not finite: they were left out")
        return np.where(finite, answer, 0.0), finite


def joined(parts: list[tuple[Predictions, Costs]]) -> tuple[Predictions, Costs]:
    """Predictions of parts of a batch one after the other, and what they took in all."""
    costs: Costs = defaultdict(float)
    for _, spent in parts:
        for part, seconds in spent.items():
            costs[part] += seconds
    return {name: np.concatenate([means[name] for means, _ in parts]) for name in parts[0][0]}, dict(costs)
