"""Images of windows: from panels or maps to (batch, channels, height, width), lowest frequency first in each panel."""

import torch
from torch import Tensor

from common.inputs.bipolar_sequence import filtered_differences
from common.inputs.config import (
    PUBLISHED_CONSTANTS,
    Crop,
    EegMelImage,
    EegSpectra,
    KaggleImage,
    Part,
    RawImage,
    Side,
    Size,
    Standardise,
)
from common.schema import SFREQ
from common.signal.filters import fill_gaps
from common.signal.montage import bipolar, chain_pairs
from common.signal.spectra import density, mel_power
from common.signal.wavelets import denoise

LOG_RANGE = (-4.0, 8.0)  # log power outside is clipped: e^-4 ... e^8 uV^2/Hz
AXIS = {"channels": -3, "below": -2, "beside": -1}

# The public mel recipe: 1024-point transform of 128 samples, hop 10,000 // 256, 128 mels up to 20 Hz.
MEL_WINDOW, MEL_HOP, MEL_NFFT, N_MELS, MEL_HIGH = 128, 39, 1024, 128, 20.0
MEL_FRAMES = 256
MEL_CHAINS = ("LL", "LP", "RL", "RP")  # the recipe stacks the left side above the right one
MEL_SMALLEST = 1e-10  # power below counts as this much
DECIBEL_FLOOR = 1e-8  # of the maximum: -80 dB


def central_time(values: Tensor, length: int) -> Tensor:
    first = (values.shape[-1] - length) // 2
    return values[..., first : first + length]


def join_images(images: list[Tensor], side: str) -> Tensor:
    """Images (batch, channels, height, width) to one. Raises ValueError when they do not fit."""
    axis = AXIS[side]
    shapes = [[size for k, size in enumerate(image.shape) if k != 4 + axis] for image in images]
    if any(shape != shapes[0] for shape in shapes):
        found = ", ".join(" x ".join(map(str, image.shape[1:])) for image in images)
        raise ValueError(f"images of {found} (channels x height x width) do not fit {side}; give them a size")
    return torch.cat(images, dim=axis)


def resized(image: Tensor, size: Size | None) -> Tensor:
    """(batch, channels, height, width) to another height and width, bilinear as cv2.resize; None leaves it."""
    if size is None or tuple(image.shape[-2:]) == size:
        return image
    # In double: torch would place the new pixels between the old ones only to 1e-5 of a pixel.
    exact = torch.nn.functional.interpolate(image.double(), size=size, mode="bilinear", align_corners=False)
    return exact.float()


# ---- four panels and what is derived from them


def percentiles(panels: Tensor) -> Tensor:
    """20, 40, 60 and 80 % over the four panels, linearly interpolated: fixed mixes of the sorted values.

    Sorted by five comparisons; (batch, 4, height, width) -> the same.
    """
    a, b, c, d = panels.unbind(dim=-3)
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    also_low, also_high = torch.minimum(c, d), torch.maximum(c, d)
    x0, x3 = torch.minimum(low, also_low), torch.maximum(high, also_high)
    one, other = torch.maximum(low, also_low), torch.minimum(high, also_high)
    x1, x2 = torch.minimum(one, other), torch.maximum(one, other)
    return torch.stack([x0.lerp(x1, 0.6), x1.lerp(x2, 0.2), x1.lerp(x2, 0.8), x2.lerp(x3, 0.4)], dim=-3)


def global_features(panels: Tensor) -> Tensor:
    """Minimum, maximum, mean and range over the four panels; (batch, 4, height, width) -> the same."""
    low, high = panels.amin(dim=-3), panels.amax(dim=-3)
    return torch.stack([low, high, panels.mean(dim=-3), high - low], dim=-3)


def compose(image: Tensor, source: Tensor, parts: tuple[Part, ...], side: Side) -> Tensor:
    """Panels (batch, 4, height, width) -> (batch, 1, ...): each part's four panels stacked, the parts joined.
    Percentiles and global features are taken from `source`, panels standardised for them."""
    made = []
    for part in parts:
        panels = image if part == "image" else percentiles(source) if part == "percentiles" else global_features(source)
        made.append(panels.flatten(1, 2).unsqueeze(1))
    return join_images(made, side)


# ---- the competition's spectrogram


def kaggle_log_power(spectrogram: Tensor, config: KaggleImage) -> Tensor:
    """(batch, 4, 100, 300) power -> its clipped logarithm, NaN where it is missing: the columns that are shown or,
    where all are standardised over, all."""
    power = spectrogram if config.standardise_over == "window" else central_time(spectrogram, config.columns)
    if config.missing == "silence":
        power = power.nan_to_num(nan=0.0)
    return power.log().clamp(*LOG_RANGE)  # NaN stays NaN; log 0 = -inf is clipped


def mean_and_deviation(log_power: Tensor, over: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Over what is not NaN, float64; deviation without correction for the mean (numpy's nanstd). Axes stay, of
    length 1. In float64, so that a constant panel becomes 0 and not its rounding divided by itself."""
    values = log_power.double()
    if not values.sum().isnan():  # the same numbers in a third of the time
        mean = values.mean(dim=over, keepdim=True)
        return mean, (values - mean).square_().mean(dim=over, keepdim=True).sqrt_()
    mean = values.nanmean(dim=over, keepdim=True)
    return mean, (values - mean).square_().nanmean(dim=over, keepdim=True).sqrt_()


def standardised(log_power: Tensor, how: Standardise) -> Tensor:
    """(log power - mean) / (deviation + 1e-6); NaN becomes the mean, which is 0."""
    if how == "training":
        raise ValueError("constants of the training rows are not measured yet: see common.inputs.build.with_constants")
    constants = PUBLISHED_CONSTANTS.get(how) if isinstance(how, str) else how
    if constants is not None:
        scaled = (log_power - constants.mean) / (constants.deviation + 1e-6)
    else:
        mean, deviation = mean_and_deviation(log_power, (-2, -1) if how == "panel" else (-3, -2, -1))
        scaled = (log_power - mean.float()).div_((deviation + 1e-6).float())
    return scaled.nan_to_num_(nan=0.0)


def kaggle_image(spectrogram: Tensor, config: KaggleImage) -> Tensor:
    """(batch, 4, 100, 300) power -> (batch, 1, 4 panel_rows, columns), and the parts joined to it."""
    log_power = kaggle_log_power(spectrogram, config)
    margin = (config.panel_rows - log_power.shape[-2]) // 2

    def panels(how: Standardise) -> Tensor:
        scaled = central_time(standardised(log_power, how), config.columns) / config.divide
        return torch.nn.functional.pad(scaled, (0, 0, margin, margin)) if margin else scaled

    image = panels(config.standardise)
    other = config.standardise_features
    source = image if other is None or other == config.standardise else panels(other)
    return resized(compose(image, source, config.parts, config.join), config.resize)


# ---- the EEG


def decibel_panel(power: Tensor) -> Tensor:
    """Mel power of a chain's differences (mels, batch, 4, 257) -> their panel (mels, batch, 256), about -1 ... 1.

    Decibels below each difference's own maximum (over all 257 frames, of which the last is then dropped), at
    least -80, (dB + 40) / 40, averaged. The sum of four logarithms is the logarithm of a product: 1e-8^4 is
    still within float32.
    """
    peak = power.amax(dim=(0, 3), keepdim=True).clamp(min=MEL_SMALLEST)
    floor = (MEL_SMALLEST / peak).clamp(min=DECIBEL_FLOOR)
    ratio = (power * (1 / peak)).maximum(floor)[..., :MEL_FRAMES]
    product = ratio[:, :, 0] * ratio[:, :, 1] * ratio[:, :, 2] * ratio[:, :, 3]
    return product.log10_().div_(16).add_(1)


def eeg_mel_image(eeg: Tensor, config: EegMelImage) -> Tensor:
    """(batch, 20, 10000) microvolts -> (batch, 1, 512, 256), the panels of MEL_CHAINS stacked, and the parts joined."""
    differences = fill_gaps(bipolar(eeg.double(), chain_pairs(MEL_CHAINS)))
    if config.denoise:
        differences = denoise(differences, config.denoise)
    power = mel_power(differences.flatten(0, 1), MEL_WINDOW, MEL_HOP, MEL_NFFT, N_MELS, 0.0, MEL_HIGH)
    chains = power.unflatten(1, (len(eeg), len(MEL_CHAINS), -1)).unbind(dim=2)  # of (mels, batch, 4, 257)
    panels = torch.stack([decibel_panel(chain) for chain in chains]).permute(2, 0, 1, 3)
    return resized(compose(panels, panels, config.parts, config.join), config.resize)


def shrunk(waves: Tensor, columns: int) -> Tensor:
    """(batch, differences, time) to (batch, differences, columns), each the weighted mean of what is around it."""
    size = (waves.shape[1], columns)
    return torch.nn.functional.interpolate(
        waves.unsqueeze(1), size=size, mode="bilinear", align_corners=False, antialias=True
    ).squeeze(1)


def raw_image(eeg: Tensor, config: RawImage) -> Tensor:
    """(batch, 20, 10000) microvolts -> (batch, copies, rows, columns): the differences one below the other, crop
    below crop."""
    waves = filtered_differences(eeg.double(), config).float() / config.scale
    crops = [central_time(waves, seconds * SFREQ) for seconds in config.crops]
    if config.rows == "folded":
        rows = [crop.unflatten(-1, (-1, config.columns)).flatten(1, 2) for crop in crops]
    else:
        rows = [shrunk(crop, config.columns) for crop in crops]
    image = torch.cat(rows, dim=1).unsqueeze(1).expand(-1, config.copies, -1, -1)
    return resized(image, config.resize)


def spectra_of_crop(waves: Tensor, crop: Crop, config: EegSpectra) -> Tensor:
    """(batch, differences, 10000) -> maps (batch, differences, frequencies, columns), scaled and resized."""
    signals = central_time(waves, crop.seconds * SFREQ).flatten(0, 1)
    power = density(signals, crop.transform).unflatten(1, waves.shape[:2]).permute(1, 2, 0, 3)
    if config.scale == "peak":
        power = power.clamp(min=MEL_SMALLEST)
        ratio = (power / power.amax(dim=(-2, -1), keepdim=True)).clamp(min=DECIBEL_FLOOR)
        maps = ratio.log10_().div_(4).add_(1)  # (dB + 40) / 40
    else:
        maps = (power.log().clamp(*LOG_RANGE) - config.mean) / config.deviation
    return resized(maps, crop.size)


def tile(maps: Tensor, in_a_row: int) -> Tensor:
    """(batch, maps, height, width) -> (batch, 1, maps / in_a_row height, in_a_row width), row by row."""
    rows = maps.unflatten(1, (-1, in_a_row))  # (batch, rows, in_a_row, height, width)
    return rows.transpose(2, 3).flatten(3, 4).flatten(1, 2).unsqueeze(1)


def eeg_spectra(eeg: Tensor, config: EegSpectra) -> Tensor:
    """(batch, 20, 10000) microvolts -> (batch, 1 or differences, height, width): crops joined, tiled or in depth."""
    waves = filtered_differences(eeg.double(), config)  # in float64, as far as the spectra want it
    maps = [spectra_of_crop(waves, crop, config) for crop in config.crops]
    images = [tile(crop, config.tiles) if config.layout == "tiled" else crop for crop in maps]
    return resized(join_images(images, config.join), config.resize)
