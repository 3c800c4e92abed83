"""Wavelet denoising as in the public recipe: small coefficients of the discrete transform are cut."""

import numpy as np
import pywt
import torch
from torch import Tensor


def denoise(signal: Tensor, wavelet: str) -> Tensor:
    """Detail coefficients below sigma sqrt(2 ln n) become 0; sigma from the finest ones' mean absolute deviation.

    signal: (channels, time) without NaN; returns the same shape, type and device. Source: the public recipe of the EEG
    spectrogram (hard threshold). In float64: a coefficient at the threshold must not fall to the other side.
    """
    n_time = signal.shape[-1]
    approximation, *details = pywt.wavedec(signal.double().cpu().numpy(), wavelet, mode="periodization", axis=-1)
    deviation = np.abs(details[-1] - details[-1].mean(axis=-1, keepdims=True)).mean(axis=-1, keepdims=True)
    threshold = deviation / 0.6745 * np.sqrt(2 * np.log(n_time))
    kept = [np.where(np.abs(detail) >= threshold, detail, 0.0) for detail in details]
    whole = pywt.waverec([approximation, *kept], wavelet, mode="periodization", axis=-1)
    return torch.from_numpy(whole[..., :n_time]).to(signal)
