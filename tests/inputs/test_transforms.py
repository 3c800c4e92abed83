"""Short-time Fourier, mel, multitaper and Morlet against theory, scipy, librosa, MNE and pywt."""

import librosa
import mne
import numpy as np
import pytest
import scipy.signal
import scipy.special
import torch
from eeg_samples import eeg_like

from common.inputs.transforms import Mel, Morlet, Multitaper, Stft
from common.signal.spectra import morlet_powers

ALL_FOUR = {
    "stft": Stft(window=200, n_fft=400, high=40),
    "mel": Mel(window=200, n_mels=32, high=40),
    "multitaper": Multitaper(high=40),
    "morlet": Morlet(frequencies=8, low=2, high=40),
}


def signals(n_time=2000, n_signals=2, seed=1):
    """EEG-like noise, one with a large slow wave over it: what weak bins are easily lost beside."""
    made = eeg_like(seed, n_time)[:n_signals] - 30
    made[-1] += (500 * np.sin(2 * np.pi * 1.1 * np.arange(n_time) / 200)).astype(np.float32)
    return made


def ours(signal, config):
    """(rows, signals, columns), float32."""
    made = config.density(torch.from_numpy(signal))
    assert made.dtype == torch.float32 and len(made) == len(config.hertz())
    return made.numpy()


def assert_same_density(made, expected):
    """To 2e-5 of each value (1e-5 of an image, which is half its logarithm); of values 90 dB below their signal's
    largest, to that much."""
    assert made.shape == expected.shape
    floor = 1e-9 * expected.max(axis=(0, 2))
    assert (np.abs(made - expected) <= 2e-5 * expected + floor[None, :, None]).all(), (
        np.abs(made - expected) / (expected + 1e-4 * floor[None, :, None])
    ).max()


# ---- against independent implementations


@pytest.mark.parametrize(
    ("window", "n_fft", "hop", "low", "high"),
    [(100, 256, 21, 0.5, 40), (200, 200, 4, 1, 100), (64, 301, 17, 0.5, 100), (8, 8, 3, 20, 90)],
)
def test_stft_equals_scipy(window, n_fft, hop, low, high):
    signal = signals()
    frequencies, _, power = scipy.signal.spectrogram(
        signal.astype(np.float64), 200, "hann", window, window - hop, n_fft, detrend=False, scaling="density"
    )
    inside = (frequencies >= low - 1e-9) & (frequencies <= high + 1e-9)
    config = Stft(window=window, n_fft=n_fft, hop=hop, low=low, high=high)
    np.testing.assert_allclose(config.hertz(), frequencies[inside])
    assert_same_density(ours(signal, config), power[:, inside].transpose(1, 0, 2))


@pytest.mark.parametrize(
    ("window", "n_fft", "hop", "n_mels", "low", "high"),
    [
        (128, 1024, 39, 128, 0.53, 40),
        (16, 1024, 4, 64, 0.53, 40),  # the zoom
        (200, 1024, 40, 40, 5, 100),
        (64, 301, 7, 16, 0.5, 60),
    ],
)
def test_mel_equals_librosa(window, n_fft, hop, n_mels, low, high):
    signal = signals()
    options = {"n_fft": n_fft, "hop_length": hop, "win_length": window, "n_mels": n_mels, "fmin": low, "fmax": high}
    theirs = librosa.feature.melspectrogram(y=signal.astype(np.float64), sr=200, **options)
    taper = scipy.signal.windows.hann(window, sym=False)
    to_density = 2 / (200 * (taper**2).sum()) * 200 / n_fft  # triangles of area 1 Hz: a sum over bins to a mean
    config = Mel(window=window, n_fft=n_fft, hop=hop, n_mels=n_mels, low=low, high=high)
    assert_same_density(ours(signal, config), theirs.transpose(1, 0, 2) * to_density)


@pytest.mark.parametrize(
    ("window", "hop", "n_fft", "bandwidth", "tapers"),
    [(400, 200, 512, 2.0, 3), (200, 50, 200, 3.0, 5), (300, 77, 1023, 1.0, 1), (400, 160, 400, 2.5, 4)],
)
def test_multitaper_equals_frames_under_the_tapers_of_mne(window, hop, n_fft, bandwidth, tapers):
    signal, frequencies = signals(), np.fft.rfftfreq(n_fft, 1 / 200)
    config = Multitaper(window=window, n_fft=n_fft, hop=hop, time_bandwidth=bandwidth, tapers=tapers, high=100)
    inside = frequencies >= 0.5
    np.testing.assert_allclose(config.hertz(), frequencies[inside])
    taper, _ = mne.time_frequency.dpss_windows(window, bandwidth, tapers, low_bias=False)
    frames = np.lib.stride_tricks.sliding_window_view(signal.astype(np.float64), window, axis=-1)[:, ::hop, None]
    power = (np.abs(np.fft.rfft(frames * taper, n_fft)) ** 2).mean(axis=2) / 200  # (signals, frames, frequencies)
    power *= np.where(frequencies % 100 == 0, 1, 2)
    assert_same_density(ours(signal, config), power[..., inside].transpose(2, 0, 1))


def closed_form_morlet(frequency, bandwidth):
    """Mean of exp(-t^2 / b + 2 pi i t) / sqrt(pi b) over each sample, t in periods, by the error function."""
    edges = (np.arange(-4000, 4002) - 0.5) * frequency / 200
    edges = edges[np.abs(edges) < 10]
    root = np.sqrt(bandwidth)
    integral = np.exp(-(np.pi**2) * bandwidth) / 2 * scipy.special.erf(edges / root - 1j * np.pi * root)
    return np.diff(integral) * np.sqrt(200 / frequency)


@pytest.mark.parametrize(("frequency", "bandwidth"), [(0.75, 1.5), (2.0, 3.0), (9.7, 1.5), (20.0, 1.0), (40.0, 1.5)])
def test_morlet_equals_a_plain_convolution(frequency, bandwidth):
    signal, kernel = signals().astype(np.float64), closed_form_morlet(frequency, bandwidth)
    made = next(morlet_powers(torch.from_numpy(signal.astype(np.float32)), [frequency], bandwidth)).numpy()
    for power, row in zip(made, signal, strict=True):
        expected = np.abs(scipy.signal.convolve(row, kernel))[len(kernel) // 2 :][:2000]
        np.testing.assert_allclose(np.sqrt(power), expected, atol=1e-5 * expected.max(), rtol=0)


def test_morlet_columns_are_means_over_each_hop():
    signal, config = signals(2030), Morlet(frequencies=5, low=2, high=32, hop=50)
    assert config.hertz() == pytest.approx([2, 4, 8, 16, 32])
    made = ours(signal, config)
    assert made.shape == (5, 2, 40)  # the last 30 samples fill no column
    power = next(morlet_powers(torch.from_numpy(signal), [8.0], 1.5)).numpy()[:, :2000].reshape(2, 40, 50).mean(axis=2)
    energy = (np.abs(closed_form_morlet(8.0, 1.5)) ** 2).sum()
    np.testing.assert_allclose(made[2], power * 2 / energy / 200, rtol=1e-5)


# ---- against theory


@pytest.mark.parametrize("kind", ALL_FOUR)
def test_white_noise_has_its_density_at_every_frequency(kind):
    sigma = 5.0
    noise = np.random.default_rng(0).normal(0, sigma, (16, 20_000)).astype(np.float32)
    made = ours(noise, ALL_FOUR[kind])
    edge = made.shape[-1] // 20  # mel and Morlet see silence beyond the ends
    by_row = made[..., edge:-edge].mean(axis=(1, 2))
    np.testing.assert_allclose(by_row.mean(), 2 * sigma**2 / 200, rtol=0.015)
    np.testing.assert_allclose(by_row, 2 * sigma**2 / 200, rtol=0.1)


@pytest.mark.parametrize("frequency", [6.0, 17.3, 31.0])
@pytest.mark.parametrize("kind", ALL_FOUR)
def test_a_sine_lands_in_its_row_with_its_power(kind, frequency):
    amplitude = 40.0
    sine = amplitude * np.sin(2 * np.pi * frequency * np.arange(4000)[None] / 200 + 0.7)
    rows = ours(sine.astype(np.float32), ALL_FOUR[kind])[:, 0, 2:-2].mean(axis=1)
    axis = ALL_FOUR[kind].hertz()
    if kind == "morlet":  # one octave in 1.6 rows: the nearest in octaves
        assert rows.argmax() == np.abs(np.log(axis / frequency)).argmin()
    else:
        assert rows @ axis / rows.sum() == pytest.approx(frequency, abs=0.05)
        assert rows.sum() * (axis[1] - axis[0]) == pytest.approx(amplitude**2 / 2, rel=0.02)


@pytest.mark.parametrize("kind", ALL_FOUR)
def test_a_pulse_lands_in_its_column(kind):
    pulse = np.zeros((1, 4000), dtype=np.float32)
    pulse[0, 2400] = 100
    config = ALL_FOUR[kind]
    first = {"stft": 100, "mel": 0, "multitaper": 200, "morlet": 20}[kind]  # sample in the middle of column 0
    column = ours(pulse, config)[-1, 0]
    assert abs(column @ np.arange(len(column)) / column.sum() * 40 + first - 2400) < 20


def test_no_bin_is_refused():
    with pytest.raises(ValueError, match=r"no bin of 200/8 Hz lies between 1.0 and 20.0 Hz; raise n_fft"):
        Stft(window=8, n_fft=8, low=1, high=20).density(torch.zeros(1, 400))
