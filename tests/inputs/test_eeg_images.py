"""Images of the EEG against librosa, pywt, MNE, scipy and Pillow: the mel image, the waves, the spectra."""

import itertools

import librosa
import numpy as np
import pytest
import references
import scipy.signal
import torch
from eeg_samples import ALL_PARTS, CHAINS, DOUBLE_BANANA, NAMES, bilinear, eeg_like, make, real_eeg, waves_by_mne
from PIL import Image
from test_kaggle_images import by_extremes, by_percentiles, stacked
from test_wavelets import denoise_by_pywt

from common.inputs.config import CombinedImage, EegMelImage, EegSpectra, RawImage
from common.inputs.eeg_spectra import Crop
from common.inputs.panels import join_images
from common.inputs.transforms import Mel, Stft

ATOL = 2e-5
MOVEMENTS = "900601"  # of millivolts
CASES = ("gap", "silent electrode", "constant difference", "900101", "900403", MOVEMENTS)


def eeg_of(case):
    """Made up, with one fault, or real."""
    if case.isdigit():
        return real_eeg(case)
    eeg = eeg_like(11)
    if case == "gap":
        eeg[4:9, 2000:3500] = np.nan
    elif case == "silent electrode":
        eeg[5] = np.nan
    elif case == "constant difference":
        eeg[NAMES.index("F3")] = eeg[NAMES.index("Fp1")] - 12
        eeg[NAMES.index("P4")] = eeg[NAMES.index("C4")]
    return eeg


def assert_same_image(made, expected):
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected, atol=ATOL, rtol=0)


# ---- the public recipe's mel image


def librosa_panels(eeg, clean=None):
    """(4, 128, 256) as the public notebook makes them."""
    return references.mel_image(references.by_electrode(eeg.astype(np.float64)), clean).reshape(4, 128, 256)


@pytest.mark.parametrize("case", CASES)
def test_mel_image_equals_librosa(case):
    eeg = eeg_of(case)
    panels = librosa_panels(eeg)
    parts = [stacked(part) for part in (panels, by_percentiles(panels), by_extremes(panels))]
    made = make(eeg[None], EegMelImage(parts=ALL_PARTS))
    assert made.shape == (1, 1, 512, 768)
    assert_same_image(made[0, 0].numpy(), np.concatenate(parts, axis=1))


@pytest.mark.parametrize(
    ("case", "wavelet"), [("gap", "db8"), ("900101", "haar"), ("900403", "db8"), (MOVEMENTS, "db8")]
)
def test_denoised_mel_image_equals_librosa_and_pywt(case, wavelet):
    eeg = eeg_of(case)
    made = make(eeg[None], EegMelImage(denoise=wavelet, resize=(256, 200)))
    panels = librosa_panels(eeg, lambda signal: denoise_by_pywt(signal, wavelet))
    assert_same_image(made[0, 0].numpy(), bilinear(stacked(panels), (256, 200)))


# ---- the waves as an image


@pytest.mark.parametrize("case", ["gap", "900101", MOVEMENTS])
def test_folded_rows_hold_every_sample_in_its_place(case):
    eeg = eeg_of(case)
    waves = waves_by_mne(eeg, DOUBLE_BANANA, clip=50) / 10
    assert (np.abs(waves) == 5).any()
    made = make(eeg[None], RawImage(clip=50, scale=10))[0, 0].numpy()
    assert_same_image(made, waves.reshape(360, 500))  # 20 rows of 2.5 s a difference
    centre = np.concatenate([waves.reshape(90, 2000), waves[:, 2000:8000].reshape(54, 2000)])
    config = RawImage(clip=50, scale=10, columns=2000, crops=(50, 30), copies=3, resize=(160, 1000))
    for copy in make(eeg[None], config)[0].numpy():
        assert_same_image(copy, bilinear(centre, (160, 1000)))


def test_resized_rows_are_smoothed_as_pillow_smooths():
    eeg = eeg_of("noise")
    waves = waves_by_mne(eeg, DOUBLE_BANANA).astype(np.float32) / 32
    made = make(eeg[None], RawImage(rows="resized", crops=(50, 10)))[0, 0].numpy()
    crops = [waves, waves[:, 4000:6000]]
    shrunk = [np.asarray(Image.fromarray(crop).resize((500, 18), Image.Resampling.BILINEAR)) for crop in crops]
    assert_same_image(made, np.concatenate(shrunk))


# ---- spectra


def log_spectra(waves, hop, mean=0.0, deviation=2.0):
    _, _, power = scipy.signal.spectrogram(waves, 200, "hann", 100, 100 - hop, 200, detrend=False)
    with np.errstate(divide="ignore"):
        return (np.clip(np.log(power[:, 1:21]), -4, 8) - mean) / deviation


@pytest.mark.parametrize("case", CASES)
def test_tiled_spectra_equal_scipy(case):
    eeg = eeg_of(case)
    pairs = [pair for chain in CHAINS.values() for pair in itertools.pairwise(chain.split())]
    maps = log_spectra(waves_by_mne(eeg, pairs), 40)
    made = make(eeg[None], EegSpectra(tiles=4))[0, 0].numpy()
    assert maps.shape == (16, 20, 248) and made.shape == (80, 992)
    expected = np.concatenate([np.concatenate(maps[row : row + 4], axis=1) for row in range(0, 16, 4)])  # chain a row
    assert_same_image(made, expected)


@pytest.mark.parametrize("case", ["silent electrode", "900403", MOVEMENTS])
def test_zooms_in_depth_equal_scipy(case):
    eeg = eeg_of(case)
    waves = waves_by_mne(eeg, DOUBLE_BANANA)
    centres = [(50, 40, waves), (30, 13, waves[:, 2000:8000]), (10, 4, waves[:, 4000:6000])]
    crops = tuple(Crop(seconds=seconds, transform=Stft(hop=hop), size=(48, 96)) for seconds, hop, _ in centres)
    config = EegSpectra(montage="double-banana", layout="depth", crops=crops, join="below", mean=1.0, deviation=3.0)
    made = make(eeg[None], config)[0].numpy()
    expected = [[bilinear(image, (48, 96)) for image in log_spectra(crop, hop, 1, 3)] for _, hop, crop in centres]
    assert made.shape == (18, 144, 96)
    assert_same_image(made, np.concatenate(expected, axis=1))


@pytest.mark.parametrize("case", ["noise", "constant difference", "900403", MOVEMENTS])
def test_peak_scaled_mel_equals_librosa(case):
    eeg = eeg_of(case)
    pairs = [pair for chain in CHAINS.values() for pair in itertools.pairwise(chain.split())]
    mel = Mel(window=16, hop=4, n_mels=64, low=0.53, high=40)
    config = EegSpectra(high=40, scale="peak", layout="depth", crops=(Crop(seconds=10, transform=mel),))
    expected = []
    for wave in waves_by_mne(eeg, pairs, high=40)[:, 4000:6000]:
        power = librosa.feature.melspectrogram(
            y=wave, sr=200, n_fft=1024, hop_length=4, win_length=16, n_mels=64, fmin=0.53, fmax=40
        )
        density = power * 2 / (0.375 * 16 * 1024)
        expected.append((librosa.power_to_db(density, ref=np.max) + 40) / 40)
    assert_same_image(make(eeg[None], config)[0].numpy(), np.stack(expected))


# ---- several images


def test_images_are_joined_along_each_axis():
    eeg = eeg_of("noise")[None]
    one, other = RawImage(columns=250, crops=(10,)), RawImage(columns=250, crops=(10,), low=2)
    images = [make(eeg, config) for config in (one, other)]
    for side, axis in (("channels", 1), ("below", 2), ("beside", 3)):
        assert torch.equal(make(eeg, CombinedImage(images=(one, other), join=side)), torch.cat(images, dim=axis))


def test_images_that_do_not_fit_are_refused_with_their_sizes():
    tall, short = torch.zeros(2, 1, 512, 256), torch.zeros(2, 1, 400, 256)
    with pytest.raises(ValueError, match=r"1 x 512 x 256, 1 x 400 x 256 .* do not fit beside; give them a size"):
        join_images([tall, short], "beside")
    assert join_images([tall, short], "below").shape == (2, 1, 912, 256)
    with pytest.raises(ValueError, match="do not fit channels"):
        make(eeg_of("noise")[None], CombinedImage(images=(RawImage(), RawImage(columns=1000)), join="channels"))
