"""One run over a test set: batch after batch, what it costs, and what is given up when time is short."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import closing

import numpy as np
import torch
from tqdm import tqdm

from common.blend import Blend, combine
from common.records import FIRST_RECORDINGS, another_rate, read_ahead, refuse_systematic, systematic
from common.schema import WINDOW_SAMPLES
from common.tta import PLAIN
from infer.budget import Batch, Budget, Pass, ladder
from infer.ensemble import BuiltInput, Ensemble
from infer.nets import LARGEST_BATCH
from infer.report import SubmissionReport, peak_memory_mb
from infer.samples import Sample

BATCH_SIZE = 16  # EEGs at a time on the CPU; on GPUs as many for each as a net takes at once
FIRST_SHARE = 8  # the first batch is so many times smaller: it warms up, and tells soon what an EEG costs
READING = "reading"  # cost key of waiting for recordings


def batches(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """The first one smaller, the last one as it comes."""
    batch: list[Sample] = []
    wanted = max(size // FIRST_SHARE, 1)
    for sample in samples:
        batch.append(sample)
        if len(batch) == wanted:
            yield batch
            batch, wanted = [], size
    if batch:
        yield batch


class Run:
    """What is to be done, what has been answered, and what it cost.

    answered: eeg_id -> (6,) probabilities, of the EEGs that came to their turn.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        weights: dict[str, float],
        blend: Blend,
        budget: Budget,
        report: SubmissionReport,
        forgiving: bool = False,
    ) -> None:
        self.forgiving = forgiving
        self.first: list[tuple[tuple[str, ...], int | None]] = []  # of the first EEGs: what is structural, samples
        self.ensemble, self.weights, self.blend = ensemble, weights, blend
        self.budget, self.report = budget, report
        views = (PLAIN, *blend.views)
        self.active = {member.looks_at(view) for member in ensemble.members for view in views}
        self.drops = ladder(self.active, blend.views, blend.drop_order(tuple(weights)))
        self.costs: dict[Hashable, float] = defaultdict(float)
        self.answered: dict[int, np.ndarray] = {}
        self.waiting: dict[int, tuple[Sample, dict[str, np.ndarray]]] = {}  # EEGs whose recordings came too late

    def go_through(self, ids: list[int], read: Callable[[int], Sample], progress: Callable[[], None]) -> None:
        """Answer these EEGs, until the time is over; `progress` is called after each batch."""
        size = BATCH_SIZE
        if self.ensemble.devices[0].type == "cuda":
            size = LARGEST_BATCH * len(self.ensemble.devices)
        done, since = 0, self.budget.clock()
        with closing(read_ahead(read, ids, ahead=2 * size)) as samples, tqdm_of(len(ids)) as bar:
            for batch in batches(samples, size):
                self.look_at_first(batch, len(ids))
                self.answer(batch, since)
                done, since = done + len(batch), self.budget.clock()
                self.drop_what_is_too_much(done, len(ids) - done)
                progress()
                bar.update(len(batch))
                if self.budget.is_over():
                    break

    def look_at_first(self, batch: list[Sample], eegs: int) -> None:
        """Whether the first recordings are made as expected. If not, raises SystematicError; forgiving, warns."""
        if len(self.first) >= min(FIRST_RECORDINGS, eegs):
            return
        self.first += [(one.structural, None if one.eeg is None else one.n_time) for one in batch]
        if len(self.first) < min(FIRST_RECORDINGS, eegs):
            return
        read = [n_time for _, n_time in self.first if n_time is not None]
        found = systematic([structural for structural, _ in self.first])
        found += another_rate(read, [WINDOW_SAMPLES] * len(read))
        if not self.forgiving:
            refuse_systematic("the test recordings", found)
        elif found:
            told = "; ".join(found)
            self.report.warn(f"THE TEST RECORDINGS ARE MADE OTHERWISE THAN EXPECTED, answers may mean little: {told}")

    def answer(self, batch: list[Sample], since: float) -> None:
        """Predict a batch. `since`: when the one before was done."""
        began = self.budget.clock()
        predictions, costs = self.ensemble.answer(batch, self.active, self.budget.is_over)
        mixed = combine(predictions, self.weights, self.blend.prior, len(batch), self.blend.log_linear)
        asked = {one.model for one in self.active}  # what was given up for time is said once, not for every EEG
        late = "no time left" if self.budget.is_over() else ""
        for row, sample in enumerate(batch):
            self.answered[sample.eeg_id] = mixed[row]
            said = {name: values[row] for name, values in predictions.items() if name in asked}
            if sample.slow:
                self.waiting[sample.eeg_id] = sample, said
            else:
                self.waiting.pop(sample.eeg_id, None)
                self.report.note_sample(sample, said, late)
        costs[READING] = began - since
        for part, seconds in costs.items():
            self.costs[part] += seconds
        spent = self.budget.clock() - since
        if any(sample.slow for sample in batch):
            # A stall tells nothing of the recordings to come, and nets that are given up would not make up for it.
            spent -= costs.pop(READING)
        self.budget.note(Batch(len(batch), spent, costs))

    def parts(self) -> set[Hashable]:
        """Cost keys of what an EEG goes through."""
        inputs = {BuiltInput(m.seen, one.view) for m in self.ensemble.members for one in self.active if m.makes(one)}
        return {READING} | inputs | self.active

    def drop_what_is_too_much(self, done: int, remaining: int) -> None:
        """Give up passes, in the order of the ladder, until the rest is predicted to be done in time."""
        if not remaining or not self.budget.is_measured():
            return
        while self.drops and (predicted := self.budget.predicted(self.parts(), remaining)) > self.budget.seconds:
            drop = self.drops.pop(0)
            self.active -= drop.passes
            why = f"{predicted / 3600:.3g} h predicted, {self.budget.seconds / 3600:.3g} h allowed"
            self.report.dropped.append(f"{drop.what} after {done} EEGs: {why}")

    def finish(self, ids: list[int]) -> None:
        """Complete the report: EEGs that waited or were not reached, and what all of it took."""
        for sample, said in self.waiting.values():
            self.report.note_sample(sample, said)
        unreached = [eeg_id for eeg_id in ids if eeg_id not in self.answered]
        if unreached:
            allowed = f"{self.budget.seconds / 3600:.3g} h"
            self.report.warn(f"no time left for {len(unreached)} EEGs, which keep the prior: {allowed} were allowed")
            entry = {"answer": "prior", "why": "no time left"}
            self.report.fallbacks += [{"eeg_id": str(eeg_id), **entry} for eeg_id in unreached]
        for label, count in self.ensemble.not_finite.items():
            self.report.warn(f"{label} gave {count} answers that are not finite: they were left out")
        by_models = [self.answered[eeg_id] for eeg_id in ids if eeg_id in self.answered]
        self.report.note_answers(np.array(by_models), self.blend.prior)
        self.note_costs()

    def note_costs(self) -> None:
        stages = {str(part): spent for part, spent in self.costs.items() if isinstance(part, str)}
        models: dict[str, float] = dict.fromkeys(self.weights, 0.0)
        views: dict[str, float] = {str(view): 0.0 for view in (PLAIN, *self.blend.views)}
        stages |= {"inputs": 0.0, "models": 0.0}
        for part, spent in self.costs.items():
            if isinstance(part, Pass | BuiltInput):
                stages["models" if isinstance(part, Pass) else "inputs"] += spent
                views[str(part.view)] += spent
            if isinstance(part, Pass):
                models[part.model] += spent
        total = {"total": round(self.budget.elapsed(), 2)}
        self.report.seconds = total | {"stages": rounded(stages), "models": rounded(models), "views": rounded(views)}
        self.report.memory_mb = {"ram": peak_memory_mb()}
        for device in self.ensemble.devices:
            if device.type == "cuda":
                self.report.memory_mb[str(device)] = round(torch.cuda.max_memory_reserved(device) / 2**20, 1)


def rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {what: round(spent, 2) for what, spent in seconds.items()}


def tqdm_of(eegs: int) -> tqdm:
    return tqdm(total=eegs, desc="predict", unit="EEG", mininterval=5)
