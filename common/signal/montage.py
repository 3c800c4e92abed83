"""Electrodes to bipolar differences, and the symmetries of the head and of time.

A difference of neighbours removes what both electrodes share: the reference, mains and drift. The symmetries act
on raw windows, electrodes and regions alike, so that augmentation and views mean the same for every input.
"""

import itertools

import torch
from torch import Tensor

from common.schema import CHAINS, ELECTRODES, MIDLINE, REGIONS

Pair = tuple[str, str]  # anode, cathode


def neighbours(chain: tuple[str, ...]) -> tuple[Pair, ...]:
    """The differences of a chain, front to back: (Fp1, F7, T3) -> ((Fp1, F7), (F7, T3))."""
    return tuple(itertools.pairwise(chain))


def chain_pairs(regions: tuple[str, ...]) -> tuple[Pair, ...]:
    """Four differences for each of these regions, in their order."""
    return tuple(pair for region in regions for pair in neighbours(CHAINS[region]))


CHAIN_PAIRS = chain_pairs(REGIONS)
# The double banana a neurologist reads: the chains and the midline, 18 differences.
DOUBLE_BANANA = CHAIN_PAIRS + neighbours(MIDLINE)
LEFT = neighbours(CHAINS["LL"]) + neighbours(CHAINS["LP"])
RIGHT = neighbours(CHAINS["RL"]) + neighbours(CHAINS["RP"])  # each the mirror image of the one at its place in LEFT
MONTAGES = {
    "chains": CHAIN_PAIRS,
    "double-banana": DOUBLE_BANANA,
    # Every difference beside its mirror image, so that a narrow convolution over channels compares the sides.
    "interleaved": tuple(itertools.chain(*zip(LEFT, RIGHT, strict=True))) + neighbours(MIDLINE),
    "mirrored-pairs": LEFT + RIGHT + neighbours(MIDLINE),  # k and k + 8 mirror each other
}


def bipolar(eeg: Tensor, pairs: tuple[Pair, ...]) -> Tensor:
    """Differences anode - cathode.

    eeg: (..., 20, time) microvolts in schema order. Returns (..., pairs, time) microvolts.
    Rows are picked and subtracted, not multiplied by a matrix of +-1: there a missing electrode
    (NaN) would spread to every channel through 0 * NaN.
    """
    anodes = torch.tensor([ELECTRODES.index(anode) for anode, _ in pairs], device=eeg.device)
    cathodes = torch.tensor([ELECTRODES.index(cathode) for _, cathode in pairs], device=eeg.device)
    return eeg.index_select(-2, anodes) - eeg.index_select(-2, cathodes)


# ---- symmetries of raw windows: eeg (..., 20, time) in schema order, spectrogram (..., 4, frequency, time)


def electrode_sources(regions: tuple[str, ...]) -> list[int]:
    """Row of the electrode that each electrode's signal is taken from when the chains of `regions` take the
    places of REGIONS. The two chains of a side share their ends, so they must stay on one side."""
    sources: dict[str, str] = {}
    for place, region in zip(REGIONS, regions, strict=True):
        sources |= zip(CHAINS[place], CHAINS[region], strict=True)
    return [ELECTRODES.index(sources.get(electrode, electrode)) for electrode in ELECTRODES]


MIRRORED = ("RL", "LL", "RP", "LP")


def mirror_eeg(eeg: Tensor) -> Tensor:
    """Left and right hemisphere exchanged."""
    return eeg[..., electrode_sources(MIRRORED), :]


def mirror_spectrogram(spectrogram: Tensor) -> Tensor:
    """Left and right regions exchanged."""
    return spectrogram[..., [REGIONS.index(region) for region in MIRRORED], :, :]


def reverse_time(values: Tensor) -> Tensor:
    """The last sample first: rhythms stay, evolution runs backwards."""
    return values.flip(-1)


def shift_time(values: Tensor, steps: int) -> Tensor:
    """values[..., t + steps] at t: the window `steps` later, or earlier if negative; NaN beyond its ends."""
    shifted = torch.full_like(values, torch.nan)
    n_time = values.shape[-1]
    if abs(steps) < n_time:
        shifted[..., max(-steps, 0) : n_time - max(steps, 0)] = values[..., max(steps, 0) : n_time + min(steps, 0)]
    return shifted
