"""What a new kind of input and a new net ask for: a file each, and their names in the unions (docs/inputs.md)."""

import shutil
import subprocess
import sys

import pytest
from conftest import PROJECT

pytestmark = pytest.mark.slow  # another tree, and its kernel

INPUT = '''
"""How loud each difference is in each second."""

from typing import Literal

from torch import Tensor

from common.inputs.base import ImageAxes, Maps, Size, Windows
from common.inputs.eeg_signal import EegSignal


class LoudnessImage(EegSignal):
    kind: Literal["loudness-image"] = "loudness-image"
    resize: Size | None = None

    def make(self, windows: Windows) -> Tensor:
        return self.waves(self.given(windows)).unflatten(-1, (50, -1)).abs().mean(dim=-1).unsqueeze(1)

    def describe(self) -> str:
        return "loudness of the EEG"

    def axes(self) -> ImageAxes:
        return ImageAxes((Maps(self.names, (), (0.0, 50.0), (1, 50)),), "below", self.resize)
'''
NET = '''
"""The mean of an image, weighed."""

from typing import Any, Literal

from torch import Tensor, nn

from common.models.base import NetConfig
from common.schema import PATTERNS


class MeanNetConfig(NetConfig):
    kind: Literal["mean-net"] = "mean-net"

    def build(self, input_config: Any, shape: tuple[int, ...]) -> nn.Module:
        return MeanNet(shape[0])

    def describe(self) -> str:
        return "a mean"


class MeanNet(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(channels, len(PATTERNS))

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(image.mean(dim=(-2, -1)))
'''
CONFIG = """
[input]
kind = "combined-image"
images = [{kind = "loudness-image", high = 30.0}, {kind = "raw-image", columns = 50}]
join = "below"
[model]
kind = "mean-net"
"""
# In the other tree: from the config to logits, words, a picture, and a refusal that names the new kind's keys.
PROBE = """
from pathlib import Path
import torch
from common.config import load_experiment
from common.draw import new_figure, place
from common.inputs.base import Windows
from common.inputs.build import build_input, input_shape
from common.models.build import build_model
from common.strict import ConfigError
from train.experiment_words import recipe_words
from train.plots.inputs import draw_input
from train.plots.layouts import layout_of
config = Path("loudness.toml")
experiment = load_experiment(config)
images = build_input(Windows(torch.randn(2, 20, 10_000), None), experiment.input)
layout = layout_of(experiment.input)
assert images.shape[1:] == input_shape(experiment.input) == (layout.channels, layout.height, layout.width)
draw_input(place(new_figure(180, 140), 20, 10, 130, 100), images[0].numpy(), experiment.input)
assert build_model(experiment)(images).shape == (2, 6)
config.write_text(config.read_text().replace("high", "hihg"))
try:
    load_experiment(config)
except ConfigError as error:
    print(error)
print(" | ".join(recipe_words(experiment)[:2]))
"""


def put(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def run(*words, folder):
    ran = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_new_input_and_a_new_net_are_a_file_and_a_name_each(tmp_path):
    for room in ("common", "infer", "train", "kernels", "datasets_meta"):
        shutil.copytree(PROJECT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "common/inputs/loudness_image.py").write_text(INPUT)
    (tmp_path / "common/models/mean_net.py").write_text(NET)
    inputs, models = tmp_path / "common/inputs/config.py", tmp_path / "common/models/config.py"
    put(inputs, "\n\nSingleImage = ", "\nfrom common.inputs.loudness_image import LoudnessImage\n\nSingleImage = ")
    put(inputs, "RawImage | EegSpectra", "RawImage | EegSpectra | LoudnessImage")
    put(models, "\n\nModelConfig = ", "\nfrom common.models.mean_net import MeanNetConfig\n\nModelConfig = ")
    put(models, "| WaveSqueezeformerConfig", "| WaveSqueezeformerConfig | MeanNetConfig")
    (tmp_path / "loudness.toml").write_text(CONFIG)
    refusal, words = run("-c", PROBE, folder=tmp_path).strip().rsplit("\n", 1)
    assert words == "loudness of the EEG & raw EEG, folded to 50 | a mean"
    assert "images.0.loudness-image.hihg: unknown key; did you mean 'high'?" in refusal
    run("kernels/build.py", folder=tmp_path)
    assert "class LoudnessImage" in (tmp_path / "kernels/hms-inference/kernel.py").read_text()
