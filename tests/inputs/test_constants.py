"""Constants measured on a fold's training rows: from training through export to the submission."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from conftest import command

from common.blend import Blend
from common.inputs.build import build_input
from common.predict import predict
from common.schema import PATTERNS
from common.weights import WeightsError, load_weights
from infer.submit import submit
from train.data.labels import label_rows
from train.data.windows import TrainingWindows

pytestmark = pytest.mark.slow  # a run and its export

CONFIG = """
[input]
kind = "kaggle-image"
columns = 64
standardise = "training"
[model]
kind = "spectrogram-cnn"
backbone = "test_convnext"
pretrained = false
[training]
folds = 2
[[training.stages]]
epochs = 1
batch_size = 8
"""
CPU = torch.device("cpu")
UNIFORM = Blend(models={}, prior=(1 / 6,) * 6)


@pytest.fixture(scope="module")
def trained(road, tmp_path_factory):
    """The folder of a run, and of its export."""
    folder = tmp_path_factory.mktemp("constants")
    (folder / "tiny-constants.toml").write_text(CONFIG)
    for words in (
        ("run", folder / "tiny-constants.toml", "--competition", road.competition, "--out", folder / "runs"),
        ("export", folder / "runs" / "tiny-constants", "--out", folder / "weights"),
    ):
        done = command("-m", "train", *words)
        assert done.returncode == 0, done.stderr
    return folder / "runs" / "tiny-constants", folder / "weights" / "hms-tiny-constants"


def crop_statistics(windows, rows):
    """Mean of the means and mean of the deviations of the central 64 columns' clipped logarithm, in numpy."""
    power = windows.cut(rows).spectrogram.numpy()[..., 118:182].astype(np.float64)
    logs = np.log(np.clip(power, np.exp(-4), np.exp(8))).reshape(len(rows), -1)
    return np.nanmean(logs, axis=1).mean(), np.nanstd(logs, axis=1).mean()


def test_each_fold_has_the_constants_of_its_training_rows(road, trained):
    run, dataset = trained
    loaded = load_weights(dataset, CPU)
    rows = pl.read_parquet(run / "rows.parquet")
    windows = TrainingWindows(road.competition, label_rows(road.competition), loaded.experiment.input)
    for fold, seen in enumerate(loaded.inputs):
        mean, deviation = crop_statistics(windows, np.flatnonzero(rows["fold"].to_numpy() != fold))
        assert seen.standardise.mean == pytest.approx(mean, abs=1e-5)
        assert seen.standardise.deviation == pytest.approx(deviation, abs=1e-5)
    assert loaded.inputs[0] != loaded.inputs[1] and loaded.experiment.input.standardise == "training"


def test_loaded_folds_repeat_their_out_of_fold_predictions_and_submit(road, trained, tmp_path):
    run, dataset = trained
    loaded, rows = load_weights(dataset, CPU), pl.read_parquet(run / "rows.parquet")
    windows = TrainingWindows(road.competition, label_rows(road.competition), loaded.experiment.input)
    for fold, (model, seen) in enumerate(zip(loaded.models, loaded.inputs, strict=True)):
        table = pl.read_parquet(run / f"fold{fold}" / "oof.parquet")
        inputs = build_input(windows.cut(np.flatnonzero(rows["fold"].to_numpy() == fold)), seen)
        expected = table.select(f"{pattern}_last" for pattern in PATTERNS).to_numpy()
        np.testing.assert_allclose(predict(model, inputs), expected, atol=1e-7)
    report = submit(road.competition, [dataset], UNIFORM, tmp_path / "submission.csv")
    assert report.fallbacks == [] and report.models["tiny-constants"]["nets"] == 2


def test_lost_constants_are_named(trained, tmp_path):
    dataset = shutil.copytree(trained[1], tmp_path / "hms-tiny-constants")
    manifest = json.loads((dataset / "manifest.json").read_text())
    del manifest["folds"][1]["constants"]
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match=r"fold1\.safetensors: 1 measured constants wanted, got 0 in manifest\.json"):
        load_weights(dataset, CPU)
    assert len(load_weights(dataset, CPU, forgiving=True).models) == 1
