"""A one-dimensional net over the bipolar EEG."""

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from common.inputs.bipolar_sequence import BipolarSequence
from common.models.base import Kernel, NetConfig, Rate
from common.schema import LABELLED_SECONDS, MIDLINE, PATTERNS, WINDOW_SECONDS
from common.signal.montage import LEFT, MONTAGES, RIGHT, neighbours

TRUNK_SFREQ = 50  # Hz at which the trunk works: twice and a half the band
FINE_SFREQ = 10  # Hz of the labelled 10 s as the recurrent layer reads them
COARSE_SFREQ = 2  # Hz of the 50 s of context


class WaveNetConfig(NetConfig):
    """Dilated gated convolutions over both hemispheres."""

    reads: ClassVar[Literal["image", "sequence"]] = "sequence"

    kind: Literal["wave-net"] = "wave-net"
    # Channels of the trunk; half of them in each direction of time.
    width: int = Field(default=64, ge=8, le=4096, multiple_of=2)
    kernel: Kernel = 3  # samples at 50 Hz
    # Samples at 50 Hz; these see 2.5 s.
    dilations: Annotated[tuple[Annotated[int, Field(ge=1, le=1250)], ...], Field(min_length=1)] = (1, 2, 4, 8, 16, 32)
    drop_channel: Rate = 0.1  # share of differences silenced while training
    dropout: Rate = 0.3

    def check_input(self, input_config: Any) -> None:
        if input_config.sfreq % TRUNK_SFREQ:
            raise ValueError(
                f"model 'wave-net' works at {TRUNK_SFREQ} Hz: input.sfreq = {input_config.sfreq} is no multiple"
            )
        if input_config.montage == "chains":
            raise ValueError("model 'wave-net' looks at the midline too: input.montage = 'chains' lacks it")

    def build(self, input_config: Any, shape: tuple[int, ...]) -> nn.Module:
        return WaveNet(self, input_config)

    def describe(self) -> str:
        return f"wave-net, {self.width} wide"


def hemispheres(sequence: BipolarSequence) -> tuple[list[int], list[int]]:
    """Rows of the sequence that belong to each side, with the midline, front to back alike; behind them, when
    the sequence carries channel quality, the rows that tell theirs."""
    pairs = MONTAGES[sequence.montage]
    sides = [[pairs.index(pair) for pair in (*side, *neighbours(MIDLINE))] for side in (LEFT, RIGHT)]
    blocks = range(0, 4 * len(pairs) if sequence.quality else 1, len(pairs))  # signals, missing, flat, clipped
    left, right = ([first + row for first in blocks for row in side] for side in sides)
    return left, right


def signed_log(sequence: Tensor) -> Tensor:
    """Its signed logarithm: artefacts of millivolts do not drown an EEG of microvolts."""
    return sequence.sign() * sequence.abs().add(1).log()


def labelled_seconds(x: Tensor, sfreq: int) -> Tensor:
    """The central 10 s of (..., 50 s at sfreq), which the experts judged."""
    edge = (WINDOW_SECONDS - LABELLED_SECONDS) // 2 * sfreq
    return x[..., edge : x.shape[-1] - edge]


class GatedBlock(nn.Module):
    """Dilated convolution, tanh gated by a sigmoid, added to its input (as in WaveNet, not causal)."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        same = dilation * (kernel - 1) // 2
        self.norm = nn.GroupNorm(1, width)
        self.gate = nn.Conv1d(width, 2 * width, kernel, dilation=dilation, padding=same)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:  # (batch, width, time)
        wave, gate = self.gate(self.norm(x)).chunk(2, dim=1)
        return x + self.mix(wave.tanh() * gate.sigmoid())


class AttentionPooling(nn.Module):
    """Weighted mean over time; the weights say which moments matter."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:  # (batch, time, width) -> (batch, width)
        return (self.score(x).softmax(dim=1) * x).sum(dim=1)


class WaveNet(nn.Module):
    """(batch, 18 differences or, with their quality, 72, 50 s) -> (batch, 6) logits.

    Each hemisphere, with the midline, goes through the same trunk: a stem to 50 Hz and dilated gated
    convolutions that see a few seconds around each moment. Its two outcomes are merged to their mean
    and their absolute difference, so lateralised is told from generalised and left is not told from
    right. Two looks at the result, the labelled central 10 s at 10 Hz and the whole 50 s at 2 Hz, are
    each read by a bidirectional GRU and pooled by attention. Normalised within a recording, so that an
    answer never depends on the batch it came in.
    """

    def __init__(self, config: WaveNetConfig, sequence: BipolarSequence) -> None:
        super().__init__()
        width = config.width
        stride = sequence.sfreq // TRUNK_SFREQ
        self.drop_channel = nn.Dropout1d(config.drop_channel)
        # Half a second of taps: wide enough to tell a spike from a slow wave.
        taps = sequence.sfreq // 2 + 1 - sequence.sfreq // 2 % 2
        self.hemispheres = hemispheres(sequence)
        self.stem = nn.Conv1d(len(self.hemispheres[0]), width, taps, stride=stride, padding=taps // 2)
        self.blocks = nn.Sequential(*(GatedBlock(width, config.kernel, d) for d in config.dilations))
        self.merge = nn.Conv1d(2 * width, width, 1)
        self.norm = nn.GroupNorm(1, width)
        self.fine = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.coarse = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.pool_fine, self.pool_coarse = AttentionPooling(width), AttentionPooling(width)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(2 * width, len(PATTERNS))

    def forward(self, sequence: Tensor) -> Tensor:
        x = self.drop_channel(signed_log(sequence))
        sides = torch.cat([x[:, channels] for channels in self.hemispheres])  # (2 batch, 10, time)
        left, right = self.blocks(self.stem(sides)).chunk(2)  # (batch, width, 2500) each
        merged = self.merge(torch.cat([left + right, (left - right).abs()], dim=1))
        x = self.norm(merged).relu()
        labelled = labelled_seconds(x, TRUNK_SFREQ)
        fine = nn.functional.avg_pool1d(labelled, TRUNK_SFREQ // FINE_SFREQ).transpose(1, 2)
        coarse = nn.functional.avg_pool1d(x, TRUNK_SFREQ // COARSE_SFREQ).transpose(1, 2)
        looks = [self.pool_fine(self.fine(fine)[0]), self.pool_coarse(self.coarse(coarse)[0])]
        return self.classifier(self.dropout(torch.cat(looks, dim=1)))
