"""From an experiment to its net."""

from torch import nn

from common.inputs.build import input_shape
from common.recipe import Recipe
from common.strict import ConfigError


def build_model(experiment: Recipe) -> nn.Module:
    """The experiment's net with random weights: forward(model input) -> (batch, 6) logits.

    Raises ConfigError when the parts of the input do not fit each other, or the net does not fit the input.
    """
    try:
        shape = input_shape(experiment.input)
    except ValueError as error:
        raise ConfigError(f"{experiment.name}: input: {error}") from error
    return experiment.model.build(experiment.input, shape)
