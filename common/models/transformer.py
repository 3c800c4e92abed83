"""A timm vision transformer over the patches of a spectrogram image."""

import functools
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from common.models.base import NetConfig, Rate
from common.models.cnn import check_backbone, create_backbone, timm_library
from common.schema import PATTERNS
from common.strict import ConfigError

Grid = tuple[int, int]  # down, across


class SpectrogramTransformerConfig(NetConfig):
    """A timm vision transformer (ViT, DeiT) over patches of the image, overlapping as in the AST if wanted."""

    kind: Literal["spectrogram-transformer"] = "spectrogram-transformer"
    backbone: str = "vit_small_patch16_224"  # a timm VisionTransformer
    pretrained: bool = True
    # Pixels from patch to patch; None: side by side, zeros right and below where the last ones reach beyond the
    # image. Less than a patch: overlapping (AST: 10), and what is left of the image beyond the last is not seen.
    stride: int | None = Field(default=None, ge=1, le=64)
    drop_path: Rate = 0.1
    dropout: Rate = 0.0  # before the classifier

    def build(self, input_config: Any, shape: tuple[int, ...]) -> nn.Module:
        return SpectrogramTransformer(self, shape)

    def describe(self) -> str:
        return self.backbone + (f", stride {self.stride}" if self.stride else "")


def count_patches(length: int, patch: int, stride: int) -> int:
    """Patches along one axis of an image. Side by side, as many as it takes to see all of it, the last one partly
    over zeros; overlapping, as many as lie inside (the AST's way): what is left is shorter than a stride."""
    return -(-length // patch) if stride == patch else (length - patch) // stride + 1


def resample_positions(positions: Tensor, n_prefix: int, old: Grid, new: Grid) -> Tensor:
    """Position embeddings (1, n_prefix + patches, width) of one grid for another, as the AST has them.

    Along an axis with fewer patches the central ones are kept, so that neighbours stay as far apart as they were;
    along one with more they are interpolated linearly. Class and distillation tokens keep theirs.
    """
    prefix, grid = positions[:, :n_prefix], positions[:, n_prefix:]
    grid = grid.unflatten(1, old).permute(0, 3, 1, 2)  # (1, width, down, across)
    for axis, (has, wants) in enumerate(zip(old, new, strict=True), start=2):
        if wants < has:
            grid = grid.narrow(axis, (has - wants) // 2, wants)
    grid = interpolate(grid, size=new, mode="bilinear")
    return torch.cat([prefix, grid.flatten(2).transpose(1, 2)], dim=1)


def place_patches(backbone: Any, grid: Grid, stride: Grid) -> None:
    """Let a timm VisionTransformer of any image size read `grid` patches `stride` pixels apart, in place."""
    patches = backbone.patch_embed
    if backbone.pos_embed is not None:
        n_prefix = 0 if backbone.no_embed_class else backbone.num_prefix_tokens
        with torch.no_grad():
            positions = resample_positions(backbone.pos_embed, n_prefix, patches.grid_size, grid)
        backbone.pos_embed = nn.Parameter(positions)
    patches.proj.stride = stride
    patches.img_size = tuple((grid[axis] - 1) * stride[axis] + patches.patch_size[axis] for axis in (0, 1))
    patches.grid_size, patches.num_patches = grid, grid[0] * grid[1]


@functools.cache
def patch_plan(config: SpectrogramTransformerConfig, shape: tuple[int, ...]) -> tuple[Grid, Grid]:
    """How many patches images of `shape` (channels, height, width) have, and the pixels from each to the next.

    Raises ConfigError when the backbone is no vision transformer, or its patches do not fit the image.
    """
    check_backbone(config.backbone)
    timm = timm_library()
    with torch.device("meta"):  # without memory: only its kind and its patches are asked
        sketch: Any = timm.create_model(config.backbone)
    patches = getattr(sketch, "patch_embed", None)
    if not isinstance(sketch, timm.models.VisionTransformer) or not isinstance(patches, timm.layers.PatchEmbed):
        raise ConfigError(
            f"model.backbone: {config.backbone} is a {type(sketch).__name__}; 'spectrogram-transformer' wants a timm "
            "VisionTransformer over plain patches, as vit_small_patch16_224 or deit_small_distilled_patch16_224; "
            "for nets with convolutions there is 'spectrogram-cnn'"
        )
    patch = sketch.patch_embed.patch_size
    stride = (config.stride, config.stride) if config.stride else patch
    size, (height, width) = f"{patch[0]} x {patch[1]}", shape[1:]
    if stride[0] > patch[0] or stride[1] > patch[1]:
        raise ConfigError(f"model.stride = {config.stride} leaves gaps between patches of {size}: at most {min(patch)}")
    if height < patch[0] or width < patch[1]:
        raise ConfigError(
            f"model.backbone: {config.backbone} reads patches of {size}, the image is {height} x {width}: "
            "give the input another size (resize), or take smaller patches"
        )
    grid = count_patches(height, patch[0], stride[0]), count_patches(width, patch[1], stride[1])
    return grid, stride


class SpectrogramTransformer(nn.Module):
    """(batch, channels, height, width) -> (batch, 6) logits.

    A vision transformer without its classifier, dropout, linear. Read are the tokens as the backbone itself reads
    them: a ViT's class token (or its mean, or its attention), the mean of a distilled DeiT's class and distillation
    tokens behind the last norm, which is the AST's way too. Weights start random here, as in SpectrogramCNN.
    Raises ConfigError when backbone, stride and images of `shape` (channels, height, width) do not fit.
    """

    def __init__(self, config: SpectrogramTransformerConfig, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.grid, self.stride = patch_plan(config, shape)
        backbone = create_backbone(config, shape[0], dynamic_img_size=False)
        place_patches(backbone, self.grid, self.stride)
        self.backbone = backbone
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(backbone.num_features, len(PATTERNS))

    def forward(self, image: Tensor) -> Tensor:
        backbone: Any = self.backbone
        height, width = backbone.patch_embed.img_size
        # Zeros right and below up to whole patches; below zero the sums cut what overlapping patches leave over.
        seen = pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]))
        tokens = backbone.forward_features(seen)
        return self.classifier(self.dropout(backbone.forward_head(tokens, pre_logits=True)))
