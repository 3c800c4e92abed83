"""The bipolar sequence and the quality of its channels, against MNE, scipy and counting by hand."""

import numpy as np
import pytest
import scipy.signal
import torch
from eeg_samples import DOUBLE_BANANA, NAMES, difference, eeg_like, filled, make, real_eeg, waves_by_mne

from common.inputs.bipolar_sequence import channel_quality
from common.inputs.config import BipolarSequence
from common.signal.montage import MONTAGES


def faulty_eeg():
    eeg = eeg_like(6)
    eeg[2:5] *= 20
    eeg[NAMES.index("Fz"), 500:900] = np.nan
    return eeg


def assert_same_signal(made, expected):
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("montage", ["double-banana", "interleaved", "mirrored-pairs", "chains"])
def test_sequence_is_filtered_clipped_and_scaled(montage):
    eeg, pairs = faulty_eeg(), MONTAGES[montage]
    waves = waves_by_mne(eeg, pairs, clip=60)
    made = make(eeg[None], BipolarSequence(montage=montage, clip=60, scale=15))[0].numpy()
    assert (np.abs(waves) == 60).any()
    assert_same_signal(made, waves / 15)


@pytest.mark.parametrize("sfreq", [200, 50, 40])
def test_causal_sequence_equals_scipy_on_real_eeg(sfreq):
    eeg = real_eeg("900201")
    rows = np.stack([filled(difference(eeg, *pair)) for pair in DOUBLE_BANANA])
    waves = scipy.signal.lfilter(*scipy.signal.butter(2, [1.6, 20], btype="band", fs=200), rows)
    waves = waves if sfreq == 200 else scipy.signal.decimate(waves, 200 // sfreq, ftype="iir", zero_phase=False)
    made = make(eeg[None], BipolarSequence(phase="causal", low=1.6, sfreq=sfreq))[0].numpy()
    assert_same_signal(made, np.clip(waves, -1024, 1024) / 32)


def test_short_recording_centred_in_nothing_is_as_loud_as_it_was():
    """12 s of recording amid 38 s that are missing: filled with the mean, silent after the high-pass."""
    eeg = np.full((20, 10_000), np.nan, dtype=np.float32)
    eeg[:, 3800:6200] = eeg_like(7, 2400)
    made = make(eeg[None], BipolarSequence())[0].numpy()
    assert_same_signal(made, waves_by_mne(eeg, DOUBLE_BANANA) / 32)
    assert np.abs(made[:, :3000]).max() < 0.01 * np.abs(made[:, 3800:6200]).max()


# ---- quality


def test_shares_are_counted_by_hand():
    nan = float("nan")
    differences = torch.tensor(
        [
            [1.0, 2.0, 3.0, 4.0, 5.0],  # in order
            [1.0, 1.0, 1.0, 2.0, 2.0],  # 3 of 4 steps are flat
            [nan, nan, 3.0, 3.0, nan],  # 3 of 5 missing, 1 of 4 steps flat
            [nan, nan, nan, nan, nan],
        ]
    )
    passed = torch.tensor([[0.0, 9.0, -9.0, 8.9, 0.0], [0.0] * 5, [9.0] * 5, [0.0] * 5])
    shares = channel_quality(differences, passed, 9.0)
    expected = [[0.0, 0.0, 0.4], [0.0, 0.75, 0.0], [0.6, 0.25, 1.0], [1.0, 0.0, 0.0]]
    np.testing.assert_allclose(shares, expected, atol=1e-7)


def test_quality_stands_behind_the_signals_constant_in_time():
    eeg = faulty_eeg()
    eeg[NAMES.index("T3"), 8000:] = eeg[NAMES.index("F7"), 8000:]  # a bridge: F7-T3 is flat for the last fifth
    made = make(eeg[None], BipolarSequence(clip=60, scale=15, sfreq=100, quality=True))[0]
    signals = make(eeg[None], BipolarSequence(clip=60, scale=15, sfreq=100))[0]
    assert made.shape == (72, 5000) and torch.equal(made[:18], signals)
    assert torch.equal(made[18:], made[18:, :1].expand(-1, 5000))
    missing, flat, clipped = made[18:, 0].reshape(3, 18).numpy()
    gap = [0.04 if "Fz" in pair else 0 for pair in DOUBLE_BANANA]
    np.testing.assert_allclose(missing, gap, atol=1e-7)
    assert flat[DOUBLE_BANANA.index(("F7", "T3"))] == pytest.approx(1999 / 9999, abs=2e-4)
    np.testing.assert_allclose(clipped, (signals.abs() == 4).float().mean(dim=1), atol=1e-7)
    assert clipped.max() > 0.01
