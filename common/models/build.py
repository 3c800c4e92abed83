"""From an experiment to its net."""

from torch import nn

from common.config import ConfigError, Experiment, WaveNetConfig
from common.features import input_shape
from common.inputs import BipolarSequence
from common.models.cnn import SpectrogramCNN
from common.models.sequence import WaveNet


def build_model(experiment: Experiment) -> nn.Module:
    """The experiment's net with random weights: forward(model input) -> (batch, 6) logits.

    Raises ConfigError when the parts of the input do not fit each other, or the net does not fit the input.
    """
    try:
        shape = input_shape(experiment.input)
    except ValueError as error:
        raise ConfigError(f"{experiment.name}: input: {error}") from error
    if isinstance(experiment.model, WaveNetConfig):
        assert isinstance(experiment.input, BipolarSequence)  # Experiment.model_fits_input
        return WaveNet(experiment.model, experiment.input)
    return SpectrogramCNN(experiment.model, channels=shape[0])
