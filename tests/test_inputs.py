"""Model inputs against numpy and scipy; the same window always gives the same input."""

import itertools

import numpy as np
import pytest
import scipy.signal
import torch
from eeg_samples import CHAINS, NAMES, broken_eegs, broken_spectrograms, eeg_like, make

from common.config import BipolarSequence, EegMelImage, KaggleImage
from common.features import Windows, build_input, global_features, percentiles
from common.filters import band_pass, band_pass_taps, fill_gaps
from common.montage import DOUBLE_BANANA, bipolar, mirror_eeg, mirror_spectrogram
from common.spectrogram import competition_spectrogram

ALL_PARTS = ("image", "percentiles", "global")

# ---- the image of the competition's spectrogram


@pytest.mark.parametrize("columns", [300, 64])
@pytest.mark.parametrize("standardise", ["panel", "image"])
def test_kaggle_image_equals_the_seed(standardise, columns):
    power = broken_spectrograms()[:4]
    ours = make(power, KaggleImage(standardise=standardise, columns=columns)).numpy()
    assert ours.shape == (4, 1, 400, columns)
    centre = slice(150 - columns // 2, 150 + columns // 2)
    for image, window in zip(ours[:3], power[:3], strict=True):  # window 3 is all missing
        logs = np.log(np.clip(window[..., centre].astype(np.float64), np.exp(-4), np.exp(8)))
        groups = [logs[k : k + 1] for k in range(4)] if standardise == "panel" else [logs]
        scaled = [
            np.zeros_like(g) if np.isnan(g).all() else (g - np.nanmean(g)) / (np.nanstd(g) + 1e-6) for g in groups
        ]
        expected = np.nan_to_num(np.concatenate(scaled), nan=0.0).reshape(400, columns)
        np.testing.assert_allclose(image[0], expected, atol=2e-5)
    assert (ours[3] == 0).all()


def test_parts_stand_side_by_side_and_equal_numpy():
    panels = torch.from_numpy(np.random.default_rng(2).normal(size=(4, 128, 256)).astype(np.float32))
    x = panels.numpy().astype(np.float64)
    np.testing.assert_allclose(percentiles(panels), np.percentile(x, [20, 40, 60, 80], axis=0), atol=1e-6)
    expected = np.stack([x.min(axis=0), x.max(axis=0), x.mean(axis=0), np.ptp(x, axis=0)])
    np.testing.assert_allclose(global_features(panels), expected, atol=1e-6)
    eeg = eeg_like(1)[None]
    wide, plain = make(eeg, EegMelImage(parts=ALL_PARTS)), make(eeg, EegMelImage())
    stacked = plain[0, 0].reshape(4, 128, 256)
    assert wide.shape == (1, 1, 512, 768) and torch.equal(wide[..., :256], plain)
    assert torch.equal(wide[0, 0, :, 256:512], percentiles(stacked).flatten(0, 1))
    assert torch.equal(wide[0, 0, :, 512:], global_features(stacked).flatten(0, 1))


# ---- the bipolar sequence


def band_pass_by_scipy(signal, low, high):
    taps = band_pass_taps(low, high)
    x, margin = signal - signal.mean(), len(taps) // 2
    odd = np.concatenate([2 * x[0] - x[margin:0:-1], x, 2 * x[-1] - x[-2 : -margin - 2 : -1]])
    return scipy.signal.oaconvolve(odd, taps, mode="valid")


@pytest.mark.parametrize(("low", "high"), [(0.5, 20.0), (1.0, 40.0)])
def test_band_pass_equals_scipy(low, high):
    signal = eeg_like(4)[:3]
    ours = band_pass(torch.from_numpy(signal), low, high).numpy()
    expected = np.stack([band_pass_by_scipy(row, low, high) for row in signal.astype(np.float64)])
    np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def test_band_pass_keeps_the_band_and_nothing_else():
    time = np.arange(10_000) / 200
    waves = [np.sin(2 * np.pi * f * time + 0.3) for f in (1.0, 10.0, 20.0, 60.0, 0.05)] + [np.ones_like(time)]
    waves = torch.from_numpy(np.stack(waves) * 100).float()
    passed = band_pass(waves, 0.5, 20.0)
    inner = slice(1000, 9000)  # half a filter from the ends
    torch.testing.assert_close(passed[:3, inner], waves[:3, inner], rtol=0, atol=1.0)  # 1 % of 100, no delay
    peak = passed[:, inner].abs().amax(dim=-1)
    assert peak[3] < 100 * 10 ** (-50 / 20) and peak[5] < 100 * 10 ** (-50 / 20)
    assert peak[4] < 5  # inside the transition band: 26 dB


def test_band_pass_has_zero_phase():
    pulse = torch.zeros(1, 8001)
    pulse[0, 3990:4011] = torch.hann_window(21, periodic=False) * 50
    passed = band_pass(pulse, 0.5, 20.0)[0]
    torch.testing.assert_close(passed, passed.flip(0), atol=1e-4, rtol=0)
    assert passed.argmax() == 4000


def test_band_pass_refuses_a_signal_shorter_than_itself():
    with pytest.raises(ValueError, match=r"more than 660 samples, got 660"):
        band_pass(torch.zeros(1, 660), 0.5, 20.0)


def test_sequence_is_filtered_clipped_scaled_and_thinned():
    eeg = eeg_like(6)
    eeg[2:5] *= 20
    eeg[NAMES.index("Fz"), 500:900] = np.nan
    config = BipolarSequence(clip=60, scale=15)
    sequence = make(eeg[None], config)[0]
    pairs = [pair for chain in (*CHAINS.values(), "Fz Cz Pz") for pair in itertools.pairwise(chain.split())]
    assert sequence.shape == (18, 10_000) and list(DOUBLE_BANANA) == pairs
    for row, (anode, cathode) in zip(sequence.numpy(), pairs, strict=True):
        difference = eeg[NAMES.index(anode)].astype(np.float64) - eeg[NAMES.index(cathode)]
        difference = np.where(np.isnan(difference), np.nanmean(difference), difference)
        expected = np.clip(band_pass_by_scipy(difference, 0.5, 20.0), -60, 60) / 15
        np.testing.assert_allclose(row, expected, atol=2e-4)
    assert sequence.abs().max() == 4
    slow = make(eeg[None], BipolarSequence(clip=60, scale=15, sfreq=50))[0]
    assert torch.equal(slow, sequence[:, ::4])


def test_gaps_become_the_channels_mean():
    nan = float("nan")
    filled = fill_gaps(torch.tensor([[1.0, nan, 5.0], [nan, nan, nan], [1.0, 2.0, 4.0]]))
    assert filled.tolist() == [[1, 3, 5], [0, 0, 0], [1, 2, 4]]


# ---- every input


INPUTS = [
    KaggleImage(parts=ALL_PARTS),
    KaggleImage(standardise="image", columns=64),
    EegMelImage(parts=ALL_PARTS),
    BipolarSequence(),
    BipolarSequence(sfreq=50),
]


@pytest.mark.parametrize("config", INPUTS, ids=lambda config: f"{config.kind}-{len(config.model_dump_json())}")
def test_same_window_same_bits_and_never_nan(config):
    windows = broken_spectrograms() if isinstance(config, KaggleImage) else broken_eegs()
    together = make(windows, config)
    assert together.dtype == torch.float32 and together.isfinite().all()
    order = [4, 0, 6, 2, 5, 1, 3]
    shuffled = make(windows[order], config)
    for row in range(7):
        assert torch.equal(make(windows[row : row + 1], config)[0], together[row]), row
        assert torch.equal(shuffled[order.index(row)], together[row]), row
    assert not torch.equal(together[0], together[1])


def test_input_names_the_recording_it_lacks():
    with pytest.raises(ValueError, match="EegMelImage needs the EEG"):
        build_input(Windows(None, torch.zeros(1, 4, 100, 300)), EegMelImage())


# ---- mirror and montage


def test_mirror_exchanges_sides_and_keeps_the_middle():
    eeg = torch.arange(20.0)[:, None].expand(20, 3)
    mirrored = [NAMES[int(row)] for row in mirror_eeg(eeg)[:, 0]]
    assert " ".join(mirrored) == "Fp2 F4 C4 P4 F8 T4 T6 O2 Fz Cz Pz Fp1 F3 C3 P3 F7 T3 T5 O1 EKG"
    assert torch.equal(mirror_eeg(mirror_eeg(eeg)), eeg)
    panels = torch.arange(4.0)[:, None, None].expand(4, 2, 2)
    assert mirror_spectrogram(panels)[:, 0, 0].tolist() == [1, 0, 3, 2]  # LL <-> RL, RP <-> LP


def test_mirrored_eeg_has_the_mirrored_spectrogram():
    eeg = torch.from_numpy(eeg_like(12, 2000))
    assert torch.equal(competition_spectrogram(mirror_eeg(eeg)), mirror_spectrogram(competition_spectrogram(eeg)))


def test_missing_electrode_silences_its_own_differences_only():
    eeg = torch.from_numpy(eeg_like(13, 50))
    eeg[NAMES.index("T3")] = torch.nan
    silent = bipolar(eeg, DOUBLE_BANANA).isnan().any(dim=-1)
    assert [pair for pair, gone in zip(DOUBLE_BANANA, silent, strict=True) if gone] == [("F7", "T3"), ("T3", "T5")]
