"""One run over a test set: batch after batch, what it costs, and what is given up when time is short."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import numpy as np
import torch
from tqdm import tqdm

from common.blend import Blend, combine
from common.parallel import read_ahead
from common.schema import WINDOW_SAMPLES
from common.systematic import FIRST_RECORDINGS, another_rate, refuse_systematic, systematic
from common.tta import PLAIN
from infer.budget import Batch, Pass, steps_to_give_up
from infer.ensemble import BuiltInput, Costs, Ensemble, Predictions
from infer.net import LARGEST_BATCH
from infer.recordings import RowRecordings
from infer.report import SubmissionReport, peak_memory_mb

BATCH_SIZE = 16  # EEGs at a time on the CPU; on GPUs as many for each as a net takes at once
FIRST_SHARE = 8  # the first batch is so many times smaller: it warms up, and shows soon what an EEG costs
READING = "reading"  # cost key of waiting for recordings


def batches(rows: Iterable[RowRecordings], size: int) -> Iterator[list[RowRecordings]]:
    """The first one smaller, the last one as it comes."""
    batch: list[RowRecordings] = []
    wanted = max(size // FIRST_SHARE, 1)
    for row in rows:
        batch.append(row)
        if len(batch) == wanted:
            yield batch
            batch, wanted = [], size
    if batch:
        yield batch


class Runner:
    """What is to be done, what has been predicted, and what it cost.

    predicted: eeg_id -> (6,) probabilities, of the EEGs that had their turn.
    """

    def __init__(self, ensemble: Ensemble, weights: dict[str, float], blend: Blend, report: SubmissionReport) -> None:
        self.ensemble, self.weights, self.blend, self.report = ensemble, weights, blend, report
        self.budget = ensemble.budget
        self.active = {fold.on_view(view) for fold in ensemble.folds for view in (PLAIN, *blend.views)}
        self.steps = list(steps_to_give_up(self.active, blend.views, blend.drop_order(tuple(weights))).items())
        self.costs: Costs = defaultdict(float)
        self.first: list[tuple[list[str], int | None]] = []  # of the first EEGs: structural findings, samples
        self.predicted: dict[int, np.ndarray] = {}
        self.waiting: dict[int, tuple[RowRecordings, Predictions]] = {}  # EEGs whose recordings came too late

    def run(self, ids: list[int], read: Callable[[int], RowRecordings], save: Callable[[], None]) -> None:
        """Predict these EEGs, those whose recordings came too late at the end once more, and complete the report."""
        self.predict_all(ids, read, save)
        if self.waiting and not self.budget.is_over():
            self.report.warn(f"{len(self.waiting)} EEGs were not read in time and are read once more")
            self.predict_all(list(self.waiting), read, save)
        self.finish(ids)

    def predict_all(self, ids: list[int], read: Callable[[int], RowRecordings], save: Callable[[], None]) -> None:
        """Until the time is over; save() after each batch."""
        size = BATCH_SIZE
        if self.ensemble.devices[0].type == "cuda":
            size = LARGEST_BATCH * len(self.ensemble.devices)
        done, since = 0, self.budget.clock()
        bar = tqdm(total=len(ids), desc="predict", unit="EEG", mininterval=5)
        with closing(read_ahead(read, ids, ahead=2 * size)) as rows, bar:
            for batch in batches(rows, size):
                self.look_at_first(batch, len(ids))
                self.predict_batch(batch, since)
                done, since = done + len(batch), self.budget.clock()
                self.give_up_what_is_too_much(done, len(ids) - done)
                save()
                bar.update(len(batch))
                if self.budget.is_over():
                    break

    def look_at_first(self, batch: list[RowRecordings], eegs: int) -> None:
        """Whether the first recordings are made as expected. If not, raises SystematicError; forgiving, warns."""
        wanted = min(FIRST_RECORDINGS, eegs)
        if len(self.first) >= wanted:
            return
        self.first += [(row.structural, row.n_time) for row in batch]
        if len(self.first) < wanted:
            return
        lengths = [n_time for _, n_time in self.first if n_time is not None]
        found = systematic([structural for structural, _ in self.first])
        found += another_rate(lengths, [WINDOW_SAMPLES] * len(lengths))
        if not self.ensemble.forgiving:
            refuse_systematic("the test recordings", found)
        elif found:
            findings = "; ".join(found)
            self.report.warn(
                f"THE TEST RECORDINGS ARE MADE OTHERWISE THAN EXPECTED, answers may mean little: {findings}"
            )

    def predict_batch(self, batch: list[RowRecordings], since: float) -> None:
        """since: when the batch before was done."""
        began = self.budget.clock()
        predictions, costs = self.ensemble.predict_batch(batch, self.active)
        blended = combine(predictions, self.weights, self.blend.prior, len(batch), self.blend.log_linear)
        asked = {one.model for one in self.active}  # what was given up for time is reported once, not for every EEG
        late = "no time left" if self.budget.is_over() else ""
        for number, row in enumerate(batch):
            self.predicted[row.eeg_id] = blended[number]
            answers = {name: values[number] for name, values in predictions.items() if name in asked}
            if row.slow:
                self.waiting[row.eeg_id] = row, answers
            else:
                self.waiting.pop(row.eeg_id, None)
                self.report.note_row(row, answers, late)
        costs[READING] = began - since
        for part, seconds in costs.items():
            self.costs[part] += seconds
        spent = self.budget.clock() - since
        if any(row.slow for row in batch):
            # A stall says nothing of the recordings to come, and nets that are given up would not make up for it.
            spent -= costs.pop(READING)
        self.budget.note(Batch(len(batch), spent, costs))

    def give_up_what_is_too_much(self, done: int, remaining: int) -> None:
        """Step after step, until the rest is predicted to be done in time."""
        if not remaining or not self.budget.is_measured():
            return
        while self.steps and (predicted := self.predicted_seconds(remaining)) > self.budget.seconds:
            what, passes = self.steps.pop(0)
            self.active -= passes
            why = f"{predicted / 3600:.3g} h predicted, {self.budget.seconds / 3600:.3g} h allowed"
            self.report.dropped.append(f"{what} after {done} EEGs: {why}")

    def predicted_seconds(self, remaining: int) -> float:
        parts = {READING, *self.ensemble.by_input(self.active), *self.active}
        return self.budget.predicted(parts, remaining)

    def finish(self, ids: list[int]) -> None:
        """Complete the report: EEGs that waited or were not reached, and what all of it took."""
        for row, answers in self.waiting.values():
            self.report.note_row(row, answers)
        unreached = [str(eeg_id) for eeg_id in ids if eeg_id not in self.predicted]
        if unreached:
            allowed = f"{self.budget.seconds / 3600:.3g} h"
            self.report.warn(f"no time left for {len(unreached)} EEGs, which keep the prior: {allowed} were allowed")
            entry = {"answer": "prior", "why": "no time left"}
            self.report.fallbacks += [{"eeg_id": eeg_id, **entry} for eeg_id in unreached]
        by_models = [self.predicted[eeg_id] for eeg_id in ids if eeg_id in self.predicted]
        self.report.note_means(np.array(by_models), self.blend.prior)
        self.note_costs()

    def note_costs(self) -> None:
        stages = {str(part): spent for part, spent in self.costs.items() if isinstance(part, str)}
        stages |= {"inputs": 0.0, "models": 0.0}
        models = dict.fromkeys(self.weights, 0.0)
        views = {str(view): 0.0 for view in (PLAIN, *self.blend.views)}
        for part, spent in self.costs.items():
            if isinstance(part, Pass | BuiltInput):
                stages["models" if isinstance(part, Pass) else "inputs"] += spent
                views[str(part.view)] += spent
            if isinstance(part, Pass):
                models[part.model] += spent
        tables = {"stages": stages, "models": models, "views": views}
        self.report.seconds = {"total": round(self.budget.elapsed(), 2)} | {
            name: {part: round(spent, 2) for part, spent in table.items()} for name, table in tables.items()
        }
        self.report.memory_mb = {"ram": peak_memory_mb()}
        for device in self.ensemble.devices:
            if device.type == "cuda":
                self.report.memory_mb[str(device)] = round(torch.cuda.max_memory_reserved(device) / 2**20, 1)
