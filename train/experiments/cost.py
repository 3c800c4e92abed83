"""What whole trainings cost: measured steps times the competition's rows, as a table."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import KitError
from common.memory import keep_freed_memory
from common.predict import pick_device
from common.schema import PATTERNS
from train.data.labels import ROW_KEYS, select_rows
from train.data.row_selection import RowSelection
from train.experiment import Experiment, load_experiment
from train.experiments.measure import Measurement, measure_experiment
from train.tables import aligned, markdown

# Label rows of the competition by their number of votes N, and how many of them are unanimous, as counted in its
# train.csv (106,667 of the 106,800 windows; 20,183 rows).
LABEL_ROWS = {
    **{1: (3454, 3454), 2: (2078, 1536), 3: (6266, 4616), 4: (748, 152), 5: (1145, 270), 6: (141, 21), 7: (1, 1)},
    **{10: (121, 8), 11: (382, 30), 12: (730, 71), 13: (1358, 132), 14: (643, 76), 15: (1445, 191), 16: (681, 45)},
    **{17: (304, 97), 18: (308, 110), 19: (73, 13), 20: (210, 76), 21: (49, 18), 22: (24, 2), 23: (10, 1)},
    **{24: (3, 1), 25: (5, 0), 26: (2, 0), 27: (1, 0), 28: (1, 0)},
}
# How many samples an epoch takes of all rows, by training.labels; all are taken to have the votes of rows by votes.
SAMPLES_BY = {"votes": 20_183, "eeg": 17_089, "window": 106_800, "one-per-eeg": 17_089, "one-per-stretch": 21_490}
LAST_LOOKS = 2  # the held-out rows are predicted after each epoch, and in the end by the last and the best weights
HEADS = [
    *("config", "parameters", "rows a step", "s a step", "rows/s", "outside the net", "peak"),
    *("own step, at least", "hours", "published CV", "read on"),
]


@dataclass(frozen=True)
class Cost:
    """A config, what was measured of it, and the hours that follow, of all folds together."""

    experiment: Experiment
    measured: Measurement

    @property
    def stage_hours(self) -> list[float]:
        """Of training each stage: a fold trains on the rows of all the others."""
        training, times = self.experiment.training, self.measured.times
        rows = [stage.epochs * (training.folds - 1) * rows_of(stage.rows, training.labels) for stage in training.stages]
        return [n / step.rows_per_second / 3600 for n, step in zip(rows, times, strict=True)]

    @property
    def validation_hours(self) -> float:
        """Of predicting held-out rows, which are all label rows once over the folds."""
        training = self.experiment.training
        passes = sum(stage.epochs for stage in training.stages) + LAST_LOOKS
        rows = SAMPLES_BY["votes" if ROW_KEYS[training.labels] == ROW_KEYS["votes"] else training.labels]
        return passes * rows * self.measured.predict_seconds / 3600

    @property
    def hours(self) -> float:
        return sum(self.stage_hours) + self.validation_hours


def rows_of(selection: RowSelection, labels: str) -> float:
    """Samples of the competition that an epoch of a stage takes before any fold is held out."""
    votes, others = [], [0] * (len(PATTERNS) - 2)  # one class has all votes, or all but one
    for n, (number, unanimous) in LABEL_ROWS.items():
        votes += [[n, 0, *others]] * unanimous + [[n - 1, 1, *others]] * (number - unanimous)
    return float(select_rows(np.array(votes), selection).mean()) * SAMPLES_BY[labels]


# ---- measuring several


def measure_file(path: Path, steps: int, batch_size: int | None) -> Measurement:
    """What a process does for one config. Raises ConfigError, RunError, and RuntimeError for want of memory."""
    keep_freed_memory()  # as every command
    return measure_experiment(load_experiment(path), steps, batch_size, pick_device())


def in_own_process(*arguments: Any) -> Measurement:
    """measure_file(*arguments) where nothing ran before, so that its peak is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure_file, *arguments).result()


def reason(error: Exception) -> str:
    """Why a config could not be measured."""
    if isinstance(error, KitError):
        return str(error)
    ended = "its process was ended, most likely for want of memory"
    text = ended if isinstance(error, BrokenProcessPool) else str(error).splitlines()[0]
    return f"{text}: give a smaller --batch-size" if "memory" in text else text


def measure_costs(paths: list[Path], steps: int, batch_size: int | None) -> tuple[list[Cost], list[str]]:
    """Costs of the configs that could be measured, and the names of the others, whose errors are printed.

    All are read before the first is measured. Raises ConfigError.
    """
    experiments = [load_experiment(path) for path in paths]
    costs, failed = [], []
    for number, (path, experiment) in enumerate(zip(paths, experiments, strict=True), start=1):
        try:
            costs.append(Cost(experiment, in_own_process(path, steps, batch_size)))
            outcome = f"{hours_words(costs[-1].hours)} h"
        except (KitError, RuntimeError) as error:  # of torch, and of a process that was ended
            failed.append(experiment.name)
            outcome = f"not measured: {reason(error)}"
        print(f"[{number}/{len(paths)}] {experiment.name}: {outcome}", file=sys.stderr, flush=True)
    return costs, failed


# ---- words


def hours_words(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 10 else f"{hours:.2g}"


def cells(cost: Cost) -> list[str]:
    """A line of the table. The step shown is one of the stage that takes longest."""
    measured, published = cost.measured, cost.experiment.published
    step = measured.times[int(np.argmax(cost.stage_hours))]
    known = published is not None and published.cv is not None
    return [
        cost.experiment.name,
        f"{measured.parameters / 1e6:.3g} M",
        str(step.rows),
        f"{step.seconds:.3g}",
        f"{step.rows_per_second:.3g}",
        f"{step.outside:.0%}",
        f"{measured.peak_bytes / 1e9:.1f} GB",
        f"{measured.step_bytes / 1e9:.1f} GB",
        hours_words(cost.hours),
        f"{published.cv:.4f}" if known else "-",
        published.rows if known else "-",
    ]


def notes(costs: list[Cost]) -> list[str]:
    """What the columns mean."""
    steps, device = costs[0].measured.steps, costs[0].measured.device
    basis = f"{steps} step{'s' * (steps > 1)} on {device}"
    return [
        f"s a step, rows/s, outside the net (making the input, augmentation): measured, {basis}, of the stage that "
        "takes longest; reading from a disk is not in them.",
        "peak: measured at these rows a step. own step: computed; weights, gradients, AdamW and what the backward pass "
        "keeps of a batch as large as the config's; the programs themselves and working memory come on top.",
        f"hours: extrapolated from {basis} to all folds, stages and epochs of the competition's label rows "
        f'({SAMPLES_BY["votes"]:,}, with labels = "eeg" {SAMPLES_BY["eeg"]:,}), held-out rows included.',
    ]


def as_text(costs: list[Cost], in_markdown: bool = False) -> str:
    """The table, and what its columns mean."""
    lines = [HEADS, *map(cells, costs)]
    if in_markdown:
        return "\n".join([*markdown(lines), "", *(f"- {note}" for note in notes(costs))])
    return "\n".join([*aligned(lines, len(HEADS)), "", *notes(costs)])


def as_values(costs: list[Cost]) -> dict[str, Any]:
    """For --json: everything measured, and the hours, by config."""
    return {
        cost.experiment.name: asdict(cost.measured)
        | {"hours": cost.hours, "stage_hours": cost.stage_hours, "validation_hours": cost.validation_hours}
        for cost in costs
    }
