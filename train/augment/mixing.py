"""Augmentation across the windows of a batch: mixup, CutMix and mosaic; and masks on the model's input.

All is drawn on the CPU from a generator that is given: the same on every device, and again after a resume. Sources:
the seed repository's notebooks (CutMix, mosaic), Zhang et al. 2018 (mixup), Park et al. 2019 (masks).
"""

from dataclasses import dataclass
from typing import Literal, Self

import scipy.special
import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d

from common.inputs.base import Windows
from common.schema import PATTERNS
from common.strict import Strict
from train.augment.signal import Chance

Mixed = tuple[Tensor, Tensor, Tensor]  # model input, target (batch, 6), number of votes (batch,)
STRIPS = 4  # of a mosaic


# ---- options


class MixUp(Strict):
    """Windows blended with others of the batch, and their votes likewise: lambda from Beta(alpha, alpha)."""

    chance: Chance = 1.0  # of a batch
    alpha: float = Field(default=0.4, gt=0, le=10)
    of: Literal["signal", "image"] = "image"  # raw windows (microvolts, power), or finished model input


class CutMix(Strict):
    """Bands exchanged between images of the same class; their votes stay. As published, with the axis right."""

    chance: Chance = 0.4  # of a batch
    threshold: float = Field(default=0.5, gt=0, le=1)  # share of votes that makes a row one of a class
    margin: int = Field(default=50, ge=0)  # a band starts in so many steps at either end
    smallest: int = Field(default=25, ge=1)  # steps
    largest: int = Field(default=75, ge=1)
    length: int = Field(default=300, ge=1)  # steps of the axis from which bands are drawn
    second_cut: bool = False  # the same band again `length` steps later: in the image's other half
    axis: Literal["time", "frequency"] = "time"  # the published runs cut frequency where time was meant

    @model_validator(mode="after")
    def band_fits(self) -> Self:
        if not self.smallest <= self.largest <= self.length - self.margin:
            raise ValueError(
                f"bands of {self.smallest} to {self.largest} steps with margin = {self.margin} do not fit {self.length}"
            )
        return self


class XYMask(Strict):
    """Bands of time and of frequency set to 0, the mean of a standardised image."""

    chance: Chance = 0.5  # of an image
    time_masks: int = Field(default=2, ge=0)
    time_share: float = Field(default=0.1, gt=0, le=1)  # of the width, at most
    frequency_masks: int = Field(default=2, ge=0)
    frequency_share: float = Field(default=0.05, gt=0, le=1)  # of the height, at most


class MixingAugment(Strict):
    mixup: MixUp | None = None
    cutmix: CutMix | None = None
    mosaic: bool = False  # every image four others of the batch side by side, each thinned to a quarter of its time
    mask: XYMask | None = None


OF_IMAGES = ("cutmix", "mosaic", "mask")  # these need an image

# ---- the order of things


def mix_windows(
    windows: Windows, target: Tensor, n_votes: Tensor, augment: MixingAugment, generator: Generator
) -> tuple[Windows, Tensor, Tensor]:
    """Raw windows mixed up, when that is what `mixup` is of; else what was given.

    Microvolts and power are blended linearly. What one of two windows lacks is the other's alone, so that
    mixtures have no more gaps than the EEG has.
    """
    if augment.mixup is None or augment.mixup.of != "signal" or not happens_now(augment.mixup.chance, generator):
        return windows, target, n_votes
    blend = draw_blend(augment.mixup, len(target), generator)
    kinds = (windows.eeg, windows.spectrogram)
    return (
        Windows(*(None if kind is None else blend.of_known(kind) for kind in kinds)),
        blend.of(target),
        blend.of(n_votes),
    )


def mix_images(
    images: Tensor,
    target: Tensor,
    n_votes: Tensor,
    augment: MixingAugment,
    generator: Generator,
    cast: Tensor | None = None,
) -> Mixed:
    """Mosaic, CutMix, mixup and masks, in this order, those that the config asks for.

    images: model input, (batch, channels, height, width); of mixup also sequences (batch, channels, time).
    n_votes (batch,) of a mixture are mixed as its target is. cast: the shares of votes (batch, 6) by which CutMix
    knows a row's class, where targets are smoothed or have pseudo labels; mixtures are known by their targets.
    """
    if augment.mosaic:
        images, target, n_votes = mosaic(images, target, n_votes, generator)
    if augment.cutmix is not None and happens_now(augment.cutmix.chance, generator):
        mixed = augment.mosaic or (augment.mixup and augment.mixup.of == "signal")
        classes = target if cast is None or mixed else cast
        images = cut_bands(images, classes, augment.cutmix, draw_cuts(augment.cutmix, len(images), generator))
    if augment.mixup is not None and augment.mixup.of == "image" and happens_now(augment.mixup.chance, generator):
        blend = draw_blend(augment.mixup, len(images), generator)
        images, target, n_votes = blend.of(images), blend.of(target), blend.of(n_votes)
    if augment.mask is not None:
        images = mask_bands(images, augment.mask, generator)
    return images, target, n_votes


def happens_now(chance: float, generator: Generator) -> bool:
    return bool(torch.rand((), generator=generator) < chance)


# ---- mixup


@dataclass(frozen=True)
class Blend:
    """Row i becomes share[i] of itself and the rest of row partner[i]. On the CPU."""

    partner: Tensor  # (batch,)
    share: Tensor  # (batch,)

    def of(self, values: Tensor) -> Tensor:
        """Blended (batch, ...) values."""
        share = self.share.to(values.device, values.dtype).reshape(-1, *[1] * (values.ndim - 1))
        return torch.lerp(values[self.partner], values, share)

    def of_known(self, values: Tensor) -> Tensor:
        """Blended where both are known; elsewhere what is known of one; NaN where neither is."""
        others = values[self.partner]
        return torch.where(values.isnan(), others, torch.where(others.isnan(), values, self.of(values)))


def draw_blend(mixup: MixUp, n_rows: int, generator: Generator) -> Blend:
    """Partners by a random order of the batch; a share from Beta(alpha, alpha) for each row, as one for the whole
    batch would make a step's mixtures all alike. Beta by its inverse distribution: one uniform number each."""
    partner = torch.randperm(n_rows, generator=generator)
    uniform = torch.rand(n_rows, generator=generator, dtype=torch.float64).numpy()
    share = torch.from_numpy(scipy.special.betaincinv(mixup.alpha, mixup.alpha, uniform))
    return Blend(partner, share)


# ---- mosaic


def mosaic(images: Tensor, target: Tensor, n_votes: Tensor, generator: Generator) -> Mixed:
    """Each image replaced by four of the batch, drawn with replacement, side by side in time, each pooled to a
    quarter of its width; target and votes are the means of the four.

    As published, where the width is a multiple of 4. Else quarters are rounded up, and what the fourth has too much is
    cut off.
    """
    drawn = torch.randint(len(images), (len(images), STRIPS), generator=generator).to(images.device)
    quarters = avg_pool2d(images, (1, STRIPS), ceil_mode=True)  # (batch, channels, height, width / 4)
    strips = quarters[drawn].movedim(1, 3)  # (batch, channels, height, 4, width / 4)
    return strips.flatten(3)[..., : images.shape[-1]], target[drawn].mean(dim=1), n_votes[drawn].mean(dim=1)


# ---- CutMix


@dataclass(frozen=True)
class Cuts:
    """Of each class: an order of the batch's rows that decides who gives to whom, and where the band lies."""

    keys: Tensor  # (6, batch); rows of a class take from each other in the order of these
    start: Tensor  # (6,) steps
    size: Tensor  # (6,) steps


def draw_cuts(cutmix: CutMix, n_rows: int, generator: Generator) -> Cuts:
    """Bands begin in the first `margin` steps of `length`, or as near to its end as the longest fits in."""
    n_classes = len(PATTERNS)
    late = torch.randint(2, (n_classes,), generator=generator)
    start = torch.randint(cutmix.margin + 1, (n_classes,), generator=generator)
    return Cuts(
        torch.rand(n_classes, n_rows, generator=generator),
        start + late * (cutmix.length - cutmix.largest - cutmix.margin),
        torch.randint(cutmix.smallest, cutmix.largest + 1, (n_classes,), generator=generator),
    )


def cut_bands(images: Tensor, target: Tensor, cutmix: CutMix, cuts: Cuts) -> Tensor:
    """Images (batch, channels, height, width) with a band from another of their class, for each class in order.

    Rows with at least `threshold` of the votes for a class are of it; a random order says from which of them each
    takes the band, at its place in the image that was given, whatever was cut before; later classes write over
    earlier ones. Targets stay. What reaches beyond the image is cut off. On axis "frequency" the band lies across the
    image's height: the published runs' mistake, with its constants meant for 300 steps of time.
    """
    axis = -1 if cutmix.axis == "time" else -2
    step = torch.arange(images.shape[axis], device=images.device)
    taken_from = torch.arange(len(images), device=images.device)[:, None].repeat(1, len(step))  # (batch, steps)
    starts, sizes = (drawn.to(images.device)[:, None] for drawn in (cuts.start, cuts.size))
    bands = (step >= starts) & (step < starts + sizes)  # (6, steps)
    if cutmix.second_cut:
        later = starts + cutmix.length
        bands |= (step >= later) & (step < later + sizes)
    for member, keys, band in zip((target >= cutmix.threshold).T, cuts.keys.to(images.device), bands, strict=True):
        in_order = keys.masked_fill(~member, torch.inf).argsort()  # members first, in random order
        giver = in_order[(member.cumsum(0) - 1).clamp(min=0)]  # the k-th member takes from the k-th of the order
        taken_from = torch.where(member[:, None] & band, giver[:, None], taken_from)
    index = taken_from[:, None, None, :] if axis == -1 else taken_from[:, None, :, None]
    return images.gather(0, index.expand_as(images))


# ---- masks


def mask_bands(images: Tensor, mask: XYMask, generator: Generator) -> Tensor:
    """Bands of time and of frequency set to 0, drawn for each image (batch, channels, height, width) alone."""
    chosen = torch.rand(len(images), generator=generator) < mask.chance
    height, width = images.shape[-2:]
    columns = draw_bands(mask.time_masks, mask.time_share, len(images), width, generator) & chosen[:, None]
    rows = draw_bands(mask.frequency_masks, mask.frequency_share, len(images), height, generator) & chosen[:, None]
    covered = rows.to(images.device)[:, None, :, None] | columns.to(images.device)[:, None, None, :]
    return images.masked_fill(covered, 0.0)


def draw_bands(number: int, largest_share: float, n_rows: int, n_steps: int, generator: Generator) -> Tensor:
    """Steps inside one of `number` bands of each row, (n_rows, n_steps) bool. A band is 1 step long to largest_share
    of all, and lies inside."""
    largest = max(1, int(largest_share * n_steps))
    size = torch.randint(1, largest + 1, (n_rows, number, 1), generator=generator)
    drawn = torch.rand(n_rows, number, 1, generator=generator, dtype=torch.float64)
    start = (drawn * (n_steps - size + 1)).long()
    step = torch.arange(n_steps)
    return ((step >= start) & (step < start + size)).any(dim=1)
