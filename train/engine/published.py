"""The other flavour of an experiment: with the faults of its published run.

A config states the mended recipe, and in [published] which faults the run behind the published figures had.
"""

from collections.abc import Callable
from typing import Any

from common.config import ConfigError, Experiment, parse_experiment
from common.training import Bug

SUFFIX = "-as-published"


def never_step(values: dict[str, Any]) -> bool:
    """The one-cycle schedule was made and never stepped: a constant rate under the optimiser it had set up."""
    for stage in values["training"]["stages"]:
        stage |= {"schedule": "never-stepped", "warm_up": 0.0}
    return True


def cut_frequency(values: dict[str, Any]) -> bool:
    """CutMix exchanged bands of frequency where it meant time."""
    cuts = [stage["augment"]["cutmix"] for stage in values["training"]["stages"] if stage["augment"]["cutmix"]]
    for cut in cuts:
        cut["axis"] = "frequency"
    return bool(cuts)


def select_on_the_fold(values: dict[str, Any]) -> bool:
    """The best of many looks at the fold was kept, scored and, in two stages, trained on."""
    values["training"] |= {"selection": "as-published", "checkpoint": "best"}
    for stage in values["training"]["stages"][1:]:
        stage["start"] = "last" if stage["carry_on"] else "best"
    return True


def use_stat_constants(values: dict[str, Any]) -> bool:
    """Constants of features taken before the logarithm standardised the panels after it."""
    image = values["input"]
    keys = [key for key in ("standardise", "standardise_features") if image.get(key) == "training"]
    image |= dict.fromkeys(keys, "stat")
    return bool(keys)


def take_the_middle(values: dict[str, Any]) -> bool:
    """Windows lay half-way between the first and the last of a label row, where experts often did not look."""
    values["training"]["window"] = "middle"
    return True


# Each changes the config and says whether there was anything to change.
BRING_BACK: dict[Bug, Callable[[dict[str, Any]], bool]] = {
    "schedule": never_step,
    "cutmix-axis": cut_frequency,
    "selection": select_on_the_fold,
    "stat-constants": use_stat_constants,
    "middle-window": take_the_middle,
}


def as_published(experiment: Experiment) -> Experiment:
    """The experiment NAME-as-published, with the faults that its config lists.

    Raises ConfigError when it lists none, or one that it has nothing to do with.
    """
    published = experiment.published
    if not published or not published.bugs:
        raise ConfigError(
            f"{experiment.name}: its [published] lists no bugs, so it has no other flavour; train it as it is"
        )
    values = experiment.model_dump()
    values["name"] += SUFFIX
    for bug in published.bugs:
        if not BRING_BACK[bug](values):
            raise ConfigError(f"{experiment.name}: published.bugs names {bug!r}, which nothing in this config mends")
    values["published"]["bugs"] = ()  # this flavour mends none
    return parse_experiment(values, values["name"])
