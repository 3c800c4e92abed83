"""A timm backbone over a spectrogram image."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from common.config import ConfigError, SpectrogramCnnConfig
from common.schema import PATTERNS


class GemPooling(nn.Module):
    """Generalised mean over the image: exponent 1 is the average, infinity the maximum; learned from 3."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(3.0))

    def forward(self, features: Tensor) -> Tensor:  # (batch, features, height, width) -> (batch, features)
        return features.clamp(min=1e-6).pow(self.exponent).mean(dim=(-2, -1)).pow(1 / self.exponent)


class SpectrogramCNN(nn.Module):
    """(batch, channels, height, width) -> (batch, 6) logits.

    backbone without its classifier, pooled, dropout, linear: the seed's drop head. Weights start
    random here; training loads pretrained ones (train/pretrained.py), inference its own.
    """

    def __init__(self, config: SpectrogramCnnConfig, channels: int) -> None:
        super().__init__()
        if not timm.is_model(config.backbone):
            close = timm.list_models(f"*{config.backbone[:8]}*")[:3]
            hint = f"; names like it: {', '.join(close)}" if close else ""
            raise ConfigError(f"model.backbone: timm has no model named {config.backbone!r}{hint}")
        backbone: Any = timm.create_model(
            config.backbone, pretrained=False, in_chans=channels, num_classes=0, drop_path_rate=config.drop_path
        )
        self.backbone = backbone
        self.pooling = GemPooling() if config.pooling == "gem" else nn.Identity()
        self.pooled_by_backbone = config.pooling == "average"  # whatever the layout of its features
        n_features = backbone.head_hidden_size if self.pooled_by_backbone else backbone.num_features
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(n_features, len(PATTERNS))

    def forward(self, image: Tensor) -> Tensor:
        backbone: Any = self.backbone
        features = backbone.forward_features(image)
        if self.pooled_by_backbone:
            features = backbone.forward_head(features, pre_logits=True)
        return self.classifier(self.dropout(self.pooling(features)))
