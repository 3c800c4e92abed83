"""Waves of windows: bipolar differences for images of waves and for one-dimensional nets."""

import torch
from torch import Tensor

from common.inputs.config import BipolarSequence, EegSignal
from common.schema import SFREQ
from common.signal.filters import band_pass, fill_gaps
from common.signal.montage import MONTAGES, bipolar


def filtered_differences(eeg: Tensor, config: EegSignal, sfreq: int = SFREQ) -> Tensor:
    """(batch, 20, 10000) microvolts -> (batch, differences, 50 s at sfreq): gaps filled, band-passed, clipped."""
    differences = fill_gaps(bipolar(eeg, MONTAGES[config.montage]))
    return band_pass(differences, config.low, config.high, config.phase, sfreq).clamp(-config.clip, config.clip)


def channel_quality(differences: Tensor, passed: Tensor, clip: float) -> Tensor:
    """What is wrong with each channel, shares of its 50 s, (batch, channels, 3): missing, flat, clipped.

    differences: (batch, channels, time) microvolts, NaN where missing; passed: the same after band-pass and clip, at
    any rate. Flat: equal to the sample before.
    """
    missing = differences.isnan().float().mean(dim=-1)
    flat = (differences[..., 1:] == differences[..., :-1]).float().mean(dim=-1)  # NaN equals nothing
    clipped = (passed.abs() >= clip).float().mean(dim=-1)
    return torch.stack([missing, flat, clipped], dim=-1)


def bipolar_sequence(eeg: Tensor, config: BipolarSequence) -> Tensor:
    """(batch, 20, 10000) microvolts -> (batch, differences, time) in units of `scale` microvolts at `sfreq` Hz.

    With quality, (batch, 4 differences, time): behind the signals the missing share of each, the flat, the clipped,
    constant in time, so that a net of channels x time needs no second entrance.
    """
    passed = filtered_differences(eeg, config, config.sfreq)
    sequence = passed / config.scale
    if not config.quality:
        return sequence
    shares = channel_quality(bipolar(eeg, MONTAGES[config.montage]), passed, config.clip)
    constant = shares.transpose(-2, -1).flatten(1, 2).unsqueeze(-1).expand(-1, -1, sequence.shape[-1])
    return torch.cat([sequence, constant], dim=1)
