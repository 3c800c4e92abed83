"""What models see of a window, for `python -m train show`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.inputs.base import Windows, constants_wanted, with_constants
from common.inputs.build import build_input
from train.data.constants import measure_constants
from train.experiment import Experiment
from train.plots.find import ShowError
from train.plots.pages import Drawing, drawing_of


def distinct_inputs(experiments: Sequence[Experiment]) -> dict[Any, list[Experiment]]:
    """Experiments by what they look at, in their order."""
    by_input: dict[Any, list[Experiment]] = {}
    for experiment in experiments:
        by_input.setdefault(experiment.input, []).append(experiment)
    return by_input


def with_own_constants(experiment: Experiment, windows: Windows) -> tuple[Any, str]:
    """Its input config, and its name. Constants of training rows are a run's: here they are this window's own, and the
    name says so. Raises ShowError when the window has nothing to measure."""
    if not constants_wanted(experiment.input):
        return experiment.input, experiment.name
    try:
        constants = measure_constants(experiment.input, [windows])
    except ValueError as error:
        raise ShowError(f"{experiment.name}: {error}; leave this config out with --config") from error
    return with_constants(experiment.input, constants), f"{experiment.name} (constants measured on this window alone)"


def built(windows: Windows, config: Any, name: str) -> np.ndarray:
    """The input of a batch of one. Raises ShowError when the config's parts do not fit each other."""
    try:
        return build_input(windows, config)[0].numpy()
    except ValueError as error:
        raise ShowError(f"{name}: {error}") from error


def input_drawings(windows: Windows, experiments: Sequence[Experiment]) -> list[Drawing]:
    """Each distinct input of a batch of one."""
    drawings = []
    for users in distinct_inputs(experiments).values():
        config, name = with_own_constants(users[0], windows)
        name = " and ".join([name, *(user.name for user in users[1:])])
        drawings.append(drawing_of(name, built(windows, config, name), config))
    return drawings
