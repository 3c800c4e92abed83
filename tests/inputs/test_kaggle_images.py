"""The images of the competition's spectrogram against numpy and as the published notebooks make them."""

import numpy as np
import pytest
import torch
from eeg_samples import ALL_PARTS, STARTER_KAGGLE, bilinear, broken_spectrograms, eeg_like, make

from common.inputs.base import Constants, Windows, constants_wanted, with_constants
from common.inputs.build import build_input
from common.inputs.config import CombinedImage, EegMelImage, KaggleImage
from train.data.constants import measure_constants

ATOL = 2e-5
PUBLISHED = {"spec": (-0.08340271, 1.9072835), "stat": (0.07975473, 1.9484872)}


def clipped_log(power):
    return np.log(np.clip(power.astype(np.float64), np.exp(-4), np.exp(8)))


def mean_and_std(log_power):
    return (0, 1) if np.isnan(log_power).all() else (np.nanmean(log_power), np.nanstd(log_power))


def standardised(log_power, how):
    """(4, height, width), NaN where missing -> scaled, missing 0."""
    groups = log_power if how == "panel" else log_power[None]
    scaled = []
    for group in groups:
        mean, deviation = mean_and_std(group) if how in ("panel", "image") else how
        scaled.append((group - mean) / (deviation + 1e-6))
    return np.nan_to_num(np.array(scaled).reshape(log_power.shape), nan=0.0)


def by_percentiles(panels):
    return np.percentile(panels, [20, 40, 60, 80], axis=0)


def by_extremes(panels):
    return np.stack([panels.min(axis=0), panels.max(axis=0), panels.mean(axis=0), np.ptp(panels, axis=0)])


def stacked(panels):
    return panels.reshape(-1, panels.shape[-1])


def finite_windows():
    """Of the broken windows those that are neither NaN throughout nor constant."""
    return broken_spectrograms()[:3]


def assert_equal_images(config, expected):
    """The images of finite_windows() are what `expected` makes of each window."""
    for image, window in zip(make(finite_windows(), config).numpy(), finite_windows(), strict=True):
        np.testing.assert_allclose(image[0], expected(window), atol=ATOL, rtol=0)


@pytest.mark.parametrize("columns", [300, 64])
@pytest.mark.parametrize(
    ("setting", "how"),
    [
        ("panel", "panel"),
        ("image", "image"),
        ("spec", PUBLISHED["spec"]),
        ("stat", PUBLISHED["stat"]),
        (Constants(mean=0.5, deviation=1.5), (0.5, 1.5)),
    ],
    ids=["panel", "image", "spec", "stat", "given"],
)
def test_kaggle_image_equals_numpy(setting, how, columns):
    centre = slice(150 - columns // 2, 150 + columns // 2)
    config = KaggleImage(standardise=setting, columns=columns)
    assert_equal_images(config, lambda window: stacked(standardised(clipped_log(window[..., centre]), how)))


def test_missing_constant_loud_and_zero_windows():
    """Nothing to tell apart becomes zero; fixed constants keep what is loud."""
    for setting in ("panel", "image"):
        assert (make(broken_spectrograms()[3:], KaggleImage(standardise=setting)).abs() < 1e-6).all()
    missing, constant, loud, zero = make(broken_spectrograms()[3:], KaggleImage(standardise="spec"))[:, 0, 0, 0]
    mean, deviation = PUBLISHED["spec"]
    assert missing == 0 and constant == pytest.approx((np.log(2.7) - mean) / deviation, abs=1e-5)
    assert loud == pytest.approx((8 - mean) / deviation, abs=1e-5)
    assert zero == pytest.approx((-4 - mean) / deviation, abs=1e-5)


@pytest.mark.parametrize("join", ["beside", "below"])
def test_parts_are_joined_in_their_order(join):
    def expected(window):
        panels = standardised(clipped_log(window), PUBLISHED["stat"])
        parts = [stacked(part) for part in (panels, by_percentiles(panels), by_extremes(panels))]
        return np.concatenate(parts, axis=1 if join == "beside" else 0)

    assert_equal_images(KaggleImage(standardise="stat", parts=ALL_PARTS, join=join), expected)


def test_panels_scaled_alone_stand_beside_percentiles_of_the_image_as_a_whole():
    """The seed's section 6: 400 x 600."""

    def expected(window):
        logs = clipped_log(window)
        left, right = standardised(logs, "panel"), by_percentiles(standardised(logs, "image"))
        return np.concatenate([stacked(left), stacked(right)], axis=1)

    config = KaggleImage(standardise="panel", standardise_features="image", parts=("image", "percentiles"))
    assert_equal_images(config, expected)


def test_resnet34d_baseline():
    """NaN is no power at all, scaled as a whole, 512 x 512."""

    def expected(window):
        panels = standardised(clipped_log(np.nan_to_num(window, nan=0.0)), "image")
        return bilinear(stacked(panels), (512, 512))

    assert_equal_images(KaggleImage(missing="silence", standardise="image", resize=(512, 512)), expected)


def test_efficientnet_b0_starter():
    """Each panel standardised over its ten minutes, the central 256 columns of it halved, in the middle of 128 rows."""
    window = finite_windows()[1]
    filled = np.zeros((4, 128, 256))
    filled[:, 14:-14] = standardised(clipped_log(window), "panel")[..., 22:-22] / 2
    config = CombinedImage(images=(STARTER_KAGGLE, EegMelImage()))
    eeg = eeg_like(1)[None]
    made = build_input(Windows(torch.from_numpy(eeg), torch.from_numpy(window[None])), config)
    assert made.shape == (1, 1, 512, 512)
    np.testing.assert_allclose(made[0, 0, :, :256], stacked(filled), atol=ATOL, rtol=0)
    assert torch.equal(made[..., 256:], make(eeg, EegMelImage()))


def test_the_callers_window_is_left_alone():
    raw = torch.from_numpy(broken_spectrograms())
    given = raw.clone()
    build_input(Windows(None, raw), KaggleImage())
    measure_constants(KaggleImage(standardise="training"), [Windows(None, raw)])
    assert torch.equal(raw.nan_to_num(-1), given.nan_to_num(-1))


# ---- constants of the training rows


def test_measured_constants_are_the_mean_of_means_and_the_mean_of_deviations():
    power = broken_spectrograms()
    config = KaggleImage(standardise="training", columns=64)
    batches = [Windows(None, torch.from_numpy(power[rows])) for rows in (slice(3), slice(3, 4), slice(4, None))]
    (measured,) = measure_constants(config, batches)
    crops = [clipped_log(window[..., 118:182]) for k, window in enumerate(power) if k != 3]  # window 3 is all NaN
    means, deviations = zip(*map(mean_and_std, crops), strict=True)
    assert measured.mean == pytest.approx(np.mean(means), abs=1e-7)
    assert measured.deviation == pytest.approx(np.mean(deviations), abs=1e-7)


def test_measured_constants_fill_their_places_in_order():
    training = KaggleImage(standardise="training")
    half = KaggleImage(standardise_features="training", parts=("image", "global"), columns=64)
    config = CombinedImage(images=(training, EegMelImage(resize=(400, 256)), half))
    assert constants_wanted(config) == 2 and constants_wanted(KaggleImage()) == 0
    power = torch.from_numpy(broken_spectrograms())
    measured = measure_constants(config, [Windows(torch.zeros(7, 1), power)])
    assert measured[0] != measured[1]  # of 300 columns and of 64
    filled = with_constants(config, measured)
    assert constants_wanted(filled) == 0 and filled.images[1] == config.images[1]
    assert filled.images[0] == KaggleImage(standardise=measured[0])
    assert filled.images[2] == half.model_copy(update={"standardise_features": measured[1]})
    assert measure_constants(KaggleImage(), iter([])) == ()


def test_unmeasured_constants_are_refused():
    config = KaggleImage(standardise="training")
    with pytest.raises(ValueError, match="constants of the training rows are not measured yet"):
        make(finite_windows(), config)
    with pytest.raises(ValueError, match="1 measured constants wanted, got 0"):
        with_constants(config, ())
    with pytest.raises(ValueError, match="not one spectrogram has a finite value"):
        measure_constants(config, [Windows(None, torch.from_numpy(broken_spectrograms()[3:4]))])
