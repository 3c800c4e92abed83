"""The montage and the symmetries of head and time, for EEG and spectrogram alike."""

import itertools

import numpy as np
import pytest
import torch
from eeg_samples import CHAINS, DOUBLE_BANANA, NAMES, eeg_like

from common.signal.montage import (
    MONTAGES,
    bipolar,
    electrode_sources,
    mirror_eeg,
    mirror_spectrogram,
    reverse_time,
    shift_time,
)
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
def test_bipolar_is_anode_minus_cathode(name):
    eeg = small_eeg()
    for row, (anode, cathode) in zip(bipolar(eeg, MONTAGES[name]), MONTAGES[name], strict=True):
        assert torch.equal(row, eeg[NAMES.index(anode)] - eeg[NAMES.index(cathode)])


def test_missing_electrode_silences_its_own_differences_only():
    eeg = small_eeg()
    eeg[NAMES.index("T3")] = torch.nan
    pairs = MONTAGES["double-banana"]
    silent = bipolar(eeg, pairs).isnan().any(dim=-1)
    assert [pair for pair, gone in zip(pairs, silent, strict=True) if gone] == [("F7", "T3"), ("T3", "T5")]


# ---- mirror


def test_mirror_exchanges_sides_and_keeps_the_middle():
    eeg = torch.arange(20.0)[:, None].expand(20, 3)
    mirrored = [NAMES[int(row)] for row in mirror_eeg(eeg)[:, 0]]
    assert " ".join(mirrored) == "Fp2 F4 C4 P4 F8 T4 T6 O2 Fz Cz Pz Fp1 F3 C3 P3 F7 T3 T5 O1 EKG"
    assert torch.equal(mirror_eeg(mirror_eeg(eeg)), eeg)
    panels = torch.arange(4.0)[:, None, None].expand(4, 2, 2)
    assert mirror_spectrogram(panels)[:, 0, 0].tolist() == [1, 0, 3, 2]  # LL <-> RL, LP <-> RP


def test_mirror_of_a_montage_is_the_montage_of_the_mirror():
    eeg = small_eeg()
    differences, mirrored = (bipolar(x, MONTAGES["mirrored-pairs"]) for x in (eeg, mirror_eeg(eeg)))
    assert torch.equal(mirrored, differences[[*range(8, 16), *range(8), 16, 17]])
    differences, mirrored = (bipolar(x, MONTAGES["interleaved"]) for x in (eeg, mirror_eeg(eeg)))
    assert torch.equal(mirrored, differences[[k + 1 - 2 * (k % 2) for k in range(16)] + [16, 17]])


# ---- permutation of chains


@pytest.mark.parametrize("regions", EIGHT, ids="-".join)
def test_electrodes_are_permuted_as_their_regions(regions):
    eeg = small_eeg()
    panels, moved = competition_spectrogram(eeg), eeg[electrode_sources(regions)]
    assert torch.equal(competition_spectrogram(moved), panels[[REGIONS.index(region) for region in regions]])
    for place, region in zip(REGIONS, regions, strict=True):
        for to, source in zip(CHAINS[place].split(), CHAINS[region].split(), strict=True):
            assert torch.equal(moved[NAMES.index(to)], eeg[NAMES.index(source)])
    for untouched in ("Fz", "Cz", "Pz", "EKG"):
        assert torch.equal(moved[NAMES.index(untouched)], eeg[NAMES.index(untouched)])


def test_other_permutations_are_refused():
    for regions in itertools.permutations(REGIONS):
        if regions not in EIGHT:
            with pytest.raises(ValueError, match=r"would be both"):
                electrode_sources(regions)


# ---- time


def test_reversed_time_reverses_both_and_keeps_densities():
    eeg = small_eeg()
    panels = competition_spectrogram(eeg, filtered=True)
    assert reverse_time(torch.tensor([[1.0, 2, 3]])).tolist() == [[3, 2, 1]]
    torch.testing.assert_close(
        competition_spectrogram(reverse_time(eeg), filtered=True), reverse_time(panels), rtol=1e-5, atol=0
    )
    assert not torch.allclose(reverse_time(panels), panels)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(0, "1 2 3 4"), (1, "2 3 4 -"), (3, "4 - - -"), (4, "- - - -"), (9, "- - - -"), (-1, "- 1 2 3"), (-9, "- - - -")],
)
def test_shift_takes_a_later_window_and_knows_nothing_beyond(steps, expected):
    shifted = shift_time(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), steps)
    values = [np.nan if word == "-" else float(word) for word in expected.split()]
    np.testing.assert_array_equal(shifted[0, 0], values)


def test_shift_moves_eeg_and_spectrogram_by_the_same_seconds():
    eeg = small_eeg()
    panels = competition_spectrogram(eeg, filtered=True)
    moved = competition_spectrogram(shift_time(eeg, 800)[..., :1200], filtered=True)  # 4 s: two columns
    assert torch.equal(moved, shift_time(panels, 2)[..., : moved.shape[-1]])
