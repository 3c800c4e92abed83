"""The public recipe's image: mel spectrograms of the 50 s of EEG, decibels below each difference's maximum."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from common.inputs.base import ImageAxes, Input, Maps, Side, Size, Windows
from common.inputs.panels import DECIBEL_FLOOR, SMALLEST_POWER, Parts, compose, composed_axes, resized
from common.schema import SFREQ
from common.signal.filters import fill_gaps
from common.signal.montage import bipolar, chain_pairs
from common.signal.spectra import mel_power
from common.signal.wavelets import denoise

# A 1024-point transform of 128 samples, hop 10,000 // 256, 128 mels up to 20 Hz.
MEL_WINDOW, MEL_HOP, MEL_NFFT, N_MELS, MEL_HIGH = 128, 39, 1024, 128, 20.0
MEL_FRAMES = 256
MEL_CHAINS = ("LL", "LP", "RL", "RP")  # the recipe stacks the left side above the right one


class EegMelImage(Input):
    """The public recipe's mel spectrogram of the 50 s EEG: four chains of 128 x 256 stacked."""

    kind: Literal["eeg-mel-image"] = "eeg-mel-image"
    denoise: Literal["haar", "db4", "db8", "sym8"] | None = None  # wavelet whose small coefficients are cut
    parts: Parts = ("image",)
    join: Side = "beside"
    resize: Size | None = None

    def make(self, windows: Windows) -> Tensor:
        """(batch, 1, 512, 256): the panels of MEL_CHAINS stacked, and the parts joined."""
        eeg = self.given(windows)
        differences = fill_gaps(bipolar(eeg.double(), chain_pairs(MEL_CHAINS)))
        if self.denoise:
            differences = denoise(differences, self.denoise)
        power = mel_power(differences.flatten(0, 1), MEL_WINDOW, MEL_HOP, MEL_NFFT, N_MELS, 0.0, MEL_HIGH)
        chains = power.unflatten(1, (len(eeg), len(MEL_CHAINS), -1)).unbind(dim=2)  # of (mels, batch, 4, 257)
        panels = torch.stack([decibel_panel(chain) for chain in chains]).permute(2, 0, 1, 3)
        return resized(compose(panels, panels, self.parts, self.join), self.resize)

    def describe(self) -> str:
        return f"EEG mel {' + '.join(self.parts)}"

    def axes(self) -> ImageAxes:
        hertz = tuple(np.linspace(0, MEL_HIGH, N_MELS + 2)[1:-1].tolist())
        step = MEL_HOP / SFREQ  # frame k is centred on k steps
        panels = Maps(MEL_CHAINS, hertz, (-step / 2, (MEL_FRAMES - 0.5) * step), (N_MELS, MEL_FRAMES))
        return composed_axes(panels, self.parts, self.join, self.resize)


def decibel_panel(power: Tensor) -> Tensor:
    """Mel power of a chain's differences (mels, batch, 4, 257) -> their panel (mels, batch, 256), about -1 ... 1.

    Decibels below each difference's own maximum (over all 257 frames, of which the last is then dropped), at
    least -80, (dB + 40) / 40, averaged. The sum of four logarithms is the logarithm of a product: 1e-8^4 is
    still within float32.
    """
    peak = power.amax(dim=(0, 3), keepdim=True).clamp(min=SMALLEST_POWER)
    floor = (SMALLEST_POWER / peak).clamp(min=DECIBEL_FLOOR)
    ratio = (power * (1 / peak)).maximum(floor)[..., :MEL_FRAMES]
    product = ratio[:, :, 0] * ratio[:, :, 1] * ratio[:, :, 2] * ratio[:, :, 3]
    return product.log10_().div_(16).add_(1)
