"""What holds for every input of the kit: the same window gives the same input, float32, never NaN."""

import functools
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from eeg_samples import INPUTS, broken_eegs, broken_spectrograms, eeg_like, every_input, rows_of, windows_for

from common.inputs.base import Windows
from common.inputs.build import build_input, in_groups, input_shape
from common.inputs.config import CombinedImage, EegMelImage, EegSpectra, KaggleImage, RawImage
from common.inputs.eeg_spectra import Crop
from common.inputs.transforms import Mel

every = pytest.mark.parametrize("config", every_input().values(), ids=every_input())
# What the float32 of a sequence or a raw image can hold: clipped waves of up to 32 units.
UNITS = {"rtol": 1e-5, "atol": 2e-5}


def broken_windows(config):
    return windows_for(config, broken_eegs(), broken_spectrograms())


@functools.cache
def made_once(config):
    """The input of all broken windows."""
    return build_input(broken_windows(config), config)


@every
def test_input_is_float32_finite_and_of_the_promised_shape(config):
    made = made_once(config)
    assert made.dtype == torch.float32 and made.isfinite().all()
    assert made.shape == (7, *input_shape(config))
    assert not torch.equal(made[0], made[1])


@every
def test_same_window_gives_the_same_bits_in_any_batch_order_and_thread(config):
    windows, made, order = broken_windows(config), made_once(config), [4, 0, 1]
    assert torch.equal(build_input(rows_of(windows, order), config), made[order])
    with ThreadPoolExecutor(2) as pool:
        alone = pool.map(lambda row: build_input(rows_of(windows, [row]), config), range(2))
    assert torch.equal(torch.cat(list(alone)), made[:2])


@every
def test_same_window_gives_the_same_bits_to_any_caller(config):
    windows, made = rows_of(broken_windows(config), [1]), made_once(config)[1:2]
    precision, n_threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    doubled = Windows(*(None if raw is None else raw.double() for raw in (windows.eeg, windows.spectrogram)))
    try:
        torch.set_float32_matmul_precision("medium")
        torch.set_num_threads(3 - min(n_threads, 2))  # 2 where there was 1, 1 where there were more
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            assert torch.equal(build_input(doubled, config), made)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(n_threads)


@every
def test_made_in_groups_as_on_a_gpu_it_is_the_same(config):
    rows = [0, 1, 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = config.make(rows_of(broken_windows(config), rows))
    for group, alone in zip(made, made_once(config)[rows], strict=True):
        np.testing.assert_allclose(group, alone, atol=max(2e-5, 1e-5 * alone.abs().max().item()), rtol=0)


def test_groups_are_of_one_size_and_filled_up_with_silence():
    groups = list(in_groups(torch.arange(1.0, 6.0)[:, None].double(), 2))
    assert [group.flatten().tolist() for group in groups] == [[1, 2], [3, 4], [5, 0]]


def test_on_a_gpu_it_is_the_same():
    if not torch.cuda.is_available():
        pytest.skip("no GPU that this torch can use")
    for name, config in every_input().items():
        windows = broken_windows(config)
        there = Windows(*(None if raw is None else raw.cuda() for raw in (windows.eeg, windows.spectrogram)))
        made = build_input(there, config)
        assert made.is_cuda, name
        np.testing.assert_allclose(made.cpu(), made_once(config), **UNITS, err_msg=name)
        assert torch.equal(build_input(rows_of(there, [4, 0, 1]), config), made[[4, 0, 1]]), name


# ---- what is refused, what is absurd


def test_input_names_the_recording_it_lacks():
    with pytest.raises(ValueError, match="EegMelImage needs the EEG"):
        build_input(Windows(None, torch.zeros(1, 4, 100, 300)), EegMelImage())
    with pytest.raises(ValueError, match="KaggleImage needs the spectrogram"):
        build_input(Windows(torch.zeros(1, 20, 10_000), None), INPUTS["two-sources"])


@every
def test_absurd_values_never_become_nan(config):
    eeg, power = np.full((3, 20, 10_000), 3e38, dtype=np.float32), np.full((3, 4, 100, 300), 3e38, dtype=np.float32)
    eeg[0] *= np.resize([1, -1, 1, 1, -1], (20, 1))
    eeg[1, :, ::2] = -np.inf
    eeg[2], eeg[2, 0, 5000], eeg[2, 4, 5000] = eeg_like(3), 3e38, -3e38
    assert build_input(windows_for(config, eeg, power), config).isfinite().all()


def test_windows_of_another_shape_are_refused():
    eeg, power = torch.zeros(2, 20, 10_000), torch.ones(1, 4, 100, 300)
    both = CombinedImage(images=(KaggleImage(resize=(64, 64)), RawImage(resize=(64, 64))))
    with pytest.raises(ValueError, match="2 windows of eeg and 1 windows of spectrogram"):
        build_input(Windows(eeg, power), both)
    for wrong in (eeg[:0], eeg[:, :19], eeg[..., :9000], eeg[0]):
        with pytest.raises(ValueError, match=r"windows\.eeg has the shape .* expected \(at least 1, 20, 10000\)"):
            build_input(Windows(wrong, None), RawImage())


def test_mels_without_a_bin_are_refused():
    for mel, message in ((Mel(n_fft=128, low=0.6, high=0.9), "64 of 64 mels"), (Mel(n_fft=128), "41 of 64 mels")):
        with pytest.raises(ValueError, match=f"{message} .* hold no bin of 200/128 Hz; raise n_fft"):
            input_shape(EegSpectra(crops=(Crop(transform=mel),)))
