"""CutMix and mosaic against slow, literal second implementations by loops, the published mistake included."""

import numpy as np
import pytest
import torch
from mixing_loops import cutmix_by_loops, drawing, mosaic_by_loops
from test_mixing import WHOLE, some_votes

from train.augment.mixing import CutMix, cut_bands, draw_cuts, mix_images
from train.experiment import Augment


def numbered_images(n_rows, height=400, width=300, channels=1):
    """Every pixel has its own number: those of row 0 first, in order, exactly."""
    shape = n_rows, channels, height, width
    return torch.arange(n_rows * channels * height * width, dtype=torch.float64).reshape(shape)


# ---- CutMix


@pytest.mark.parametrize("axis", ["time", "frequency"])
@pytest.mark.parametrize("second_cut", [False, True])
@pytest.mark.parametrize("shape", [(1, 400, 600), (3, 130, 260)])
def test_cutmix_is_what_the_loops_make(axis, second_cut, shape):
    config = CutMix(axis=axis, second_cut=second_cut)
    channels, height, width = shape
    moved = 0
    for seed in range(5):
        images, (target, _) = numbered_images(16, height, width, channels), some_votes(16, seed)
        cuts = draw_cuts(config, 16, drawing(seed))
        made = cut_bands(images, target, config, cuts).numpy()
        assert np.array_equal(made, cutmix_by_loops(images, target, config, cuts))
        moved += (made != images.numpy()).sum()
    assert moved > 0


def test_cutmix_takes_from_the_class_and_keeps_the_targets():
    target = torch.zeros(40, 6)
    target[:15, 2], target[15:39, 4], target[39, 1] = 0.5, 0.8, 1.0  # the last is alone in its class
    target[:15, 3] = target[15:39, 3] = 0.49
    images, votes = numbered_images(40), torch.arange(40.0)
    made, same_target, same_votes = mix_images(images, target, votes, Augment(cutmix=CutMix(chance=1)), drawing(3))
    assert same_target is target and same_votes is votes
    giver = (made // 120_000).long()[:, 0, 0]
    assert torch.equal(made % 120_000, images % 120_000)  # every pixel from its own place
    assert (giver[:15] < 15).all() and ((giver[15:39] >= 15) & (giver[15:39] < 39)).all() and (giver[39] == 39).all()
    for column in range(300):  # a permutation: nobody gives twice
        assert sorted(giver[:, column].tolist()) == list(range(40))
    assert (giver != torch.arange(40)[:, None]).any(dim=1).sum() > 30


def test_bands_have_the_sizes_and_places_of_the_notebooks():
    cuts = [draw_cuts(CutMix(), 2, drawing(seed)) for seed in range(700)]
    start, size = torch.cat([c.start for c in cuts]), torch.cat([c.size for c in cuts])
    assert sorted(size.unique().tolist()) == list(range(25, 76))
    assert sorted(start.unique().tolist()) == [*range(51), *range(175, 226)]
    assert (start < 100).float().mean() == pytest.approx(0.5, abs=0.03)
    other = CutMix(smallest=2, largest=3, margin=0, length=10)
    assert {int(s) for seed in range(20) for s in draw_cuts(other, 2, drawing(seed)).start} == {0, 7}


# ---- mosaic


def test_mosaic_is_what_loops_over_columns_make():
    images = torch.randn(5, 2, 12, 40, generator=drawing(1))
    target, votes = some_votes(5)
    made, new_target, new_votes = mix_images(images, target, votes, Augment(mosaic=True), drawing(7))
    expected, expected_target, drawn = mosaic_by_loops(images, target, drawing(7))
    assert len(drawn.unique()) > 2
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(new_target, expected_target)
    assert new_votes.tolist() == [votes[row].mean().item() for row in drawn]


@pytest.mark.parametrize("width", [41, 42, 43, 57])
def test_mosaic_of_a_width_that_is_no_multiple_of_four_loses_only_the_end(width):
    ramp = torch.arange(float(width)).expand(3, 1, 8, width)
    made = mix_images(ramp, WHOLE.expand(3, 6), torch.ones(3), Augment(mosaic=True), drawing())[0]
    quarter = -(-width // 4)
    expected = [np.mean(range(4 * k, min(4 * k + 4, width))) for k in range(quarter)]
    np.testing.assert_allclose(made[1, 0, 3], (expected * 4)[:width], rtol=1e-6)
