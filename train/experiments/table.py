"""The table of experiments: every config and every published ensemble, with local results when there are runs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from common.blend import Blend, Published, combine, load_blend
from common.metric import kl_divergence, vote_shares
from common.schema import MANY_VOTES, VOTES
from train.data.labels import select_rows
from train.engine.published import SUFFIX, as_published
from train.engine.run_folder import RunError, finished_models, probability_columns, read_oof, read_run
from train.evaluate.runs import check_same_rows, floor_prediction, prior_of
from train.evaluate.scores import kl_columns
from train.experiment import Experiment, Training, load_experiment
from train.experiments.words import published_words, recipe_words
from train.tables import aligned, markdown, number

CONFIGS, BLENDS = Path(__file__).parents[1] / "configs", Path(__file__).parents[1] / "blends"
HEADS = ["source", "name", "input", "model", "loss", "augmentation", "epochs", "CV", "LB", "faults of that run"]
MANY = f">= {MANY_VOTES} votes"
LOCAL_HEADS = ["folds", "epoch", "KL", "prior", f"KL, {MANY}", f"prior, {MANY}", "KL, last stage's rows"]
FLOOR_HEADS = ["Bayes floor", f"Bayes floor, {MANY}"]
OWN = "the kit"  # source of what nobody published
FOOTNOTE = "* not read on all label rows: the config says on which, and why it cannot be compared with the others."


@dataclass(frozen=True)
class Line:
    """One experiment or ensemble: its words, and what was published of it."""

    name: str
    published: Published | None
    words: list[str]
    blend: Blend | None = None
    experiment: Experiment | None = None

    @property
    def source(self) -> str:
        return self.published.source if self.published else OWN

    @property
    def cells(self) -> list[str]:
        return [self.source, self.name, *self.words, *published_words(self.published)]


def lines_of(runs: Path | None) -> list[Line]:
    """The seed's first, by section, ensembles behind their members; runs as published behind the mended config."""
    experiments = []
    for path in sorted(CONFIGS.glob("*.toml")):
        experiments.append(load_experiment(path))
        if runs and (runs / (path.stem + SUFFIX)).is_dir():
            experiments.append(as_published(experiments[-1]))
    lines = [Line(each.name, each.published, recipe_words(each), experiment=each) for each in experiments]
    for name, blend in published_blends().items():
        lines.append(Line(name, blend.published, [f"{len(blend.models)} models", "ensemble", "-", "-", "-"], blend))
    return sorted(lines, key=lambda line: (not line.source.startswith("seed"), line.source, line.blend is not None))


def published_blends() -> dict[str, Blend]:
    return {path.stem: load_blend(path) for path in sorted(BLENDS.glob("*.json"))}


# ---- local results


def is_started(run: Path) -> bool:
    """Whether it has a finished fold, so that there is something to show."""
    return any(len(member.held_out) == 1 for member in finished_models(run))


def local_cells(
    oof: pl.DataFrame, prediction: np.ndarray, run: Path, training: Training, epoch: str, truth: Path | None
) -> list[str]:
    """Out-of-fold KL of `prediction` (rows, 6) on the rows of `oof`, beside prior and, with `truth`, Bayes floor."""
    votes, fold = oof.select(VOTES).to_numpy(), oof["fold"].to_numpy()
    last = select_rows(votes, training.stages[-1].rows)
    kl_last = kl_divergence(vote_shares(votes[last]), prediction[last]).mean() if last.any() else np.nan
    prior = kl_columns(votes, prior_of(run, fold))
    floor = kl_columns(votes, floor_prediction(truth, oof, run).probabilities) if truth else ()
    local = kl_columns(votes, prediction)
    scores = [local[0], prior[0], local[1], prior[1], kl_last, *floor]
    return [f"{len(np.unique(fold))} of {training.folds}", epoch, *map(number, scores)]


def run_cells(run: Path, truth: Path | None) -> list[str]:
    """A run's results at the checkpoint that it is used with: the last epoch, or the best, chosen on its fold."""
    training, oof = read_run(run).training, read_oof(run).sort("label_id")
    prediction = oof.select(probability_columns(training.checkpoint)).to_numpy()
    return local_cells(oof, prediction, run, training, training.checkpoint, truth)


def blend_cells(blend: Blend, runs: list[Path], truth: Path | None) -> list[str]:
    """The weighted mean of the members' last epochs. Raises RunError when they predicted different rows."""
    tables = [read_oof(run).sort("label_id") for run in runs]
    for run, oof in zip(runs, tables, strict=True):
        check_same_rows(run, read_run(run), oof, runs[0], tables[0])
    columns = probability_columns("last")
    predictions = {run.name: oof.select(columns).to_numpy() for run, oof in zip(runs, tables, strict=True)}
    mean = combine(predictions, blend.models, blend.prior, tables[0].height)
    return local_cells(tables[0], mean, runs[0], read_run(runs[0]).training, "last", truth)


def local_results(line: Line, runs: Path, truth: Path | None, width: int) -> list[str]:
    """A line's cells of local results; empty where nothing was run."""
    wanted = [runs / name for name in (line.blend.models if line.blend else [line.name])]
    if not all(map(is_started, wanted)):
        return [""] * width
    if line.blend is None:
        local, listed = (e.model_copy(update={"published": None}) for e in (read_run(wanted[0]), line.experiment))
        return run_cells(wanted[0], truth) if local == listed else ["run of another config", *[""] * (width - 1)]
    try:
        return blend_cells(line.blend, wanted, truth)
    except RunError:
        return ["members' rows differ", *[""] * (width - 1)]


def other_runs(runs: Path, table: list[list[str]]) -> list[str]:
    """Names of the finished runs that have no line in the table."""
    shown = {line[HEADS.index("name")] for line in table}
    return sorted(run.name for run in runs.iterdir() if run.name not in shown and is_started(run))


# ---- the table


def table_of(runs: Path | None, truth: Path | None) -> list[list[str]]:
    """Heads and lines. Raises ConfigError, BlendError, RunError."""
    if truth and not runs:
        raise RunError("--truth is for local results: say with --runs where they are")
    for given in (runs, truth):
        if given and not given.exists():
            raise RunError(f"{given}: not there")
    lines = lines_of(runs)
    if not runs:
        return [HEADS, *(line.cells for line in lines)]
    heads = LOCAL_HEADS + (FLOOR_HEADS if truth else [])
    cells = [[*line.cells, *local_results(line, runs, truth, len(heads))] for line in lines]
    return [HEADS + heads, *cells]


def ensemble_lines() -> list[str]:
    """What the ensembles are made of."""
    return [
        f"{name} = {' + '.join(f'{weight:g} {member}' for member, weight in blend.models.items())}"
        for name, blend in published_blends().items()
    ]


def as_text(table: list[list[str]]) -> str:
    """Aligned columns; a source is named at its first line. Behind them the ensembles."""
    sources = ["", *(line[0] for line in table)]
    shown = [["" if line[0] == before else line[0], *line[1:]] for before, line in zip(sources, table, strict=False)]
    return "\n".join([*aligned(shown, len(shown[0])), FOOTNOTE, "", *ensemble_lines()])


def as_markdown(table: list[list[str]]) -> str:
    """The same, for docs/experiments.md."""
    escaped = [[cell.replace("*", "\\*") for cell in line] for line in table]
    rows = [*markdown(escaped), "", FOOTNOTE.replace("*", "\\*"), ""]
    return "\n".join([*rows, *(f"- {line}" for line in ensemble_lines())])
