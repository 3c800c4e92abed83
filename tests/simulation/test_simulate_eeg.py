"""The simulator's EEG: the head, the noises, the six patterns as their names say, the artefacts."""

import dataclasses

import numpy as np
import pytest
from scipy.signal import find_peaks, welch

from common.schema import ELECTRODES, PATTERNS, SFREQ
from train.simulate.artefacts import add_artefacts, draw_artefacts, heart
from train.simulate.background import draw_background, render_background
from train.simulate.eeg import simulate_eeg
from train.simulate.forward import LEFT, RIGHT, bipolar_matrix, dipole_field, electrode_positions, eye_field
from train.simulate.patterns import draw_episode, render_episode
from train.simulate.signals import coloured_noise, slow_noise

LEFT_ROWS, RIGHT_ROWS = (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)  # of bipolar_matrix


def bipolar_wave(pattern, rng, seconds=20, background=None, **changes):
    """A clear, clean episode on bipolar channels (18, time) and the episode itself."""
    side = LEFT if rng.random() < 0.5 else RIGHT
    episode = dataclasses.replace(draw_episode(pattern, 0, seconds, 8.0, side, rng), **changes)
    return bipolar_matrix() @ render_episode(episode, rng), episode


def strongest(bipolar):
    return bipolar[np.argmax(bipolar.var(axis=1))]


# ---- signals and head


def test_dipole_in_the_centre_has_a_cosine_field():
    # At the centre of a unit sphere |d| = 1: the potential is the projection on the moment.
    z = np.array([0.0, 0.0, 1.0])
    np.testing.assert_allclose(dipole_field(np.zeros(3), z), electrode_positions()[:, 2], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(electrode_positions(), axis=1), 1)


def test_blink_is_frontal_and_bipolar_ignores_the_reference():
    field = eye_field(vertical=True)
    assert set(np.argsort(field)[-2:]) == {ELECTRODES.index("Fp1"), ELECTRODES.index("Fp2")}
    np.testing.assert_allclose(bipolar_matrix() @ np.full(19, 7.0), 0)


def test_noise_has_the_asked_spectrum_and_variance():
    rng = np.random.default_rng(0)
    noise = coloured_noise(60_000, 3, lambda f: 1 / np.maximum(f, 0.5) ** 2, rng)
    np.testing.assert_allclose(noise.std(axis=1), 1, rtol=0.1)
    f, power = welch(noise, SFREQ, nperseg=2000)
    inside = (f > 2) & (f < 40)
    slope = np.polyfit(np.log(f[inside]), np.log(power.mean(axis=0)[inside]), 1)[0]
    assert slope == pytest.approx(-2, abs=0.1)
    assert slow_noise(400_000, 1.0, rng).std() == pytest.approx(1, rel=0.1)


def test_background_has_its_median_amplitude():
    rng = np.random.default_rng(0)
    for _ in range(5):
        background = draw_background(rng)
        bipolar = bipolar_matrix() @ render_background(background, 60 * SFREQ, rng)
        assert np.median(np.abs(bipolar)) == pytest.approx(background.median, rel=0.2)


# ---- patterns


def test_lpd_is_lateral_and_gpd_is_not():
    rng = np.random.default_rng(0)
    balance = {"lpd": [], "gpd": []}
    for pattern, found in balance.items():
        for _ in range(30):
            bipolar, episode = bipolar_wave(pattern, rng)
            power = (bipolar**2).mean(axis=1)
            left, right = power[list(LEFT_ROWS)].sum(), power[list(RIGHT_ROWS)].sum()
            found.append(np.log(right / left) * (episode.side or 1))  # positive on the side of the episode
    assert np.quantile(balance["lpd"], 0.1) > 0.7
    assert np.quantile(np.abs(balance["gpd"]), 0.9) < 0.7


def test_rhythmic_delta_has_its_peak_in_delta():
    rng = np.random.default_rng(1)
    for pattern in ("lrda", "grda"):
        for _ in range(15):
            bipolar, _ = bipolar_wave(pattern, rng, seconds=30)
            f, power = welch(strongest(bipolar), SFREQ, nperseg=800)
            assert 0.5 <= f[np.argmax(power)] <= 3.2


def autocorrelation(wave, lag):
    wave = wave - wave.mean()
    return (wave[:-lag] * wave[lag:]).sum() / (wave**2).sum()


def test_periodic_discharges_come_back_after_one_interval():
    rng = np.random.default_rng(2)
    contrasts = []
    for pattern in ("lpd", "gpd"):
        for _ in range(10):
            bipolar, _ = bipolar_wave(pattern, rng, 30, rate=1.0, rate_change=1.0, irregularity=0.05, presence=0.99)
            envelope = np.convolve(np.abs(strongest(bipolar)), np.ones(40) / 40, mode="same")
            contrasts.append(autocorrelation(envelope, SFREQ) - autocorrelation(envelope, SFREQ // 2))
    assert np.mean(contrasts) > 0.5 and np.quantile(contrasts, 0.1) > 0.2


def test_seizures_are_faster_than_rhythmic_delta():
    rng = np.random.default_rng(3)

    def median_frequency(pattern):
        f, power = welch(strongest(bipolar_wave(pattern, rng)[0]), SFREQ, nperseg=800)
        return f[np.searchsorted(power.cumsum() / power.sum(), 0.5)]

    seizure = [median_frequency("seizure") for _ in range(15)]
    delta = [median_frequency(pattern) for pattern in ("lrda", "grda") for _ in range(8)]
    assert np.min(seizure) > 1.9 and np.median(seizure) > 1.8 * np.median(delta)


# ---- artefacts and whole recordings


def test_ekg_beats_at_its_rate():
    rng = np.random.default_rng(0)
    artefacts = dataclasses.replace(draw_artefacts(rng), heart_rate=1.25, ekg=500.0)
    peaks, _ = find_peaks(heart(artefacts, 60 * SFREQ, rng), height=300, distance=60)
    assert len(peaks) == pytest.approx(75, abs=3)


def test_missing_electrode_and_gaps_are_nan():
    rng = np.random.default_rng(0)
    artefacts = dataclasses.replace(draw_artefacts(rng), missing=4, dead=None, gap_rate=0.0)
    eeg = np.zeros((20, 20 * SFREQ), dtype=np.float32)
    add_artefacts(eeg, artefacts, rng)
    assert np.isnan(eeg[4]).all() and np.isfinite(np.delete(eeg, 4, axis=0)).all()
    add_artefacts(eeg, dataclasses.replace(artefacts, missing=None, gap_rate=0.5), rng)
    gaps = np.isnan(np.delete(eeg, 4, axis=0))
    assert gaps.any() and not gaps.all() and (gaps == gaps[0]).all()


def test_patterns_stand_out_of_a_recording():
    rng = np.random.default_rng(4)
    for pattern in PATTERNS[:-1]:
        gains = []
        for _ in range(6):
            background = draw_background(rng)
            episode = draw_episode(pattern, 20, 40, background.median, RIGHT, rng)
            quiet = dict.fromkeys(
                ["blink_rate", "gaze_rate", "muscle_rate", "pop_rate", "drift", "ekg", "mains", "gap_rate"], 0
            )
            quiet |= dict.fromkeys(("dead", "noisy", "missing"))
            artefacts = dataclasses.replace(draw_artefacts(rng), **quiet)
            eeg = simulate_eeg(60, background, [episode], artefacts, rng)
            assert eeg.shape == (20, 60 * SFREQ) and eeg.dtype == np.float32 and np.isfinite(eeg).all()
            thirds = np.abs(bipolar_matrix() @ eeg[:19]).reshape(18, 3, -1)
            height = np.quantile(thirds, 0.99, axis=2)  # (channels, thirds): discharges are short
            usual = height[:, [0, 2]].mean(axis=1) * episode.background
            gains.append((height[:, 1] / usual).max())
        assert np.median(gains) > 2, pattern
