"""The band-pass and the way to lower rates against MNE and scipy."""

import mne
import numpy as np
import pytest
import scipy.signal
import torch
from eeg_samples import eeg_like

from common.signal.filters import band_pass, band_pass_taps, fill_gaps

BANDS = [(0.5, 20.0), (0.5, 40.0), (1.6, 30.0)]
RELATIVE = 1e-5  # of the largest value


def passed(signal, *arguments):
    return band_pass(torch.from_numpy(np.asarray(signal, dtype=np.float32)), *arguments).numpy()


def assert_same_signal(ours, expected):
    assert ours.shape == expected.shape and ours.dtype == np.float32
    for row, wanted in zip(np.atleast_2d(ours), np.atleast_2d(expected), strict=True):
        np.testing.assert_allclose(row, wanted, atol=RELATIVE * np.abs(wanted).max(), rtol=0)


def waves(frequencies, n_time=10_000, amplitude=100.0):
    return amplitude * np.sin(2 * np.pi * np.outer(frequencies, np.arange(n_time) / 200) + 0.3)


# ---- zero phase


@pytest.mark.parametrize(("low", "high"), [*BANDS, (0.05, 20.0), (0.5, 98.0), (4.0, 6.0), (12.0, 30.0)])
def test_zero_phase_taps_are_those_of_mne(low, high):
    theirs = mne.filter.create_filter(None, 200, low, high, fir_design="firwin", phase="zero", verbose="error")
    ours = band_pass_taps(low, high)
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("n_time", [700, 1999, 10_000])
@pytest.mark.parametrize(("low", "high"), BANDS)
def test_zero_phase_equals_mne_ends_included(low, high, n_time):
    signal, options = eeg_like(4, n_time)[:3], {"fir_design": "firwin", "phase": "zero", "pad": "reflect_limited"}
    expected = mne.filter.filter_data(signal.astype(np.float64), 200, low, high, **options, verbose="error")
    assert_same_signal(passed(signal, low, high), expected)


def test_a_large_offset_costs_no_digits():
    signal = eeg_like(6)[:2]
    quiet, lifted = passed(signal, 0.5, 20.0), passed(signal + 2.0**17, 0.5, 20.0)
    np.testing.assert_allclose(lifted, quiet, atol=2.0**-6)  # float32 keeps steps of 2^-6 there: the input's own loss


def test_zero_phase_refuses_a_signal_shorter_than_itself():
    with pytest.raises(ValueError, match=r"0.5-20.0 Hz needs more than 660 samples, got 660"):
        band_pass(torch.zeros(1, 660), 0.5, 20.0)
    assert band_pass(torch.zeros(1, 661), 0.5, 20.0).shape == (1, 661)


# ---- causal


@pytest.mark.parametrize(("low", "high"), [*BANDS, (0.05, 20.0), (0.1, 0.4)])
def test_causal_equals_the_published_notebooks(low, high):
    signal = eeg_like(4)[:3].astype(np.float64)
    poles = scipy.signal.butter(2, [low, high], btype="band", fs=200)
    sections = scipy.signal.butter(2, [low, high], btype="band", fs=200, output="sos")
    by_sections = scipy.signal.sosfilt(sections, signal)
    np.testing.assert_allclose(scipy.signal.lfilter(*poles, signal), by_sections, atol=1e-6 * np.abs(by_sections).max())
    assert_same_signal(passed(signal, low, high, "causal"), by_sections)


# ---- lower rates


@pytest.mark.parametrize("sfreq", [100, 50, 40])
@pytest.mark.parametrize(("low", "high"), BANDS)
def test_causal_thinning_equals_scipy_decimate(low, high, sfreq):
    signal = eeg_like(8)[:2].astype(np.float64)
    sections = scipy.signal.butter(2, [low, high], btype="band", fs=200, output="sos")
    waves = scipy.signal.sosfilt(sections, signal)
    expected = scipy.signal.decimate(waves, 200 // sfreq, ftype="iir", zero_phase=False)
    assert_same_signal(passed(signal, low, high, "causal", sfreq), expected)


@pytest.mark.parametrize("phase", ["zero", "causal"])
@pytest.mark.parametrize(("sfreq", "high"), [(100, 20.0), (100, 40.0), (50, 20.0), (50, 25.0), (40, 12.0), (40, 20.0)])
def test_thinning_folds_nothing_back(sfreq, high, phase):
    nearest = 1.05 if phase == "zero" else 1.15  # of half the new rate: the published low-pass falls gently
    above = np.arange(nearest * sfreq / 2, 100, sfreq / 8)
    out = passed(waves(above), 0.5, high, phase, sfreq)[:, sfreq * 6 : -sfreq * 6]
    assert out.shape == (len(above), 38 * sfreq) and np.abs(out).max() < 1  # 40 dB


@pytest.mark.parametrize(("sfreq", "high"), [(200, 20.0), (100, 20.0), (50, 20.0), (40, 12.0)])
def test_thinning_keeps_what_passes(sfreq, high):
    kept = waves([1.0, 5.0, 0.9 * min(high, 0.4 * sfreq), min(high, 0.4 * sfreq)])
    out = passed(kept, 0.5, high, "zero", sfreq)
    inner = slice(6 * sfreq, -6 * sfreq)
    np.testing.assert_allclose(out[:, inner], kept[:, :: 200 // sfreq][:, inner], atol=2.0)  # 2 %, in its place


def test_thinning_takes_every_nth_sample_where_nothing_can_fold():
    signal = eeg_like(9)[:2]
    whole = passed(signal, 0.5, 20.0)
    assert np.array_equal(passed(signal, 0.5, 20.0, "zero", 50), whole[:, ::4])  # passes up to 25 Hz: half of 50


# ---- gaps


def test_gaps_become_the_channels_mean():
    nan = float("nan")
    filled = fill_gaps(torch.tensor([[1.0, nan, 5.0], [nan, nan, nan], [1.0, 2.0, 4.0]]))
    assert filled.tolist() == [[1, 3, 5], [0, 0, 0], [1, 2, 4]]
