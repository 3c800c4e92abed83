"""Where a backbone's first weights come from. Inference never asks: its weights travel with the kit."""

from pathlib import Path
from textwrap import shorten
from typing import Any

import timm
from torch import Tensor

from common.inputs.build import input_shape
from common.models.transformer import SpectrogramTransformer, place_patches
from train.engine.run_folder import RunError
from train.experiment import Experiment


def initialise(model: Any, experiment: Experiment, file: Path | None) -> str:
    """Load pretrained weights into the backbone where the config wants them; returns where they came from.

    From `file` when given (raises RunError when it does not fit), else from timm's hub; when that
    cannot be reached the net stays random, and the returned text says so. Weights of three colours become
    those of the input's channels as timm does it (for one channel, their sum), position embeddings those of
    the input's patches.
    """
    config: Any = experiment.model
    if not hasattr(config, "backbone"):
        if file:
            raise RunError(f"{experiment.name} has no timm backbone: --pretrained does not apply")
        return "random: this net has no pretrained weights"
    if not config.pretrained and not file:
        return "random: the config says pretrained = false"
    channels = input_shape(experiment.input)[0]
    if file:
        try:
            source = backbone_from_file(config.backbone, channels, file)
        except ValueError as error:
            raise RunError(f"{file} does not fit {config.backbone}: {error}") from error
    else:
        try:
            source = timm.create_model(config.backbone, pretrained=True, in_chans=channels, num_classes=0)
        except Exception as error:  # the hub's client raises its own, changing, kinds: all mean "not to be had"
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            missing = f"{config.backbone}'s pretrained weights are not to be had ({reason})"
            return f"random: {missing}; --pretrained gives a file"
    if isinstance(model, SpectrogramTransformer):
        place_patches(source, model.grid, model.stride)
    model.backbone.load_state_dict(source.state_dict())
    return f"file {file.name}" if file else f"timm {config.backbone}.{source.pretrained_cfg.get('tag', '')}"


def backbone_from_file(backbone: str, channels: int, file: Path) -> Any:
    """The timm backbone for images of its own size, without classifier, filled from a file made for RGB images: of
    safetensors, or a saved state dict; no object is unpickled.

    Raises ValueError. The net is made with the file's own classifier, which then goes: only where the classes agree
    does timm insist on every name and shape.
    """
    try:
        weights = timm.models.load_state_dict(str(file), weights_only=True)
    except Exception as error:  # any other file fails in its readers, in a dozen ways
        raise ValueError("neither a safetensors file nor a state dict saved by torch") from error
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError("it does not hold weights by their names")
    published = timm.get_pretrained_cfg(backbone)
    for first in weights_of(published.first_conv, weights):
        if first.shape[1] != 3:
            raise ValueError(f"made for {first.shape[1]} channels, not for RGB")
    n_classes = max((len(last) for last in weights_of(published.classifier, weights)), default=0)
    overlay = {"state_dict": weights, "num_classes": n_classes, "label_offset": 0}
    try:
        source: Any = timm.create_model(backbone, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=channels)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else shorten(str(error), 240, placeholder=" ...")
        raise ValueError(reason) from error
    source.reset_classifier(0)
    return source


def weights_of(modules: str | tuple[str, ...] | None, weights: dict[str, Tensor]) -> list[Tensor]:
    """Those of the modules that are there; timm names one, several or none."""
    names = (modules,) if isinstance(modules, str) else modules or ()
    return [weights[f"{name}.weight"] for name in names if f"{name}.weight" in weights]
