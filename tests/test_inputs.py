"""What holds for every input of the kit: the same window gives the same input, float32, never NaN."""

import itertools
import threading
import warnings

import numpy as np
import pytest
import torch
from eeg_samples import (
    INPUTS,
    broken_eegs,
    broken_spectrograms,
    eeg_like,
    every_input,
    read_real_spectrogram,
    real_eeg,
    rows_of,
    windows_for,
)

from common import features
from common.errors import tables_in
from common.features import Windows, build_input, input_shape
from common.inputs import (
    AnyTransform,
    CombinedImage,
    Crop,
    EegMelImage,
    EegSpectra,
    InputConfig,
    KaggleImage,
    Mel,
    RawImage,
    Strict,
)

SHAPES = {
    "kaggle": (1, 400, 900),
    "kaggle-stat-below": (1, 800, 300),
    "kaggle-padded": (1, 512, 256),
    "mel": (1, 512, 768),
    "mel-haar": (1, 64, 96),
    "sequence": (18, 10_000),
    "sequence-quality": (72, 5000),
    "sequence-40": (16, 2000),
    "raw-folded": (1, 360, 500),
    "raw-crops": (3, 160, 128),
    "raw-resized": (1, 36, 500),
    "stft": (1, 80, 992),
    "stft-zooms": (1, 720, 288),
    "mel-zoom": (16, 96, 128),
    "multitaper": (18, 50, 241),
    "two-sources": (1, 512, 512),
    "as-channels": (2, 32, 32),
    "below-each-other": (1, 1440, 250),
}
every = pytest.mark.parametrize("config", every_input().values(), ids=every_input())
# What the float32 of a sequence or a raw image can hold: clipped waves of up to 32 units.
UNITS = {"rtol": 1e-5, "atol": 2e-5}


def broken_windows(config):
    return windows_for(config, broken_eegs(), broken_spectrograms())


@every
def test_input_is_float32_finite_and_of_the_promised_shape(config):
    made = build_input(broken_windows(config), config)
    assert made.dtype == torch.float32 and made.isfinite().all()
    assert made.shape == (7, *input_shape(config))
    assert not torch.equal(made[0], made[1])


@every
def test_same_window_gives_the_same_bits_in_any_batch_and_order(config):
    windows = broken_windows(config)
    order = [4, 0, 1]
    together = build_input(rows_of(windows, order), config)
    assert torch.equal(build_input(rows_of(windows, [1, 4, 0]), config), together[[2, 0, 1]])
    assert torch.equal(build_input(rows_of(windows, slice(1, 2)), config), together[2:])


@every
def test_same_window_gives_the_same_bits_to_any_caller(config):
    windows = rows_of(broken_windows(config), [1])
    quiet = build_input(windows, config)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            assert torch.equal(build_input(windows, config), quiet)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    doubled = Windows(*(None if raw is None else raw.double() for raw in (windows.eeg, windows.spectrogram)))
    assert torch.equal(build_input(doubled, config), quiet)


@every
def test_two_threads_make_the_same_bits(config):
    windows, made = rows_of(broken_windows(config), [0, 1]), [None, None]

    def work(row):
        made[row] = build_input(rows_of(windows, [row]), config)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.cat(made), build_input(windows, config))


@every
def test_made_in_groups_as_on_a_gpu_it_is_the_same(config):
    windows = rows_of(broken_windows(config), [0, 1, 5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = features.make(config, windows.eeg, windows.spectrogram)
    for group, alone in zip(made, build_input(windows, config), strict=True):
        np.testing.assert_allclose(group, alone, atol=max(2e-5, 1e-5 * alone.abs().max().item()), rtol=0)


def test_groups_are_of_one_size_and_filled_up_with_silence():
    groups = list(features.in_groups(torch.arange(1.0, 6.0)[:, None].double(), 2))
    assert [group.flatten().tolist() for group in groups] == [[1, 2], [3, 4], [5, 0]]
    assert {group.dtype for group in groups} == {torch.float32}
    assert next(features.in_groups(None, 2)) is None


def test_on_a_gpu_it_is_the_same():
    if not torch.cuda.is_available():
        pytest.skip("no GPU that this torch can use")
    for name, config in every_input().items():
        windows = broken_windows(config)
        there = Windows(*(None if raw is None else raw.cuda() for raw in (windows.eeg, windows.spectrogram)))
        made = build_input(there, config)
        assert made.is_cuda, name
        np.testing.assert_allclose(made.cpu(), build_input(windows, config), **UNITS, err_msg=name)
        assert torch.equal(build_input(rows_of(there, [4, 0, 1]), config), made[[4, 0, 1]]), name


@every
def test_number_of_threads_hardly_matters(config):
    """Bits may differ: BLAS cuts a product into other pieces for other numbers of threads."""
    windows, before = rows_of(broken_windows(config), [1]), torch.get_num_threads()
    made = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            made.append(build_input(windows, config))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(made[1], made[0], **UNITS)


@pytest.mark.parametrize(
    "name", ["two-sources", "stft-zooms", "mel-zoom", "raw-resized", "sequence-quality", "multitaper"]
)
def test_real_window_gives_the_same_bits_in_any_batch(name):
    config = INPUTS[name]
    eegs, power = np.stack([real_eeg("900101"), real_eeg("900603")]), np.stack([read_real_spectrogram()] * 2)
    windows = windows_for(config, eegs, power)
    made = build_input(windows, config)
    assert made.isfinite().all() and not torch.equal(made[0], made[1])
    assert torch.equal(build_input(rows_of(windows, [1, 0]), config), made.flip(0))


# ---- shapes and coverage


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_written_out(name):
    assert input_shape(INPUTS[name]) == SHAPES[name]


def options_of(config):
    """(table, option, value) of all that a config sets, inside its images and crops too."""
    for key, value in config:
        yield type(config), key, value
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Strict):
                yield from options_of(inner)


def test_every_option_of_every_input_is_tried_away_from_its_default():
    tried = list(itertools.chain.from_iterable(map(options_of, INPUTS.values())))
    assert {type(config) for config in INPUTS.values()} == set(tables_in(InputConfig))
    for table in (*tables_in(InputConfig), *tables_in(AnyTransform), Crop):
        for option, field in table.model_fields.items():
            if option != "kind":
                values = [value for where, key, value in tried if (where, key) == (table, option)]
                assert any(value != field.default for value in values), f"{table.__name__}.{option}"


def test_input_names_the_recording_it_lacks():
    with pytest.raises(ValueError, match="EegMelImage needs the EEG"):
        build_input(Windows(None, torch.zeros(1, 4, 100, 300)), EegMelImage())
    with pytest.raises(ValueError, match="KaggleImage needs the spectrogram"):
        build_input(Windows(torch.zeros(1, 20, 10_000), None), INPUTS["two-sources"])


@pytest.mark.parametrize("name", every_input())
def test_absurd_values_never_become_nan(name):
    config = every_input()[name]
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
