"""The montage and the symmetries of head and time, for EEG and spectrogram alike."""

import numpy as np
import pytest
import torch
from eeg_samples import DOUBLE_BANANA, NAMES, eeg_like

from common.signal.montage import MONTAGES, bipolar, electrode_sources, mirror_eeg, mirror_spectrogram, shift_time
from common.signal.spectrogram import competition_spectrogram

REGIONS = ("LL", "RL", "LP", "RP")
EIGHT = [  # each side's two chains exchanged or not, the sides exchanged or not
    *(("LL", "RL", "LP", "RP"), ("LP", "RL", "LL", "RP"), ("LL", "RP", "LP", "RL"), ("LP", "RP", "LL", "RL")),
    *(("RL", "LL", "RP", "LP"), ("RP", "LL", "RL", "LP"), ("RL", "LP", "RP", "LL"), ("RP", "LP", "RL", "LL")),
]
INTERLEAVED = """
    Fp1-F7 Fp2-F8 F7-T3 F8-T4 T3-T5 T4-T6 T5-O1 T6-O2 Fp1-F3 Fp2-F4 F3-C3 F4-C4 C3-P3 C4-P4 P3-O1 P4-O2 Fz-Cz Cz-Pz"""
MIRRORED_PAIRS = """
    Fp1-F7 F7-T3 T3-T5 T5-O1 Fp1-F3 F3-C3 C3-P3 P3-O1 Fp2-F8 F8-T4 T4-T6 T6-O2 Fp2-F4 F4-C4 C4-P4 P4-O2 Fz-Cz Cz-Pz"""


def small_eeg(seed=12):
    return torch.from_numpy(eeg_like(seed, 2000))


# ---- montage


def test_montages_are_written_out():
    written = {name: " ".join("-".join(pair) for pair in pairs) for name, pairs in MONTAGES.items()}
    banana = " ".join("-".join(pair) for pair in DOUBLE_BANANA)
    assert written == {
        "chains": banana.removesuffix(" Fz-Cz Cz-Pz"),
        "double-banana": banana,
        "interleaved": " ".join(INTERLEAVED.split()),
        "mirrored-pairs": " ".join(MIRRORED_PAIRS.split()),
    }


@pytest.mark.parametrize("name", MONTAGES)
def test_bipolar_is_anode_minus_cathode_and_a_missing_electrode_silences_its_own_only(name):
    eeg = small_eeg()
    eeg[NAMES.index("T3")] = torch.nan
    for row, (anode, cathode) in zip(bipolar(eeg, MONTAGES[name]), MONTAGES[name], strict=True):
        np.testing.assert_array_equal(row, eeg[NAMES.index(anode)] - eeg[NAMES.index(cathode)])


# ---- mirror


def test_mirror_exchanges_sides_and_keeps_the_middle():
    eeg = torch.arange(20.0)[:, None].expand(20, 3)
    mirrored = [NAMES[int(row)] for row in mirror_eeg(eeg)[:, 0]]
    assert " ".join(mirrored) == "Fp2 F4 C4 P4 F8 T4 T6 O2 Fz Cz Pz Fp1 F3 C3 P3 F7 T3 T5 O1 EKG"
    assert torch.equal(mirror_eeg(mirror_eeg(eeg)), eeg)
    panels = torch.arange(4.0)[:, None, None].expand(4, 2, 2)
    assert mirror_spectrogram(panels)[:, 0, 0].tolist() == [1, 0, 3, 2]  # LL <-> RL, LP <-> RP


# ---- permutation of chains


@pytest.mark.parametrize("regions", EIGHT, ids="-".join)
def test_electrodes_are_permuted_as_their_regions(regions):
    eeg = small_eeg()
    panels, moved = competition_spectrogram(eeg), eeg[electrode_sources(regions)]
    assert torch.equal(competition_spectrogram(moved), panels[[REGIONS.index(region) for region in regions]])
    for untouched in ("Fz", "Cz", "Pz", "EKG"):
        assert torch.equal(moved[NAMES.index(untouched)], eeg[NAMES.index(untouched)])


# ---- time


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(0, "1 2 3 4"), (1, "2 3 4 -"), (4, "- - - -"), (-1, "- 1 2 3"), (-9, "- - - -")],
)
def test_shift_takes_a_later_window_and_knows_nothing_beyond(steps, expected):
    shifted = shift_time(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), steps)
    values = [np.nan if word == "-" else float(word) for word in expected.split()]
    np.testing.assert_array_equal(shifted[0, 0], values)
