"""Spectra against theory, independent implementations and a real recording."""

import numpy as np
import polars as pl
import pytest
import references
import scipy.signal
import torch
from eeg_samples import CHAINS, NAMES, chain_differences, eeg_like, real

from common.signal.spectrogram import competition_spectrogram, rebuild_spectrogram

# ---- the competition's spectrogram


def test_spectrogram_of_filtered_pieces_is_the_competitions_own():
    eeg = pl.read_parquet(real("iiic/recipe/eeg_t1.parquet")).select(NAMES).to_numpy().T
    truth = pl.read_parquet(real("iiic/recipe/spectrogram.parquet"))
    ours = competition_spectrogram(np.ascontiguousarray(eeg[:, 200:]), filtered=True).numpy()
    for panel, region in zip(ours, CHAINS, strict=True):
        columns = [name for name in truth.columns if name.startswith(f"{region}_")]
        theirs = truth.select(columns).to_numpy()[143:146].T
        assert panel.shape == theirs.shape == (100, 3)
        assert abs(np.median(theirs / panel) - 1) < 0.005, region
        assert np.corrcoef(np.log(theirs.ravel()), np.log(panel.ravel()))[0, 1] > 0.9998, region


@pytest.mark.parametrize("filtered", [True, False])
def test_spectrogram_equals_a_plain_loop(filtered):
    eeg = eeg_like(3, 2100)  # 4 columns and a rest
    expected = references.spectrogram(references.by_electrode(eeg), filtered)
    ours = competition_spectrogram(torch.from_numpy(eeg), filtered).numpy()
    assert ours.shape == (4, 100, 4) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=2e-5)


def test_white_noise_has_the_density_of_theory():
    sigma = 5.0  # a difference of two independent electrodes has 2 sigma^2, spread over 200 Hz
    eeg = torch.from_numpy(np.random.default_rng(0).normal(0, sigma, (20, 120_000)))
    by_region = competition_spectrogram(eeg, filtered=True).mean(dim=(1, 2)).numpy()
    np.testing.assert_allclose(by_region, 2 * sigma**2 / 200, rtol=0.02)
    filtered = competition_spectrogram(eeg)[:, 8:].mean(dim=(1, 2)).numpy()  # 2.1 Hz and more: what the filter passes
    np.testing.assert_allclose(filtered, 2 * sigma**2 / 200, rtol=0.02)


def test_ten_hertz_lands_in_the_ten_hertz_row():
    eeg = np.zeros((20, 4000))
    eeg[NAMES.index("F7")] = 30 * np.sin(2 * np.pi * 10 * np.arange(4000) / 200)
    panels = competition_spectrogram(eeg, filtered=True).numpy()
    frequencies = np.arange(3, 103) * 200 / 1024
    power = panels[0].sum(axis=1)
    assert np.argmin(np.abs(frequencies - power @ frequencies / power.sum())) == 48  # 9.96 Hz
    assert power[np.abs(frequencies - 10) < 0.75].sum() > 0.98 * power.sum()  # the tapers' half width is 0.5 Hz
    # Two of four differences hold it; half its power A^2 / 2 is on each side of zero.
    np.testing.assert_allclose(panels[0].sum(axis=0) * 200 / 1024, 2 / 4 * 30**2 / 4, rtol=0.02)
    assert (panels[1:] == 0).all()  # F7 belongs to LL alone
    passed = competition_spectrogram(eeg).numpy()
    np.testing.assert_allclose(passed[0, 46:52, 1:-1], panels[0, 46:52, 1:-1], rtol=0.01)  # but for its edges


def test_drift_and_mains_are_filtered_out():
    time = np.arange(12_000) / 200
    eeg = np.zeros((20, 12_000))
    eeg[NAMES.index("F7")] = 20 * np.sin(2 * np.pi * 10 * time)
    clean = competition_spectrogram(eeg)[0, :, 3:-3]
    eeg[NAMES.index("F7")] += 1000 * np.sin(2 * np.pi * 0.05 * time) + 1000 * np.sin(2 * np.pi * 60 * time)
    ten_hertz = slice(46, 51)  # 9.6 to 10.4 Hz
    torch.testing.assert_close(competition_spectrogram(eeg)[0, ten_hertz, 3:-3], clean[ten_hertz], rtol=0.01, atol=0)


def test_spectrogram_averages_what_has_no_gap():
    eeg = eeg_like(5, 800)
    eeg[NAMES.index("F7")] = np.nan  # takes two of LL's four differences
    whole = [scipy.signal.windows.dpss(800, 2, 3) * signal for signal in chain_differences(eeg, "LL")[2:]]
    expected = (np.abs(np.fft.rfft(np.concatenate(whole), 1024)[:, 3:103]) ** 2).mean(axis=0) / 200
    np.testing.assert_allclose(competition_spectrogram(eeg, filtered=True)[0, :, 0], expected, rtol=1e-5)
    eeg[NAMES.index("T5")] = np.nan
    panels = competition_spectrogram(eeg)
    assert panels[0].isnan().all() and panels[1:].isfinite().all()


def test_a_gap_costs_the_columns_that_hold_it_and_no_others():
    eeg = eeg_like(6, 8000) + 50_000  # an offset that a gap must not turn into a step
    whole = competition_spectrogram(eeg)
    eeg[:, 3900:4100] = np.nan
    gappy = competition_spectrogram(eeg)
    lost = gappy.isnan().all(dim=0).all(dim=0)
    assert lost.nonzero().flatten().tolist() == [8, 9, 10] and gappy[..., ~lost].isfinite().all()
    far = [*range(6), *range(13, 19)]  # 2 s from the gap and more
    ratio = (gappy[..., far] / whole[..., far]).log()
    assert ratio.abs().max() < 0.2 and ratio.square().mean().sqrt() < 0.02


def test_rebuild_from_nothing():
    rebuilt = rebuild_spectrogram(None, torch.from_numpy(eeg_like(9)))
    assert rebuilt.isfinite().any(dim=0).any(dim=0).nonzero().flatten().tolist() == list(range(138, 162))
    with pytest.raises(ValueError, match=r"800 samples.*got 799"):
        competition_spectrogram(np.zeros((20, 799)))


@pytest.mark.parametrize("lost", [(0, 1, 2, 3), (2,)])
def test_rebuild_restores_the_centre_and_nothing_else(lost):
    eeg = torch.from_numpy(eeg_like(8, 120_000))  # 10 minutes
    truth = torch.full((4, 100, 300), torch.nan)
    truth[..., 1:299] = competition_spectrogram(eeg[:, 200:])  # column k spans seconds 2k - 1 ... 2k + 3
    damaged = 3 * truth  # what is there must stay, also where the EEG says otherwise
    damaged[list(lost)] = torch.nan
    rebuilt = rebuild_spectrogram(damaged, eeg[:, 55_000:65_000])
    centre = list(range(138, 162))
    for region in lost:
        ratio = (rebuilt[region][:, centre] / truth[region][:, centre]).log()
        # The filter lacks what lies before and after the 50 s: the outer columns feel it, the inner ones do not.
        assert ratio[:, 2:-2].abs().max() < 0.01 and ratio.square().mean().sqrt() < 0.1
    outside = [k for k in range(300) if k not in centre]
    assert torch.equal(rebuilt[..., outside].nan_to_num(-1), damaged[..., outside].nan_to_num(-1))
    assert damaged[lost[0]].isnan().all()  # the argument is left alone
    for kept in set(range(4)) - set(lost):
        assert torch.equal(rebuilt[kept, :, 1:299], damaged[kept, :, 1:299])
