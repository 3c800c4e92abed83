"""The time a run may take: what each part of it costs, whether all will be done in time, and what is given up first."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from common.tta import View

RECENT = 8  # batches that the prediction rests on
WARM_UP_SHARE = 0.05  # of the time allowed: a first batch that took longer is no warm-up


@dataclass(frozen=True)
class Pass:
    """One net of a model on one TTA view of every EEG."""

    model: str
    fold: int | None  # held out in training; None: trained on all rows
    seed: int
    view: View


def steps_to_give_up(
    passes: Iterable[Pass], views: tuple[View, ...], models: tuple[str, ...]
) -> dict[str, frozenset[Pass]]:
    """What is given up, one step after the other, until one net of one model is left with the plain view.

    The last TTA view first, then the last seed of all models, then the last fold, then the models in the order given.
    No step takes the last net of a model but one that takes the model.
    """
    left = set(passes)
    steps: dict[str, frozenset[Pass]] = {}

    def give_up(what: str, gone: Iterable[Pass]) -> None:
        if taken := frozenset(gone):
            left.difference_update(taken)
            steps[what] = taken

    def give_up_last(what: str, rank: Callable[[Pass], int]) -> None:
        names = {one.model for one in left}
        for last in sorted({rank(one) for one in left}, reverse=True):
            first = {name: min(rank(one) for one in left if one.model == name) for name in names}
            give_up(f"{what} {last}", [one for one in left if rank(one) == last > first[one.model]])

    for view in reversed(views):
        give_up(f"view {view}", [one for one in left if one.view == view])
    give_up_last("seed", lambda one: one.seed)
    # A net trained on all rows is kept before those that lack a part of them.
    give_up_last("fold", lambda one: -1 if one.fold is None else one.fold)
    for name in [name for name in models if any(one.model == name for one in left)][:-1]:
        give_up(f"model {name}", [one for one in left if one.model == name])
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
        """Whether a prediction is reliable: from the second batch on, or when the first took very long."""
        return self.batches > 1 or sum(b.seconds for b in self.recent) > WARM_UP_SHARE * self.seconds

    def predicted(self, parts: Iterable[Hashable], eegs: int) -> float:
        """Seconds in all when `eegs` more go through these parts.

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
