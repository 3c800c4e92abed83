"""The axes of drawn inputs: a sine is at its frequency, an event at its second, every kind has a layout that fits."""

import numpy as np
import pytest
import torch
from eeg_samples import NAMES, eeg_like, every_input

from common.inputs.base import Windows
from common.inputs.build import build_input, input_shape
from common.inputs.config import EegMelImage, EegSpectra, KaggleImage, RawImage
from common.schema import FREQUENCIES
from train.plots.inputs import draw_image, draw_input
from train.plots.layouts import layout_of
from train.plots.style import new_figure, place

IMAGES = {name: config for name, config in every_input().items() if config.form == "image"}


def axes_of(height=100, width=130):
    return place(new_figure(180, 140), 20, 10, width, height)


@pytest.mark.parametrize("name", IMAGES)
def test_layout_has_the_shape_of_the_input(name):
    layout = layout_of(IMAGES[name])
    assert (layout.channels, layout.height, layout.width) == input_shape(IMAGES[name])
    area = sum(panel.height * panel.width for panel in layout.panels)
    filled = layout.channels if len({panel.channel for panel in layout.panels}) > 1 else 1
    assert area == pytest.approx(filled * layout.height * layout.width)


def sine_windows(hertz, start=0.0, stop=50.0):
    """A batch of one: a sine in every electrode, its own size in each, from `start` to `stop`; a spectrogram line."""
    time = np.arange(10_000) / 200
    wave = np.sin(2 * np.pi * hertz * time) * ((time >= start) & (time < stop))
    size = np.random.default_rng(0).permutation(np.arange(20)) * 10 + 20
    eeg = (size[:, None] * wave + np.random.default_rng(1).normal(0, 0.1, (20, 10_000))).astype(np.float32)
    power = np.full((4, 100, 300), 1e-2, dtype=np.float32)
    power[:, np.abs(np.array(FREQUENCIES) - hertz).argmin(), 140:160] = 1e3
    return Windows(torch.from_numpy(eeg)[None], torch.from_numpy(power)[None])


@pytest.mark.parametrize("name", [name for name, config in IMAGES.items() if "raw" not in name])
def test_a_sine_is_drawn_at_its_frequency(name):
    config, hertz = IMAGES[name], 5.0
    image = build_input(sine_windows(hertz), config)[0].numpy()
    sheet, _ = draw_image(axes_of(), image, config)
    checked = 0
    for panel in sheet.layout.panels:
        if not panel.hertz or panel.name in ("range", "minimum") or not panel.hertz[0] < hertz < panel.hertz[-1]:
            continue
        rows = slice(round(panel.top), round(panel.top + panel.height))
        columns = slice(round(panel.left + panel.width * 0.45), max(round(panel.left + panel.width * 0.55), 1))
        profile = image[panel.channel, rows, columns].mean(axis=1)
        loudest = np.flatnonzero(profile >= profile.max() - 0.02 * np.ptp(profile)) + round(panel.top) + 0.5
        pitch = np.interp(hertz, panel.hertz, np.gradient(panel.hertz))
        near = max(1.0, panel.height / len(panel.hertz)) + 0.5 + (2.0 / pitch * panel.height / len(panel.hertz))
        assert np.abs(loudest - panel.row(hertz)).min() <= near, panel.name
        _, _, top, bottom = sheet.box(panel)
        assert sheet.y(panel, hertz) == pytest.approx(bottom - (panel.row(hertz) - panel.top))  # turned over
        assert top < sheet.y(panel, hertz) < bottom and sheet.y(panel, hertz + 1) < sheet.y(panel, hertz)
        checked += 1
    assert checked or all(not panel.hertz for panel in sheet.layout.panels)


def test_ticks_stand_where_the_frequency_is_drawn():
    config, axes = KaggleImage(), axes_of()
    sheet, _ = draw_image(axes, build_input(sine_windows(10.0), config)[0].numpy(), config)
    drawn = axes.get_images()[1]  # the second panel, RL
    left, right, bottom, top = drawn.get_extent()
    values = np.asarray(drawn.get_array())
    row = values[:, 145:155].mean(axis=1).argmax()
    assert drawn.origin == "lower" and (left, right) == (0, 300)
    y = bottom + (row + 0.5) / len(values) * (top - bottom)
    ticks = dict(zip(axes.get_yticks(), [label.get_text() for label in axes.get_yticklabels()], strict=True))
    nearest = min((tick for tick in ticks if top <= tick <= bottom), key=lambda tick: abs(tick - y))
    assert ticks[nearest] == "10" and abs(nearest - y) < 1
    assert "Hz" in axes.get_ylabel() and axes.get_xlabel() == "time (s)"
    seconds = dict(zip([label.get_text() for label in axes.get_xticklabels()], axes.get_xticks(), strict=True))
    assert seconds["0"] == 0 and seconds["300"] == 150
    assert [round(sheet.x(sheet.layout.panels[0], s)) for s in (0, 300, 600)] == [0, 150, 300]


@pytest.mark.parametrize(
    "name", [name for name, config in IMAGES.items() if isinstance(config, EegMelImage | EegSpectra)]
)
def test_seconds_are_where_something_happens(name):
    config = IMAGES[name]
    image = build_input(sine_windows(8.0, 22.0, 28.0), config)[0].numpy()
    for panel in layout_of(config).panels:
        if panel.name in ("range", "minimum") or not panel.hertz[0] < 8 < panel.hertz[-1]:
            continue
        row = min(int(panel.row(8.0)), round(panel.top + panel.height) - 1)
        line = image[panel.channel, row, round(panel.left) : round(panel.left + panel.width)]
        loud = np.flatnonzero(line > (line.max() + np.median(np.sort(line)[: len(line) // 4])) / 2) + round(panel.left)
        middle = (panel.column(22.0) + panel.column(28.0)) / 2
        per_second = panel.width / (panel.seconds[1] - panel.seconds[0])
        assert abs((loud.min() + loud.max() + 1) / 2 - middle) <= 1.0 + 0.3 * per_second, panel.name


def test_waves_lie_in_the_row_of_their_second():
    eeg = np.zeros((1, 20, 10_000), dtype=np.float32)
    eeg[0, NAMES.index("F7"), 6_000:6_020] = 500  # second 30
    config = RawImage()
    image = build_input(Windows(torch.from_numpy(eeg), None), config)[0, 0].numpy()
    panel = next(panel for panel in layout_of(config).panels if panel.name == "F7-T3")
    row, column = np.unravel_index(image.argmax(), image.shape)
    first, last = panel.seconds
    second = (row - panel.top) * (last - first) + first + (column + 0.5) / panel.width * (last - first)
    assert 30 <= second <= 30.1 and panel.top <= row < panel.top + panel.height


FEW = ("kaggle", "mel", "sequence-quality", "raw-crops", "stft-zooms", "mel-zoom", "two-sources", "below-each-other")


@pytest.mark.parametrize("names", [FEW, pytest.param(tuple(every_input()), marks=pytest.mark.slow)], ids=["few", "all"])
def test_inputs_of_all_kinds_are_drawn(names):
    windows = Windows(torch.from_numpy(eeg_like(2))[None], sine_windows(5).spectrogram)
    for config in map(every_input().get, names):
        axes = axes_of()
        draw_input(axes, build_input(windows, config)[0].numpy(), config)
        in_hertz = config.form == "image" and any(panel.hertz for panel in layout_of(config).panels)
        assert ("Hz" in axes.get_ylabel()) == in_hertz
        assert axes.get_xlabel() == "time (s)" and len(axes.get_xticks()) and len(axes.get_yticks())
        axes.get_figure().canvas.draw()
