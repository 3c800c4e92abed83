"""From an experiment to its net."""

from torch import nn

from common.architectures import SpectrogramCnnConfig, SpectrogramTransformerConfig, WaveNetConfig
from common.errors import ConfigError
from common.features import input_shape
from common.inputs import BipolarSequence
from common.models.cnn import SpectrogramCNN
from common.models.sequence import WaveNet
from common.models.squeezeformer import WaveSqueezeformer
from common.models.transformer import SpectrogramTransformer
from common.recipe import Recipe


def build_model(experiment: Recipe) -> nn.Module:
    """The experiment's net with random weights: forward(model input) -> (batch, 6) logits.

    Raises ConfigError when the parts of the input do not fit each other, or the net does not fit the input.
    """
    config = experiment.model
    try:
        shape = input_shape(experiment.input)
    except ValueError as error:
        raise ConfigError(f"{experiment.name}: input: {error}") from error
    if isinstance(config, SpectrogramCnnConfig):
        return SpectrogramCNN(config, shape)
    if isinstance(config, SpectrogramTransformerConfig):
        return SpectrogramTransformer(config, shape)
    assert isinstance(experiment.input, BipolarSequence)  # Experiment.model_fits_input
    if isinstance(config, WaveNetConfig):
        return WaveNet(config, experiment.input)
    return WaveSqueezeformer(config, experiment.input)
