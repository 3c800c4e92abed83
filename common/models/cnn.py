"""A timm backbone over a spectrogram image."""

import functools
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.models.base import NetConfig, Rate
from common.schema import PATTERNS
from common.strict import ConfigError


class SpectrogramCnnConfig(NetConfig):
    """A timm backbone that pools its features: EfficientNet, ConvNeXt, MixNet, ResNet ..."""

    kind: Literal["spectrogram-cnn"] = "spectrogram-cnn"
    backbone: str = "efficientnet_b0"  # any timm name
    pretrained: bool = True
    pooling: Literal["average", "gem"] = "average"
    drop_path: Rate = 0.2  # the seed's drop head: .2 in the backbone,
    dropout: Rate = 0.3  # .3 before the classifier; its plain head: 0 and 0

    def build(self, input_config: Any, shape: tuple[int, ...]) -> nn.Module:
        return SpectrogramCNN(self, shape)

    def describe(self) -> str:
        head = "" if self.drop_path or self.dropout else ", plain head"
        return self.backbone + head + (", GeM" if self.pooling == "gem" else "")


def timm_library() -> Any:
    """timm, imported when the first backbone is asked for: it takes seconds, and most commands only read configs."""
    import timm

    return timm


class GemPooling(nn.Module):
    """Generalised mean over the image: exponent 1 is the average, infinity the maximum; learned from 3."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(3.0))

    def forward(self, features: Tensor) -> Tensor:  # (batch, features, height, width) -> (batch, features, 1, 1)
        # Powers leave the range of half precision: 0 to the third is raised from 1e-6, and 50 to it is beyond 65504.
        powers = features.float().clamp(min=1e-6).pow(self.exponent.float())
        return powers.mean(dim=(-2, -1), keepdim=True).pow(1 / self.exponent.float()).to(features.dtype)


def check_backbone(name: str) -> None:
    """Raises ConfigError when timm does not know the name."""
    timm = timm_library()
    if not timm.is_model(name):
        close = timm.list_models(f"*{name[:8]}*")[:3]
        hint = f"; names like it: {', '.join(close)}" if close else ""
        raise ConfigError(f"model.backbone: timm has no model named {name!r}{hint}")


def create_backbone(config: Any, channels: int, **options: Any) -> Any:
    """A timm net with random weights and without its classifier, for images of so many channels."""
    return timm_library().create_model(
        config.backbone, in_chans=channels, num_classes=0, drop_path_rate=config.drop_path, **options
    )


@functools.cache
def feature_shapes(config: SpectrogramCnnConfig, shape: tuple[int, ...]) -> tuple[torch.Size, int]:
    """Shape of the backbone's features of one image, and their number behind its pooling.

    Asked of a backbone without memory (the meta device), as timm's families answer by different attributes.
    Raises ConfigError when the backbone does not take such images.
    """
    with torch.device("meta"), torch.no_grad():
        try:
            sketch = create_backbone(config, shape[0]).eval()
            features = sketch.forward_features(torch.empty(1, *shape))
            return features.shape, sketch.forward_head(features, pre_logits=True).shape[1]
        except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            size = " x ".join(map(str, shape))
            raise ConfigError(
                f"model.backbone: {config.backbone} with drop_path = {config.drop_path} makes no features of "
                f"{size} images ({error}); take another one, or give the input the size it wants (resize); "
                "for vision transformers there is 'spectrogram-transformer'"
            ) from error


class SpectrogramCNN(nn.Module):
    """(batch, channels, height, width) -> (batch, 6) logits.

    The backbone without its classifier, pooling, dropout, linear: the seed's drop head. Its weights are random:
    training loads pretrained ones, inference its own. Raises ConfigError when backbone, pooling and images of `shape`
    (channels, height, width) do not fit.
    """

    def __init__(self, config: SpectrogramCnnConfig, shape: tuple[int, ...]) -> None:
        super().__init__()
        check_backbone(config.backbone)
        features, n_pooled = feature_shapes(config, shape)
        backbone = create_backbone(config, shape[0])
        if config.pooling == "gem" and (len(features) != 4 or features[1] != backbone.num_features):
            raise ConfigError(
                f"model.pooling: 'gem' pools maps of features x height x width; {config.backbone} makes "
                f"{' x '.join(map(str, features[1:]))}: take 'average'"
            )
        self.backbone = backbone
        # The backbone's own average leaves a map of one point as it is; what it does behind its pooling (ConvNeXt
        # normalises, MobileNet widens) then follows GeM as it follows the average.
        self.pooling = GemPooling() if config.pooling == "gem" else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(n_pooled, len(PATTERNS))

    def forward(self, image: Tensor) -> Tensor:
        backbone: Any = self.backbone
        features = self.pooling(backbone.forward_features(image))
        return self.classifier(self.dropout(backbone.forward_head(features, pre_logits=True)))
