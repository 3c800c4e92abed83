"""From an experiment to its net."""

from torch import nn

from common.config import BipolarSequence, Experiment, WaveNetConfig
from common.models.cnn import SpectrogramCNN
from common.models.sequence import WaveNet


def build_model(experiment: Experiment) -> nn.Module:
    """The experiment's net with random weights: forward(model input) -> (batch, 6) logits."""
    if isinstance(experiment.model, WaveNetConfig):
        assert isinstance(experiment.input, BipolarSequence)  # Experiment.model_fits_input
        return WaveNet(experiment.model, experiment.input)
    return SpectrogramCNN(experiment.model)
