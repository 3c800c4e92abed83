"""EEG and spectrograms for the tests of model inputs: made up, broken, and real."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch

from common.config import KaggleImage
from common.features import Windows, build_input

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
# Written out here and not taken from common.schema: the tables there are under test as well.
NAMES = (
    *("Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1"),
    *("Fz", "Cz", "Pz"),
    *("Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2", "EKG"),
)
CHAINS = {"LL": "Fp1 F7 T3 T5 O1", "RL": "Fp2 F8 T4 T6 O2", "RP": "Fp2 F4 C4 P4 O2", "LP": "Fp1 F3 C3 P3 O1"}


def real(name):
    if not (DATA / name).exists():
        pytest.skip(f"real data {name} is not beside the repository")
    return DATA / name


def eeg_like(seed, n_time=10_000):
    """(20, n_time) float32 coloured noise of EEG size, with an offset as referential recordings have."""
    noise = np.random.default_rng(seed).normal(size=(20, n_time))
    return (scipy.signal.lfilter([1], [1, -0.95], noise, axis=1) * 8 + 30).astype(np.float32)


def chain_differences(eeg, region):
    rows = [eeg[NAMES.index(name)].astype(np.float64) for name in CHAINS[region].split()]
    return [front - back for front, back in itertools.pairwise(rows)]


def broken_eegs():
    """Normal, gap, silent electrode, all missing, constant, huge, zero: (7, 20, 10000)."""
    eegs = np.stack([eeg_like(seed) for seed in range(7)])
    eegs[1, 4:9, 3000:4500] = np.nan
    eegs[2, 5] = np.nan
    eegs[3] = np.nan
    eegs[4] = 7.3
    eegs[5] *= 1e6 / np.abs(eegs[5]).max()
    eegs[6] = 0
    return eegs


def broken_spectrograms():
    power = np.exp(np.random.default_rng(1).normal(0, 3, (7, 4, 100, 300))).astype(np.float32)
    power[1, :, :, 100:130] = np.nan
    power[2, 3] = np.nan
    power[3] = np.nan
    power[4] = 2.7
    power[5] = 1e6
    power[6] = 0
    return power


def make(windows, config):
    raw = torch.from_numpy(np.ascontiguousarray(windows))
    return build_input(Windows(None, raw) if isinstance(config, KaggleImage) else Windows(raw, None), config)
