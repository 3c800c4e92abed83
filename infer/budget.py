"""The time a run may take: what each part of it costs, whether all will be done in time, and what goes when not."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from common.tta import PLAIN, View

RECENT = 8  # batches that the prediction rests on
WARM_UP_SHARE = 0.05  # of the time allowed: a first batch that took longer is no warm-up


@dataclass(frozen=True)
class Pass:
    """One net of a model looking at one view of every EEG."""

    model: str
    fold: int | None  # held out in training; None: trained on all rows
    seed: int
    view: View


@dataclass(frozen=True)
class Drop:
    """Passes that are given up together."""

    what: str
    passes: frozenset[Pass]


def fold_rank(one: Pass) -> int:
    """Folds in the order in which they are kept: a model of all rows before those that lack a part of them."""
    return -1 if one.fold is None else one.fold


def ladder(passes: Iterable[Pass], views: tuple[View, ...], models: tuple[str, ...]) -> list[Drop]:
    """What is given up, one step after the other, until one net of one model is left with the plain view.

    The last view first, then the last seed of all models, then the last fold, then the models in the order given. No
    step takes the last net of a model but one that takes the model.
    """
    left, steps = set(passes), []

    def step(what: str, gone: Iterable[Pass]) -> None:
        taken = frozenset(gone)
        if taken:
            left.difference_update(taken)
            steps.append(Drop(what, taken))

    def first(of: Pass, rank: Callable[[Pass], int]) -> int:
        return min(rank(one) for one in left if one.model == of.model)

    for view in reversed([view for view in views if view != PLAIN]):
        step(f"view {view}", [one for one in left if one.view == view])
    for seed in sorted({one.seed for one in left}, reverse=True):
        step(f"seed {seed}", [one for one in left if one.seed == seed > first(one, lambda other: other.seed)])
    for rank in sorted({fold_rank(one) for one in left}, reverse=True):
        step(f"fold {rank}", [one for one in left if fold_rank(one) == rank > first(one, fold_rank)])
    there = [name for name in models if any(one.model == name for one in left)]
    for name in there[:-1]:
        step(f"model {name}", [one for one in left if one.model == name])
    return steps


@dataclass(frozen=True)
class Batch:
    eegs: int
    seconds: float  # by the clock on the wall
    costs: dict[Hashable, float]  # seconds of each part, of all devices together


class Budget:
    """Measures batches and predicts when a run will be done. `clock` gives seconds from any fixed moment."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds, self.clock, self.started = seconds, clock, clock()
        self.batches = 0
        self.recent: deque[Batch] = deque(maxlen=RECENT)

    def elapsed(self) -> float:
        return self.clock() - self.started

    def is_over(self) -> bool:
        return self.elapsed() >= self.seconds

    def note(self, batch: Batch) -> None:
        if self.batches == 1:
            self.recent.clear()  # the first batch also loaded kernels and filled caches
        self.batches += 1
        self.recent.append(batch)

    def is_measured(self) -> bool:
        """Whether a prediction can be relied upon: from the second batch on, or when the first took very long."""
        return self.batches > 1 or sum(b.seconds for b in self.recent) > WARM_UP_SHARE * self.seconds

    def predicted(self, parts: Iterable[Hashable], eegs: int) -> float:
        """Seconds in all when `eegs` more are answered with these parts.

        Devices work side by side and something is always lost between parts: the ratio of the wall's clock to the sum
        of the parts is measured too, and taken to stay.
        """
        counted = sum(batch.eegs for batch in self.recent)
        known = sum(sum(batch.costs.values()) for batch in self.recent)
        if not counted or not known:
            return self.elapsed()
        ratio = sum(batch.seconds for batch in self.recent) / known
        cost = sum(batch.costs.get(part, 0.0) for part in set(parts) for batch in self.recent)
        return self.elapsed() + eegs * ratio * cost / counted
