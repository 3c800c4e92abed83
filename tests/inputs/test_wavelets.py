"""Wavelet denoising against the public recipe, one signal at a time."""

import numpy as np
import pytest
import pywt
import torch
from eeg_samples import eeg_like, real_eeg

from common.signal.wavelets import denoise


def denoise_by_pywt(signal, wavelet):
    """One signal as the public notebook does it; n is the signal's length."""
    coefficients = pywt.wavedec(signal.astype(np.float64), wavelet, mode="periodization")
    finest = coefficients[-1]
    sigma = np.mean(np.abs(finest - finest.mean())) / 0.6745
    threshold = sigma * np.sqrt(2 * np.log(len(signal)))
    kept = [coefficients[0], *(pywt.threshold(detail, value=threshold, mode="hard") for detail in coefficients[1:])]
    return pywt.waverec(kept, wavelet, mode="periodization")[: len(signal)]


@pytest.mark.parametrize("n_time", [10_000, 1023])
@pytest.mark.parametrize("wavelet", ["haar", "db4", "db8", "sym8"])
def test_denoised_equals_the_public_recipe(wavelet, n_time):
    signals = np.concatenate([eeg_like(3, n_time)[:2], np.full((1, n_time), 7.3), np.zeros((1, n_time))])
    signals = signals.astype(np.float32)
    ours = denoise(torch.from_numpy(signals), wavelet).numpy()
    assert ours.dtype == np.float32
    for row, signal in zip(ours, signals, strict=True):
        expected = denoise_by_pywt(signal, wavelet)
        np.testing.assert_allclose(row, expected, atol=1e-6 * max(np.abs(signal).max(), 1))
    assert np.abs(ours[0] - signals[0]).max() > 1  # something was cut


def test_denoised_equals_the_public_recipe_on_real_eeg():
    signals = real_eeg("900403")[:4] - real_eeg("900403")[1:5]
    ours = denoise(torch.from_numpy(signals), "db8").numpy()
    for row, signal in zip(ours, signals, strict=True):
        np.testing.assert_allclose(row, denoise_by_pywt(signal, "db8"), atol=1e-6 * np.abs(signal).max())
