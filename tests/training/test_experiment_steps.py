"""One training step of every config, through the engine: its input, its net, its augmentation and losses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from eeg_samples import ready
from torch.nn.modules.batchnorm import _BatchNorm

from common.inputs.base import Windows
from common.models.build import build_model
from train.engine.distributed import Distributed
from train.engine.loop import train_batch
from train.engine.optim import make_optimizer
from train.engine.state import Batch, FoldData, TrainState
from train.experiment import load_experiment

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "train" / "configs").glob("*.toml"))
QUICK = {"smoke-kaggle-efficientnet", "smoke-wave-bipolar", "wave-squeezeformer"}
CASES = [pytest.param(path, id=path.stem, marks=[] if path.stem in QUICK else [pytest.mark.slow]) for path in CONFIGS]
VOTES = np.array([[0, 3, 0, 0, 0, 9], [0, 4, 0, 0, 0, 8]])  # of one class: CutMix has whom to exchange


def windows_like(n_windows):
    """Random walks and powers, with a gap."""
    draws = torch.Generator().manual_seed(0)
    eeg = torch.randn(n_windows, 20, 10_000, generator=draws).cumsum(dim=-1)
    spectrogram = torch.randn(n_windows, 4, 100, 300, generator=draws).exp()
    eeg[0, 3, 1000:2000], spectrogram[0, 0, :, :40] = torch.nan, torch.nan
    return Windows(eeg, spectrogram)


def distinct(stages):
    """Stages that ask the engine for different things."""
    return list({(stage.loss, stage.augment, stage.few_votes): stage for stage in stages}.values())


@pytest.mark.parametrize("path", CASES)
def test_one_step_of_every_config_moves_its_weights(path):
    experiment = load_experiment(path)
    experiment = experiment.model_copy(update={"input": ready(experiment.input)})
    torch.manual_seed(0)
    model = build_model(experiment)
    # One window says as much of a net that never looks across the batch, and the large ones are of that kind.
    n = 2 if any(isinstance(module, _BatchNorm) for module in model.modules()) else 1
    rows = np.arange(n)
    data = FoldData(windows=None, sampler=None, votes=VOTES, train=rows, validation=rows[:0])
    fit = TrainState(experiment, data, model, Path(), 0, path.stem, Distributed(0, 1, torch.device("cpu")), None)
    batch = Batch(0, rows, np.ones(n, np.float32), rows, n, n, True)
    for stage in distinct(experiment.training.stages):
        tools = make_optimizer(model, stage, steps=10, precision=None)
        model.train()
        before = {name: values.detach().clone() for name, values in model.named_parameters()}
        loss = train_batch(model, batch, windows_like(n), fit, stage, (1, 0, 0, 0), 0.0)
        loss.backward()
        assert torch.isfinite(loss) and loss > 0
        gradients = {name: values.grad for name, values in model.named_parameters() if values.grad is not None}
        assert all(gradient.isfinite().all() for gradient in gradients.values())
        felt = {name for name, gradient in gradients.items() if gradient.any()}
        # Between them blocks may be dropped, or start as nothing; the first layer and the last may not.
        assert {next(iter(before)), "classifier.weight"} <= felt
        tools.step()
        moved = {name for name, values in model.named_parameters() if (values != before[name]).any()}
        assert moved >= felt
