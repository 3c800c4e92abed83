"""build_input: the only maker of model input, for training and inference alike.

Every window is made by itself, in operations of fixed shape: the same window gives the same bits
whatever the batch, its order or the caller. (A product over the whole batch may be split
differently for another batch size, and then rounds differently.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from common.config import BipolarSequence, EegMelImage, KaggleImage, Part, Strict
from common.filters import band_pass, fill_gaps
from common.montage import CHAIN_PAIRS, DOUBLE_BANANA, bipolar
from common.schema import REGIONS, SFREQ
from common.spectrogram import mel_decibels

LOG_RANGE = (-4.0, 8.0)  # log power outside is clipped: e^-4 ... e^8 uV^2/Hz


@dataclass(frozen=True)
class Windows:
    """A batch of raw windows, NaN where missing. What a model does not look at may be None.

    eeg: (batch, 20, 10000) microvolts; spectrogram: (batch, 4, 100, 300) power.
    """

    eeg: Tensor | None
    spectrogram: Tensor | None


def needs_eeg(config: Strict) -> bool:
    return isinstance(config, EegMelImage | BipolarSequence)


def build_input(windows: Windows, config: Strict) -> Tensor:
    """Model input of a batch, float32 on the windows' device, never NaN.

    kaggle-image: (batch, 1, 400, columns per part); eeg-mel-image: (batch, 1, 512, 256 per part), both
    with the lowest frequency first in each panel; bipolar-sequence: (batch, 18, time).
    """
    makers = {KaggleImage: kaggle_image, EegMelImage: eeg_mel_image, BipolarSequence: bipolar_sequence}
    raw = windows.eeg if needs_eeg(config) else windows.spectrogram
    if raw is None:
        raise ValueError(f"{type(config).__name__} needs the {'EEG' if needs_eeg(config) else 'spectrogram'}")
    return torch.stack([makers[type(config)](window, config) for window in raw])  # type: ignore[operator]


def kaggle_image(spectrogram: Tensor, config: KaggleImage) -> Tensor:
    """(4, 100, 300) power -> (1, 400, columns per part). NaN becomes the mean, which is 0."""
    first = (spectrogram.shape[-1] - config.columns) // 2
    power = spectrogram[..., first : first + config.columns].double()  # a constant panel must end as 0, not as noise
    log_power = power.log().clamp(*LOG_RANGE)  # NaN stays NaN; log 0 = -inf is clipped
    over = (-2, -1) if config.standardise == "panel" else (-3, -2, -1)
    mean = log_power.nanmean(dim=over, keepdim=True)
    deviation = (log_power - mean).square().nanmean(dim=over, keepdim=True).sqrt()
    panels = ((log_power - mean) / (deviation + 1e-6)).nan_to_num(nan=0.0).float()
    return compose(panels, config.parts)


def eeg_mel_image(eeg: Tensor, config: EegMelImage) -> Tensor:
    """(20, 10000) microvolts -> (1, 512, 256 per part), about -1 ... 1.

    Decibels below each difference's maximum, (dB + 40) / 40, averaged over a chain's four differences.
    """
    decibels = mel_decibels(fill_gaps(bipolar(eeg, CHAIN_PAIRS)))  # (16, 128, 256)
    panels = ((decibels + 40) / 40).unflatten(0, (len(REGIONS), -1)).mean(dim=1)
    return compose(panels, config.parts)


def bipolar_sequence(eeg: Tensor, config: BipolarSequence) -> Tensor:
    """(20, 10000) microvolts -> (18, time) in units of `scale` microvolts at `sfreq` Hz."""
    differences = fill_gaps(bipolar(eeg, DOUBLE_BANANA))
    passed = band_pass(differences, config.low, config.high)
    return passed.clamp(-config.clip, config.clip)[..., :: SFREQ // config.sfreq] / config.scale


def compose(panels: Tensor, parts: tuple[Part, ...]) -> Tensor:
    """(4, height, width) panels -> (1, 4 height, width per part): parts side by side."""
    makers = {"image": lambda x: x, "percentiles": percentiles, "global": global_features}
    return torch.cat([makers[part](panels).flatten(0, 1) for part in parts], dim=-1).unsqueeze(0)


def percentiles(panels: Tensor) -> Tensor:
    """20, 40, 60 and 80 % over the four panels, linearly interpolated: fixed mixes of the sorted values."""
    x0, x1, x2, x3 = panels.sort(dim=0).values
    return torch.stack([0.4 * x0 + 0.6 * x1, 0.8 * x1 + 0.2 * x2, 0.2 * x1 + 0.8 * x2, 0.6 * x2 + 0.4 * x3])


def global_features(panels: Tensor) -> Tensor:
    """Minimum, maximum, mean and range over the four panels."""
    low, high = panels.amin(dim=0), panels.amax(dim=0)
    return torch.stack([low, high, panels.mean(dim=0), high - low])
