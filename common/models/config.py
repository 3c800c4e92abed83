"""Nets as configs: what can be trained. common.models builds them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.inputs.config import Strict

Rate = Annotated[float, Field(ge=0, lt=1)]  # of dropping something


class SpectrogramCnnConfig(Strict):
    """A timm backbone that pools its features: EfficientNet, ConvNeXt, MixNet, ResNet ..."""

    kind: Literal["spectrogram-cnn"] = "spectrogram-cnn"
    backbone: str = "efficientnet_b0"  # any timm name
    pretrained: bool = True
    pooling: Literal["average", "gem"] = "average"
    drop_path: Rate = 0.2  # the seed's drop head: .2 in the backbone,
    dropout: Rate = 0.3  # .3 before the classifier; its plain head: 0 and 0


class SpectrogramTransformerConfig(Strict):
    """A timm vision transformer (ViT, DeiT) over patches of the image, overlapping as in the AST if wanted."""

    kind: Literal["spectrogram-transformer"] = "spectrogram-transformer"
    backbone: str = "vit_small_patch16_224"  # a timm VisionTransformer
    pretrained: bool = True
    # Pixels from patch to patch; None: side by side, zeros right and below where the last ones reach beyond the
    # image. Less than a patch: overlapping (AST: 10), and what is left of the image beyond the last is not seen.
    stride: int | None = Field(default=None, ge=1, le=64)
    drop_path: Rate = 0.1
    dropout: Rate = 0.0  # before the classifier


class WaveNetConfig(Strict):
    """Dilated gated convolutions over both hemispheres."""

    kind: Literal["wave-net"] = "wave-net"
    # Channels of the trunk; half of them in each direction of time.
    width: int = Field(default=64, ge=8, le=4096, multiple_of=2)
    kernel: int = Field(default=3, ge=3)  # samples at 50 Hz, odd
    # Samples at 50 Hz; these see 2.5 s.
    dilations: Annotated[tuple[Annotated[int, Field(ge=1, le=1250)], ...], Field(min_length=1)] = (1, 2, 4, 8, 16, 32)
    drop_channel: Rate = 0.1  # share of differences silenced while training
    dropout: Rate = 0.3

    @model_validator(mode="after")
    def kernel_has_a_centre(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel = {self.kernel} must be odd")
        return self


class WaveSqueezeformerConfig(Strict):
    """Convolutions of each difference alone, the same for all, then Squeezeformer layers over time."""

    kind: Literal["wave-squeezeformer"] = "wave-squeezeformer"
    width: int = Field(default=128, ge=8, le=4096)  # features at each moment
    filters: int = Field(default=16, ge=1)  # features made of each difference
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)  # of the attention
    kernel: int = Field(default=31, ge=3)  # moments seen by a layer's convolution, ten a second, odd
    dropout: Rate = 0.1

    @model_validator(mode="after")
    def parts_fit(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width = {self.width} must be a multiple of twice heads = {self.heads}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel = {self.kernel} must be odd")
        return self


IMAGE_MODELS = (SpectrogramCnnConfig, SpectrogramTransformerConfig)
ModelConfig = Annotated[
    SpectrogramCnnConfig | SpectrogramTransformerConfig | WaveNetConfig | WaveSqueezeformerConfig,
    Field(discriminator="kind"),
]
