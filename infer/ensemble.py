"""All models on all devices: which nets there are, and what they say of a batch of recordings."""

import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.features import Windows, build_input
from common.inputs import needs_eeg, needs_spectrogram
from common.predict import seen_as
from common.schema import PATTERNS
from common.tta import PLAIN, View
from common.weights import ModelFolds
from infer.budget import Pass
from infer.nets import Net
from infer.samples import Sample


@dataclass(frozen=True)
class Member:
    """One fold's net as it was loaded, on the CPU, and the input that it sees."""

    model_name: str
    file: str
    fold: int | None
    seed: int
    net: nn.Module
    seen: Any

    @property
    def label(self) -> str:
        return f"{self.model_name}/{self.file}"

    def looks_at(self, view: View) -> Pass:
        return Pass(self.model_name, self.fold, self.seed, view)

    def makes(self, one: Pass) -> bool:
        return self.looks_at(one.view) == one


def members_of(models: Iterable[ModelFolds]) -> list[Member]:
    return [
        Member(model.experiment.name, entry.file, entry.fold, entry.seed, net, seen)
        for model in models
        for entry, net, seen in zip(model.entries, model.models, model.inputs, strict=True)
    ]


@dataclass(frozen=True)
class BuiltInput:
    """The cost key of a model input: made once, for all nets that want it."""

    seen: Any
    view: View


class RawBatch:
    """Recordings of a batch, brought to a device once for all inputs that are made of them."""

    def __init__(self, samples: list[Sample], device: torch.device) -> None:
        self.samples, self.device = samples, device
        self.known: dict[tuple[bool, bool], tuple[list[int], Windows]] = {}

    def windows(self, config: Any) -> tuple[list[int], Windows]:
        """Rows whose recordings the input can be made of, and those recordings."""
        eegs, spectrograms = needs_eeg(config), needs_spectrogram(config)
        if (eegs, spectrograms) not in self.known:
            rows = [
                row
                for row, sample in enumerate(self.samples)
                if not (eegs and sample.eeg is None) and not (spectrograms and sample.spectrogram is None)
            ]
            eeg = self.stacked([self.samples[row].eeg for row in rows]) if eegs else None
            spectrogram = self.stacked([self.samples[row].spectrogram for row in rows]) if spectrograms else None
            self.known[eegs, spectrograms] = rows, Windows(eeg, spectrogram)
        return self.known[eegs, spectrograms]

    def stacked(self, recordings: list[Any]) -> Tensor | None:
        return torch.from_numpy(np.stack(recordings)).to(self.device) if recordings else None


class DeviceError(RuntimeError):
    """A GPU's library failed; whether the GPU or the net is at fault shows on the CPU."""


class Ensemble:
    """The nets of `members`, all of them on each device; `say` is told each surprise.

    Strict, every error raises. Forgiving, a net that fails is left out from then on, and when a device fails all
    goes on on the CPU; both are said.
    """

    def __init__(
        self,
        members: list[Member],
        devices: list[torch.device],
        say: Callable[[str], None],
        forgiving: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members, self.say, self.forgiving, self.clock = members, say, forgiving, clock
        self.failed: set[str] = set()  # labels of nets that are left out
        self.not_finite: Counter[str] = Counter()  # label -> answers that were no numbers
        self.at_once = sys.maxsize  # recordings whose inputs fit into a GPU's memory together
        self.lock = threading.Lock()
        try:
            self.use(devices)
        except RuntimeError as error:
            self.go_on_without_gpu(error)

    def go_on_without_gpu(self, error: RuntimeError) -> None:
        """All nets on the CPU; the error again where that is not forgiven."""
        if not self.forgiving:
            raise error
        self.say(f"the GPU failed, all goes on on the CPU: {str(error).splitlines()[0]}")
        self.use([torch.device("cpu")])

    def use(self, devices: list[torch.device]) -> None:
        """Put every net on every device. A GPU gets a copy, so that what was loaded survives the GPU."""
        self.devices = devices
        self.nets = [
            [
                Net(member.label, member.net if device.type == "cpu" else deepcopy(member.net), device, self.say)
                for member in self.members
            ]
            for device in devices
        ]

    def answer(
        self, samples: list[Sample], active: set[Pass], is_over: Callable[[], bool]
    ) -> tuple[dict[str, np.ndarray], dict[Hashable, float]]:
        """Mean over the active passes of each model, (batch, 6), and the seconds of each part.

        NaN where a model's input could not be read, or no pass of it was made before the time was over.
        """
        try:
            return self.answer_on_devices(samples, active, is_over)
        except (torch.AcceleratorError, torch.OutOfMemoryError, DeviceError) as error:
            self.go_on_without_gpu(error)
            return self.answer_on_devices(samples, active, is_over)

    def answer_on_devices(
        self, samples: list[Sample], active: set[Pass], is_over: Callable[[], bool]
    ) -> tuple[dict[str, np.ndarray], dict[Hashable, float]]:
        """Each device gets an equal part of the batch; what it says depends on no other row."""
        size = -(-len(samples) // len(self.devices))
        parts = [samples[start : start + size] for start in range(0, len(samples), size)]
        if len(parts) == 1:
            return self.answer_on(0, samples, active, is_over)
        with ThreadPoolExecutor(len(parts)) as pool:
            jobs = [pool.submit(self.answer_on, k, part, active, is_over) for k, part in enumerate(parts)]
            return joined([job.result() for job in jobs])

    def answer_on(
        self, number: int, samples: list[Sample], active: set[Pass], is_over: Callable[[], bool]
    ) -> tuple[dict[str, np.ndarray], dict[Hashable, float]]:
        """One device's part, in halves where the inputs of all of it are too much for its memory."""
        while True:
            size = min(self.at_once, len(samples))
            chunks = [samples[start : start + size] for start in range(0, len(samples), size)]
            try:
                return joined([self.answer_at_once(number, chunk, active, is_over) for chunk in chunks])
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                torch.cuda.empty_cache()
                self.at_once = size // 2
                self.say(f"inputs of {size} EEGs at once are too many for {self.devices[number]}, half are tried")

    def answer_at_once(
        self, number: int, samples: list[Sample], active: set[Pass], is_over: Callable[[], bool]
    ) -> tuple[dict[str, np.ndarray], dict[Hashable, float]]:
        """Each distinct input of each view is built once and shown to all nets that want it."""
        device = self.devices[number]
        costs: dict[Hashable, float] = {}
        raw = RawBatch(samples, device)
        said: dict[str, list[np.ndarray]] = {member.model_name: [] for member in self.members}
        for built, wanted in self.by_input(active).items():
            rows, windows = raw.windows(built.seen)
            if not rows or is_over():
                continue
            begun = self.clock()
            rows, inputs = self.build(rows, windows, built)
            if inputs is None:
                continue
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            costs[built] = self.clock() - begun
            for place in wanted:
                member = self.members[place]
                if is_over():
                    break
                begun = self.clock()
                answer = self.ask(self.nets[number][place], inputs)
                costs[member.looks_at(built.view)] = self.clock() - begun
                if answer is not None:
                    whole = np.full((len(samples), len(PATTERNS)), np.nan)
                    whole[rows] = answer
                    said[member.model_name].append(whole)
        nothing = np.full((len(samples), len(PATTERNS)), np.nan)
        return {name: mean_of(answers) if answers else nothing for name, answers in said.items()}, costs

    def build(self, rows: list[int], windows: Windows, built: BuiltInput) -> tuple[list[int], Tensor | None]:
        """The input, and the rows that it could be made of: where it fails for all at once, each is tried alone."""
        try:
            return rows, build_input(seen_as(windows, built.view), built.seen)
        except (torch.AcceleratorError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if not self.forgiving:
                raise
            self.say(f"an input of {type(built.seen).__name__} could not be made: {type(error).__name__}: {error}")
        if len(rows) == 1:
            return [], None
        made: list[tuple[int, Tensor]] = []
        for place, row in enumerate(rows):
            one = (
                None if values is None else values[place : place + 1] for values in (windows.eeg, windows.spectrogram)
            )
            _, inputs = self.build([row], Windows(*one), built)
            made += [] if inputs is None else [(row, inputs)]
        return [row for row, _ in made], torch.cat([inputs for _, inputs in made]) if made else None

    def by_input(self, active: set[Pass]) -> dict[BuiltInput, list[int]]:
        """Distinct inputs, the plain view's first, with the places of the members that want each."""
        views = sorted({one.view for one in active}, key=lambda view: (view != PLAIN, str(view)))
        found: dict[BuiltInput, list[int]] = {}
        for view in views:
            for place, member in enumerate(self.members):
                if member.looks_at(view) in active and member.label not in self.failed:
                    found.setdefault(BuiltInput(member.seen, view), []).append(place)
        return found

    def ask(self, net: Net, inputs: Tensor) -> np.ndarray | None:
        """The net's answer; None when it failed and that is forgiven. An answer that is not finite is NaN."""
        try:
            answer = net.answer(inputs)
        except torch.AcceleratorError:
            raise
        except Exception as error:  # whatever it is: the other nets can still answer, and this one is named
            if not self.forgiving:
                raise
            if net.device.type == "cuda" and isinstance(error, RuntimeError):
                raise DeviceError(str(error)) from error
            with self.lock:
                if net.label not in self.failed:
                    self.failed.add(net.label)
                    self.say(f"{net.label} is left out, it failed: {type(error).__name__}: {error}")
            return None
        finite = np.isfinite(answer).all(axis=1)
        if not finite.all():
            with self.lock:
                self.not_finite[net.label] += int((~finite).sum())
            answer[~finite] = np.nan
        return answer


def joined(
    parts: list[tuple[dict[str, np.ndarray], dict[Hashable, float]]],
) -> tuple[dict[str, np.ndarray], dict[Hashable, float]]:
    """Answers of parts of a batch one after the other, and what they took in all."""
    costs: dict[Hashable, float] = defaultdict(float)
    for _, spent in parts:
        for part, seconds in spent.items():
            costs[part] += seconds
    return {name: np.concatenate([means[name] for means, _ in parts]) for name in parts[0][0]}, dict(costs)


def mean_of(answers: list[np.ndarray]) -> np.ndarray:
    """Mean of (rows, 6) each, over those that answered a row; NaN where none did."""
    stacked = np.stack(answers)
    there = np.isfinite(stacked).all(axis=2)  # (answers, rows)
    if there.all():
        return stacked.mean(axis=0)
    counted = there.sum(axis=0)[:, None]
    total = np.where(there[..., None], stacked, 0.0).sum(axis=0)
    return np.divide(total, counted, out=np.full_like(total, np.nan), where=counted > 0)
