"""Where a backbone's first weights come from. Inference never asks: its weights travel with the kit."""

from pathlib import Path

import timm
from torch import nn

from common.config import Experiment, SpectrogramCnnConfig
from common.errors import KitError
from common.models.cnn import SpectrogramCNN


class PretrainedError(KitError):
    """A weights file that was given and does not fit."""


def initialise(model: nn.Module, experiment: Experiment, file: Path | None) -> str:
    """Load pretrained weights into the backbone where the config wants them; returns where they came from.

    From `file` when given (raises PretrainedError when it does not fit), else from timm's hub; when that
    cannot be reached the net stays random, and the returned text says so.
    """
    config = experiment.model
    if not isinstance(config, SpectrogramCnnConfig) or not isinstance(model, SpectrogramCNN):
        if file:
            raise PretrainedError(f"{experiment.name} has no timm backbone: --pretrained does not apply")
        return "random: this net has no pretrained weights"
    if not config.pretrained and not file:
        return "random: the config says pretrained = false"
    overlay = {"file": str(file)} if file else None
    try:
        source = timm.create_model(
            config.backbone, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=1, num_classes=0
        )
    except Exception as error:  # the hub's client raises its own, changing, kinds: all mean "not to be had"
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        if file:
            raise PretrainedError(f"{file} does not fit {config.backbone} ({reason})") from error
        return f"random: {config.backbone}'s pretrained weights are not to be had ({reason}); --pretrained gives a file"
    model.backbone.load_state_dict(source.state_dict())
    return f"file {file.name}" if file else f"timm {config.backbone}.{source.pretrained_cfg.get('tag', '')}"
