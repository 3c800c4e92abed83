"""Which weights are "best": as it should be, and with each fault of the published runs."""

from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_stage import image, same_weights, small, stage

from common.inputs.base import Windows
from common.metric import kl_divergence, vote_shares
from common.schema import PATTERNS, VOTES
from train.engine import fold_model
from train.engine.published import PublishedSelection
from train.engine.run import RunOptions, run_experiment
from train.engine.state import Epoch, FoldData, TrainState
from train.experiment import Experiment

NEVER = {"schedule": "constant"}


# ---- as it should be


def test_best_has_the_lowest_mean_over_the_stages_own_rows(noise, tmp_path, monkeypatch):
    """Stages that carry on on the same rows share a best; scores on other rows do not compare."""
    saved = mock.Mock(side_effect=fold_model.save_weights)
    monkeypatch.setattr(fold_model, "save_weights", saved)
    many = {"min_votes": 10}
    stages = [
        stage(epochs=3, rows=many, learning_rate=2e-2),
        stage(epochs=2, learning_rate=2e-2, carry_on=True),
        stage(epochs=3, rows=many, learning_rate=5e-3, start="best"),
    ]
    run = run_experiment(small(stages=stages), noise, tmp_path, RunOptions(folds="0"))
    log, table = pl.read_csv(run / "fold0/epochs.csv"), pl.read_parquet(run / "fold0/oof.parquet")
    assert log["stage"].to_list() == [0, 0, 0, 1, 1, 2, 2, 2] and log["epoch"].to_list() == [0, 1, 2, 0, 1, 0, 1, 2]
    own = log["validation_kl_many"].to_list()[:3] + log["validation_kl"].to_list()[3:5]
    own += log["validation_kl_many"].to_list()[5:]
    np.testing.assert_allclose(log["selected_by"], own, rtol=1e-12)  # rows of 10 votes and more are stage 0's and 2's
    assert not np.allclose(log["validation_kl"], log["validation_kl_many"])
    begins = [0, 0, 0, 3, 3, 5, 5, 5]
    better = [k for k in range(8) if own[k] < min(own[begins[k] : k], default=np.inf)]
    expected = [f"best-stage{0 if k < 5 else 2}.safetensors" for k in better]
    assert [call.args[1].name for call in saved.call_args_list] == [*expected, "last.safetensors"]
    kl = {}
    for which in ("last", "best"):
        probabilities = table.select(f"{pattern}_{which}" for pattern in PATTERNS).to_numpy()
        kl[which] = kl_divergence(vote_shares(table.select(VOTES).to_numpy()), probabilities)
    rows = (table["total_votes"] >= 10).to_numpy()
    assert kl["best"][rows].mean() == pytest.approx(min(own[5:]), rel=1e-6)
    assert kl["last"].mean() == pytest.approx(log["validation_kl"][7], rel=1e-6)


# ---- as published


def test_the_published_loop_looked_twice_an_epoch():
    def looks(n_batches):
        return [k for k in range(1, n_batches + 1) if PublishedSelection().scores_after(k, n_batches)]

    assert looks(519) == [259, 517]  # the seed's first fold: s = 258; two batches more after the second look
    assert looks(10) == [5, 9] and looks(11) == [5, 9] and looks(6) == [3, 5] and looks(7) == [3, 5, 7]
    assert looks(1) == [1] and looks(2) == [2]  # it never met so few


class Steady(nn.Module):
    """Logits that grow with the mean of the image's first half: a mosaic has others."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, inputs):
        half = inputs[..., : inputs.shape[-1] // 2].flatten(1).mean(dim=1, keepdim=True)
        return self.scale * half * torch.arange(6.0)


class Fold:
    """Windows that are known: row k's spectrogram is e^k everywhere."""

    def batches(self, rows, size, device):
        for first in range(0, len(rows), size):
            chosen = rows[first : first + size]
            power = torch.from_numpy(np.exp(chosen / 10.0)).float()[:, None, None, None].expand(-1, 4, 100, 300)
            yield chosen, Windows(None, power.to(device).clone())


def fold_of(n_rows):
    votes = np.random.default_rng(3).multinomial(5, np.full(6, 1 / 6), n_rows)
    votes[::2] = np.random.default_rng(4).multinomial(12, np.full(6, 1 / 6), len(votes[::2]))
    return FoldData(Fold(), None, votes, np.arange(0), np.arange(n_rows))


def experiment_of(**values):
    """Images of the power's logarithm, which is not standardised."""
    plain = {"kind": "kaggle-image", "standardise": {"mean": 0.0, "deviation": 1.0}}
    return Experiment(name="toy", input=plain, training={"selection": "as-published", "stages": [stage(**values)]})


def published_loss(model, data, experiment, epoch):
    state = TrainState(experiment, data, model, Path(), 1, "toy", None, None)
    return PublishedSelection().score(state, model, epoch, None)


def losses_by_hand(rows, votes):
    logits = rows[:, None] / 10 * np.arange(6.0)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return kl_divergence(vote_shares(votes[rows]), probabilities)


def test_a_published_loss_is_the_mean_of_batch_means():
    model, data, rows = Steady().eval(), fold_of(35), np.arange(35)
    kl = losses_by_hand(rows, data.votes)
    expected = (kl[:32].mean() + kl[32:].mean()) / 2
    found = published_loss(model, data, experiment_of(), Epoch(0, 0))
    assert found == pytest.approx(expected, rel=1e-5) and abs(expected - kl.mean()) > 0.01
    own = rows[data.votes.sum(axis=1) >= 10]
    found = published_loss(model, data, experiment_of(rows={"min_votes": 10}), Epoch(0, 0))
    assert found == pytest.approx(losses_by_hand(own, data.votes).mean(), rel=1e-5)


def test_after_mosaic_epochs_mosaics_of_the_fold_were_scored():
    """Others at each look, the same again after a resume; no other augmentation."""
    model, data = Steady().eval(), fold_of(20)
    everything = {"mosaic": True, "mask": {"chance": 1.0}, "mixup": {}, "cutmix": {"chance": 1.0}}
    found = {}
    for name, augment in (("none", {}), ("mosaic", {"mosaic": True}), ("all", everything), ("others", everything)):
        experiment = experiment_of(augment=augment if name != "others" else augment | {"mosaic": False})
        looks = (Epoch(0, 0, 5), Epoch(0, 0, 9), Epoch(0, 0, 5))
        found[name] = [published_loss(model, data, experiment, look) for look in looks]
    assert found["none"][0] == found["none"][1] == found["others"][0]
    assert found["mosaic"] == found["all"] and found["mosaic"][0] == found["mosaic"][2] != found["mosaic"][1]
    assert found["mosaic"][0] < found["none"][0] - 0.1  # means of four are easier


def test_in_the_first_epoch_after_mosaics_every_look_was_the_best(noise, tmp_path, monkeypatch):
    """The second look there overwrites the first though it is worse; later ones must be better again."""
    both = [
        stage(batch_size=2, augment={"mosaic": True}, **NEVER),  # 4 batches: looks after 2, 3 and 4
        stage(epochs=2, batch_size=2, carry_on=True, **NEVER),
    ]
    state = TrainState(image(*both), None, None, Path(), 1, "toy", None, None, best=0.1)
    replaced = [PublishedSelection().is_best(state, Epoch(*at), 0.2) for at in ((0, 0), (1, 0), (1, 1))]
    assert replaced == [False, True, False]
    looks = {"mosaic": [0.3, 0.2, 0.4], "first": [0.9, 0.7, 0.8], "later": [0.85, 0.75, 0.95]}
    scores = [score for of_epoch in looks.values() for score in of_epoch]
    monkeypatch.setattr(PublishedSelection, "score", mock.Mock(side_effect=scores))
    kept, keep = [], fold_model.save_weights

    def watched(model, path):
        kept.append({name: values.clone() for name, values in model.state_dict().items()})
        keep(model, path)

    monkeypatch.setattr(fold_model, "save_weights", watched)
    published = image(*both, selection="as-published")
    run = run_experiment(published, noise, tmp_path, RunOptions(folds="0"))
    log = pl.read_csv(run / "fold0/epochs.csv")
    assert log["batches"].to_list() == [2, 3, 4] * 3
    assert log["selected_by"].to_list() == scores
    assert len(kept) == 2 + 3 + 1 + 1  # of mosaics .3 and .2; all of the first epoch; then .75, below .8; and last
    best = load_file(run / "fold0/best.safetensors")
    assert all(torch.equal(best[name], kept[5][name]) for name in best)
    assert not same_weights(run / "fold0/best.safetensors", run / "fold0/last.safetensors")
