"""Experiments in few words: the cells of the table of experiments."""

from common.blend import Published
from train.experiment import Experiment, Stage

ALL_ROWS = Published.model_fields["rows"].default


def once(words: list[str]) -> str:
    """In their order, each once; a dash for none."""
    return ", ".join(dict.fromkeys(words)) or "-"


def rows_words(stage: Stage) -> str:
    rows = stage.rows
    bounds = [f"N >= {rows.min_votes}"] if rows.min_votes > 1 else []
    bounds += [f"N <= {rows.max_votes}"] if rows.max_votes else []
    return f" ({', '.join(bounds)})" if bounds else ""


def stage_words(stages: tuple[Stage, ...]) -> str:
    """Epochs, behind them which rows when not all, by their votes N; + where the optimiser goes on: 2+4 (N <= 4), 6."""
    text = ""
    for k, stage in enumerate(stages):
        goes_on = k + 1 < len(stages) and stages[k + 1].carry_on and stages[k + 1].rows == stage.rows
        text += f"{stage.epochs}{'' if goes_on else rows_words(stage)}"
        text += "" if k + 1 == len(stages) else "+" if stages[k + 1].carry_on else ", "
    return text


def published_words(published: Published | None) -> list[str]:
    """CV, starred when it was not read on all label rows, leaderboard, and the faults of the published run."""
    if published is None:
        return ["-", "-", "-"]
    star = "" if published.rows == ALL_ROWS else "*"
    cv = "-" if published.cv is None else f"{published.cv:.4f}{star}"
    leaderboard = "-" if published.leaderboard is None else f"{published.leaderboard:.3f}".removesuffix("0")
    bugs = list(getattr(published, "bugs", ()))  # of a blend there are none
    return [cv, leaderboard, once(bugs)]


def recipe_words(experiment: Experiment) -> list[str]:
    """Input, model, losses, augmentation, epochs."""
    stages = experiment.training.stages
    losses = [stage.loss + (" (few votes fade)" if stage.few_votes else "") for stage in stages]
    changes = [name.replace("_", " ") for stage in stages for name, value in stage.augment if value]
    net = experiment.model.describe()
    return [experiment.input.describe(), net, once(losses), once(changes), stage_words(stages)]
