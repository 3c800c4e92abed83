"""A Squeezeformer over the bipolar EEG."""

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from common.inputs.bipolar_sequence import BipolarSequence
from common.models.base import Kernel, NetConfig, Rate
from common.models.wavenet import AttentionPooling, labelled_seconds, signed_log
from common.schema import PATTERNS
from common.signal.montage import MONTAGES

SHAPE_SFREQ = 50  # Hz, about: where the filters see the shape of a wave
MOMENT_SFREQ = 10  # Hz of the moments between which the layers look: 500 in a window


class WaveSqueezeformerConfig(NetConfig):
    """Convolutions of each difference alone, the same for all, then Squeezeformer layers over time."""

    reads: ClassVar[Literal["image", "sequence"]] = "sequence"

    kind: Literal["wave-squeezeformer"] = "wave-squeezeformer"
    width: int = Field(default=128, ge=8, le=4096)  # features at each moment
    filters: int = Field(default=16, ge=1)  # features made of each difference
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)  # of the attention
    kernel: Kernel = 31  # moments seen by a layer's convolution, ten a second
    dropout: Rate = 0.1

    @model_validator(mode="after")
    def parts_fit(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width = {self.width} must be a multiple of twice heads = {self.heads}")
        return self

    def build(self, input_config: Any, shape: tuple[int, ...]) -> nn.Module:
        return WaveSqueezeformer(self, input_config)

    def describe(self) -> str:
        return f"squeezeformer, {self.layers} x {self.width}"


class DifferenceStem(nn.Module):
    """Each difference alone, through the same filters: (batch, rows, time) -> (batch, differences * filters, moments).

    A spike is a spike wherever it is, so one set of filters learns from all differences; which of them it came from
    is told by the place of its features. Where the sequence carries channel quality, a difference's missing, flat and
    clipped shares go through the filters beside its signal.
    """

    def __init__(self, n_differences: int, filters: int, sequence: BipolarSequence) -> None:
        super().__init__()
        self.n_differences = n_differences
        first = max(sequence.sfreq // SHAPE_SFREQ, 1)
        second = sequence.sfreq // first // MOMENT_SFREQ
        taps = sequence.sfreq // 4 + 1 - sequence.sfreq // 4 % 2  # a quarter of a second, odd
        self.shape = nn.Conv1d(4 if sequence.quality else 1, filters, taps, stride=first, padding=taps // 2)
        self.refine = nn.Conv1d(filters, filters, 5, padding=2)
        self.moments = nn.Conv1d(filters, filters, 2 * second + 1, stride=second, padding=second)

    def forward(self, sequence: Tensor) -> Tensor:
        rows = sequence.unflatten(1, (-1, self.n_differences)).transpose(1, 2)  # (batch, differences, 1 or 4, time)
        x = silu(self.shape(rows.flatten(0, 1)))
        x = x + silu(self.refine(x))
        x = silu(self.moments(x))
        return x.unflatten(0, (-1, self.n_differences)).flatten(1, 2)


class RotaryAttention(nn.Module):
    """Every moment looks at all others. Queries and keys are turned by angles that grow with time, so that what
    counts is how far apart two moments are (rotary embedding, Su et al. 2021)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)

    @staticmethod
    def turn(x: Tensor) -> Tensor:  # (batch, heads, moments, features): feature k and k + half are a plane
        half = x.shape[-1] // 2
        rates = 10_000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)  # radians a moment
        angles = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)[:, None] * rates
        cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        first, second = x.split(half, dim=-1)
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)

    def forward(self, x: Tensor) -> Tensor:  # (batch, moments, width)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.project(x).chunk(3, dim=-1)
        )
        seen = scaled_dot_product_attention(self.turn(query), self.turn(key), value)
        return self.merge(seen.transpose(1, 2).flatten(2))


class MomentConvolution(nn.Module):
    """Features mixed, each convolved along time by itself, mixed again. Normalised at each moment, not over the
    batch as published, so that an answer never depends on the batch it came in."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, width)
        self.along = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # (batch, moments, width)
        x = self.along(silu(self.widen(x)).transpose(1, 2)).transpose(1, 2)
        return self.mix(silu(self.norm(x)))


class ScaledResidual(nn.Module):
    """A module around which its input is added, normalised after it; its own input is scaled and shifted by learned
    numbers, which replaces a second normalisation."""

    def __init__(self, width: int, module: nn.Module, dropout: float) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.module = module
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:  # (batch, moments, width)
        return self.norm(x + self.dropout(self.module(x * self.scale + self.shift)))


def feed_forward(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))


def squeezeformer_layer(config: WaveSqueezeformerConfig) -> nn.Module:
    """Attention, feed-forward, convolution, feed-forward, each in its residual (Kim et al. 2022, without the U-Net
    over time, which pays from thousands of moments on)."""
    width = config.width
    modules = (
        RotaryAttention(width, config.heads),
        feed_forward(width),
        MomentConvolution(width, config.kernel),
        feed_forward(width),
    )
    return nn.Sequential(*(ScaledResidual(width, module, config.dropout) for module in modules))


class WaveSqueezeformer(nn.Module):
    """(batch, differences or, with their quality, four times as many, 50 s) -> (batch, 6) logits.

    Each difference alone down to 10 moments a second; all of them projected to `width` features of a moment;
    Squeezeformer layers between the moments; two looks at the result, the labelled central 10 s and the whole
    50 s, each pooled by attention. Any montage, any rate of the sequence.
    """

    def __init__(self, config: WaveSqueezeformerConfig, sequence: BipolarSequence) -> None:
        super().__init__()
        width, n_differences = config.width, len(MONTAGES[sequence.montage])
        self.stem = DifferenceStem(n_differences, config.filters, sequence)
        self.project = nn.Sequential(nn.Linear(n_differences * config.filters, width), nn.LayerNorm(width))
        self.layers = nn.Sequential(*(squeezeformer_layer(config) for _ in range(config.layers)))
        self.pool_labelled, self.pool_window = AttentionPooling(width), AttentionPooling(width)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(2 * width, len(PATTERNS))

    def forward(self, sequence: Tensor) -> Tensor:
        moments = self.layers(self.project(self.stem(signed_log(sequence)).transpose(1, 2)))  # (batch, 500, width)
        labelled = labelled_seconds(moments.transpose(1, 2), MOMENT_SFREQ).transpose(1, 2)
        looks = [self.pool_labelled(labelled), self.pool_window(moments)]
        return self.classifier(self.dropout(torch.cat(looks, dim=1)))
