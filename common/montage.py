"""Electrodes to bipolar differences.

A difference of neighbours removes what both electrodes share: the reference, mains and drift.
"""

import itertools

import torch
from torch import Tensor

from common.schema import CHAINS, ELECTRODES, MIDLINE, REGIONS

Pair = tuple[str, str]  # anode, cathode


def neighbours(chain: tuple[str, ...]) -> tuple[Pair, ...]:
    """The differences of a chain, front to back: (Fp1, F7, T3) -> ((Fp1, F7), (F7, T3))."""
    return tuple(itertools.pairwise(chain))


# Four differences for each of the four regions, in the order of REGIONS.
CHAIN_PAIRS = tuple(pair for region in REGIONS for pair in neighbours(CHAINS[region]))
# The double banana a neurologist reads: the chains and the midline, 18 differences.
DOUBLE_BANANA = CHAIN_PAIRS + neighbours(MIDLINE)


def bipolar(eeg: Tensor, pairs: tuple[Pair, ...]) -> Tensor:
    """Differences anode - cathode.

    eeg: (..., 20, time) microvolts in schema order. Returns (..., pairs, time) microvolts.
    Rows are picked and subtracted, not multiplied by a matrix of +-1: there a missing electrode
    (NaN) would spread to every channel through 0 * NaN.
    """
    anodes = torch.tensor([ELECTRODES.index(anode) for anode, _ in pairs], device=eeg.device)
    cathodes = torch.tensor([ELECTRODES.index(cathode) for _, cathode in pairs], device=eeg.device)
    return eeg.index_select(-2, anodes) - eeg.index_select(-2, cathodes)


def opposite(electrode: str) -> str:
    """The electrode on the other side: odd numbers are left, even ones right; the midline stays."""
    number = electrode[-1]
    if not number.isdigit():
        return electrode
    return electrode[:-1] + str(int(number) + (1 if int(number) % 2 else -1))


def mirror_eeg(eeg: Tensor) -> Tensor:
    """Left and right hemisphere exchanged; eeg (..., 20, time) in schema order."""
    order = [ELECTRODES.index(opposite(electrode)) for electrode in ELECTRODES]
    return eeg[..., order, :]


def mirror_spectrogram(spectrogram: Tensor) -> Tensor:
    """Left and right regions exchanged; spectrogram (..., 4, frequency, time), regions LL, RL, RP, LP."""
    other_side = {"L": "R", "R": "L"}
    order = [REGIONS.index(other_side[region[0]] + region[1]) for region in REGIONS]
    return spectrogram[..., order, :, :]
