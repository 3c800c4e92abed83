"""The losses: published weights, closed forms, gradients."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from common.metric import kl_divergence
from train.engine.losses import FewVotes, few_votes_weight, kl_loss, row_loss, soft_target, vote_weight
from train.experiment import Stage

LOSSES = ["kl", "vote-log", "xloss", "modified", "vote-share"]


def some_rows(n_rows=50):
    """Targets with zeros and certainties, logits: (rows, 6) in float64."""
    rng = np.random.default_rng(0)
    votes = rng.multinomial(rng.integers(1, 20, n_rows), rng.dirichlet(np.full(6, 0.3), n_rows))
    return votes / votes.sum(axis=1, keepdims=True), rng.normal(size=(n_rows, 6)) * 3


# ---- the divergence


def test_loss_is_the_metric():
    target, logits = some_rows()
    assert (target == 0).any() and (target == 1).any()
    loss = kl_loss(torch.from_numpy(logits), torch.from_numpy(target))
    by_scipy = rel_entr(target, softmax(logits, axis=1)).sum(axis=1)
    np.testing.assert_allclose(loss, by_scipy, rtol=1e-12)
    np.testing.assert_allclose(loss, kl_divergence(target, softmax(logits, axis=1)), rtol=1e-9)


def test_loss_is_finite_where_a_probability_vanishes():
    logits = torch.tensor([[200.0, -200, 0, 0, 0, 0]], requires_grad=True)
    loss = kl_loss(logits, torch.tensor([[0.0, 1, 0, 0, 0, 0]]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(400) and logits.grad.isfinite().all()


# ---- weights by votes


WEIGHTS = {  # by number of votes
    "kl": {1: 1, 28: 1},
    "vote-log": {1: 0.693147, 19: 2.995732},  # ln 2, ln 20
    "xloss": {1: 1, 9: 9, 10: 10, 11: 10, 28: 10},  # not at least 10, as the seed's README has it
    "vote-share": {3: 0.15, 20: 1, 28: 1.4},
    # as published, two decimals; q = lg 20 = 1.30103: (10 + 2.60206) 1.30103 = 16.3957
    "modified": {1: 1, 4: 4, 9: 9, 10: 10, 11: 12.58, 12: 13.12, 15: 14.53, 20: 16.40, 28: 18.66},
}


@pytest.mark.parametrize("loss", LOSSES)
def test_weight_of_a_row_by_its_votes(loss):
    n_votes = torch.tensor(list(WEIGHTS[loss]), dtype=torch.float64)
    tolerance = np.where((n_votes > 10) & (loss == "modified"), 0.006, 1e-6)
    exact = vote_weight(n_votes, loss).numpy()
    assert (np.abs(exact - list(WEIGHTS[loss].values())) <= tolerance).all()
    for error in (1e-6, -1e-6):  # votes that carry rounding errors
        np.testing.assert_allclose(vote_weight(n_votes * (1 + error), loss), exact, rtol=1e-5)


def test_few_votes_count_less_and_less():
    n_votes = torch.tensor([1.0, 9, 10, 20, 9.999999, 9.000001])
    few = FewVotes(below=10, first=0.8, last=0.2)
    for progress, weight in ((0.0, 0.8), (0.25, 0.65), (0.5, 0.5), (1.0, 0.2)):
        expected = [weight, weight, 1, 1, 1, weight]
        np.testing.assert_allclose(few_votes_weight(n_votes, few, progress), expected, rtol=1e-6)
    assert few_votes_weight(n_votes, few, 0.5).dtype == n_votes.dtype
    assert few_votes_weight(n_votes.double(), few, 0.5).dtype == torch.float64


# ---- targets


def test_smoothed_target_by_hand():
    votes = torch.tensor([[3.0, 0, 0, 0, 0, 0], [12, 0, 4, 0, 0, 4]])
    few, many = [4 / 9] + [1 / 9] * 5, [13 / 26, 1 / 26, 5 / 26, 1 / 26, 1 / 26, 5 / 26]  # (3 + 6), (20 + 6)
    np.testing.assert_allclose(soft_target(votes, 1.0), [few, many], rtol=1e-6)
    half = [3.5 / 6] + [0.5 / 6] * 5
    np.testing.assert_allclose(soft_target(votes[:1], 0.5), [half], rtol=1e-6)
    np.testing.assert_allclose(soft_target(votes, 0.0), votes.numpy() / [[3], [20]], rtol=1e-6)
    np.testing.assert_allclose(soft_target(votes[1:] / 3, 1 / 3), [many], rtol=1e-6)  # counts, not only shares, matter


# ---- together


def test_loss_of_a_stage_by_hand():
    # The prediction is uniform: a certain row is ln 6 = 1.791759 away, one of two equal classes ln 3 = 1.098612.
    logits = torch.zeros(3, 6, dtype=torch.float64)
    target = torch.tensor([[1, 0, 0, 0, 0, 0], [0, 0.5, 0, 0, 0.5, 0], [0, 0, 1, 0, 0, 0]], dtype=torch.float64)
    n_votes = torch.tensor([3, 12, 16], dtype=torch.float64)

    def losses(progress=0.5, **stage):
        return row_loss(logits, target, n_votes, Stage(**stage), progress).numpy()

    np.testing.assert_allclose(losses(), [1.791759, 1.098612, 1.791759], atol=1e-6)
    np.testing.assert_allclose(losses(loss="xloss"), [5.375278, 10.986123, 17.917595], atol=1e-6)  # 3, 10, 10 times
    np.testing.assert_allclose(losses(loss="vote-share"), [0.268764, 0.659167, 1.433408], atol=1e-6)  # .15 .6 .8
    fading = {"loss": "xloss", "few_votes": {"below": 10, "first": 1.0, "last": 0.2}}
    np.testing.assert_allclose(losses(0.75, **fading), [5.375278 * 0.4, 10.986123, 17.917595], atol=1e-6)
    np.testing.assert_allclose(losses(0.0, **fading), losses(loss="xloss"))
    smoothed = Stage(smoothing=2.0)  # belongs to the target, which is given
    np.testing.assert_allclose(row_loss(logits, target, n_votes, smoothed, 0.5), losses())


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_of_the_mean_is_the_closed_form(loss):
    target, start = (values[:4] for values in some_rows())
    n_votes = torch.tensor([2.0, 9, 12, 20], dtype=torch.float64)
    stage = Stage(loss=loss, few_votes=FewVotes(below=10, first=1, last=0))

    logits = torch.tensor(start, requires_grad=True)
    row_loss(logits, torch.from_numpy(target), n_votes, stage, 0.3).mean().backward()
    weight = vote_weight(n_votes, loss).numpy() * [0.7, 0.7, 1, 1]
    closed = (softmax(start, axis=1) - target) * weight[:, None] / 4  # of a cross-entropy: p - y
    np.testing.assert_allclose(logits.grad, closed, atol=1e-12)
