"""Mixup against its formula, shares and masks by counting, and what holds for all mixtures of a batch."""

import numpy as np
import pytest
import scipy.stats
import torch
from eeg_samples import eeg_like
from mixing_loops import drawing

from common.inputs.base import Windows
from train.augment.mixing import CutMix, MixUp, XYMask, draw_bands, mix_images, mix_windows
from train.experiment import Augment

WHOLE = torch.eye(6)[0]  # all votes for one class


def some_votes(n_rows, seed=0):
    """Targets with all, half and few of the votes in one class."""
    counts = np.random.default_rng(seed).integers(0, 4, (n_rows, 6)).astype(float)
    counts[::2, :3] *= 4
    counts[3:9] = [4, 4, 0, 0, 0, 0]  # of two classes
    counts[:, 5] += counts.sum(axis=1) == 0
    return torch.from_numpy(counts / counts.sum(axis=1, keepdims=True)), torch.from_numpy(counts.sum(axis=1))


# ---- mixup


def test_mixup_blends_images_sequences_and_targets_alike():
    target, votes = some_votes(12)
    augment = Augment(mixup=MixUp(alpha=1.0))
    for images in (torch.randn(12, 2, 8, 9, dtype=torch.float64), torch.randn(12, 16, 50, dtype=torch.float64)):
        made, new_target, new_votes = mix_images(images, target, votes, augment, drawing(2))
        torch.testing.assert_close(new_target.sum(dim=1), torch.ones(12, dtype=torch.float64))
        partner = torch.randperm(12, generator=drawing_after_chance(2))
        share = (new_votes - votes[partner]) / (votes - votes[partner])
        known = share.isfinite()
        assert known.sum() >= 6 and (share[known] >= 0).all() and (share[known] <= 1).all()
        assert len(share[known].unique()) == known.sum()  # each row its own
        for i in known.nonzero()[:, 0]:
            for mixed, plain in ((made, images), (new_target, target)):
                expected = share[i] * plain[i] + (1 - share[i]) * plain[partner[i]]
                torch.testing.assert_close(mixed[i], expected, atol=1e-6, rtol=1e-6)


def drawing_after_chance(seed):
    """Where the generator is when it was asked whether the batch is mixed at all."""
    draws = drawing(seed)
    torch.rand((), generator=draws)
    return draws


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 5.0])
def test_shares_of_mixup_are_beta_distributed(alpha):
    votes = torch.arange(2000.0, dtype=torch.float64)
    partner = torch.randperm(2000, generator=drawing_after_chance(0))
    augment = Augment(mixup=MixUp(alpha=alpha))
    mixed = mix_images(torch.zeros(2000, 1, 1), WHOLE.expand(2000, 6), votes, augment, drawing(0))[2]
    moved = (votes - votes[partner]).abs() > 100
    share = ((mixed - votes[partner]) / (votes - votes[partner]))[moved].clamp(0, 1).numpy()
    assert scipy.stats.kstest(share, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_mixup_of_signals_is_linear_and_takes_what_one_lacks_from_the_other():
    eeg = torch.from_numpy(np.stack([eeg_like(k) for k in range(4)]))
    spectrogram = torch.rand(4, 4, 100, 300, generator=drawing(1))
    eeg[0, 3, 500:700] = eeg[1, 5] = spectrogram[2, 1, :, :9] = torch.nan
    eeg[:, 7, :10] = torch.nan
    windows, (target, votes) = Windows(eeg.clone(), spectrogram.clone()), some_votes(4)
    augment = Augment(mixup=MixUp(of="signal"))
    mixed, new_target, new_votes = mix_windows(windows, target, votes, augment, drawing(4))
    draws = drawing_after_chance(4)
    partner = torch.randperm(4, generator=draws)
    uniform = torch.rand(4, generator=draws, dtype=torch.float64)
    share = torch.from_numpy(scipy.stats.beta(0.4, 0.4).ppf(uniform.numpy()))
    assert (partner != torch.arange(4)).sum() >= 3
    for made, plain in ((mixed.eeg, eeg), (mixed.spectrogram, spectrogram)):
        weight = share.reshape(-1, *[1] * (plain.ndim - 1)).expand(plain.shape).clone()
        weight[plain.isnan()] = 0
        weight[plain[partner].isnan()] = 1
        expected = weight * plain.nan_to_num() + (1 - weight) * plain[partner].nan_to_num()
        expected[plain.isnan() & plain[partner].isnan()] = torch.nan
        torch.testing.assert_close(made.double(), expected, atol=1e-4, rtol=1e-5, equal_nan=True)
    torch.testing.assert_close(new_target, share[:, None] * target + (1 - share[:, None]) * target[partner])
    torch.testing.assert_close(new_votes, share * votes + (1 - share) * votes[partner])
    assert mixed.eeg[0, 3, 600].isfinite() and mixed.eeg[1, 5].isfinite().all() and mixed.eeg[:, 7, :10].isnan().all()
    assert torch.equal(windows.eeg.isnan(), eeg.isnan()) and torch.equal(
        windows.spectrogram.isnan(), spectrogram.isnan()
    )
    alone = mix_windows(Windows(None, spectrogram), target, votes, augment, drawing(4))[0]
    assert alone.eeg is None and torch.equal(alone.spectrogram.isnan(), mixed.spectrogram.isnan())


def test_signals_and_images_are_mixed_each_at_its_own_time():
    images, (target, votes) = torch.randn(4, 1, 8, 8), some_votes(4)
    windows = Windows(None, torch.rand(4, 4, 100, 300))
    of_signal, of_image = Augment(mixup=MixUp(of="signal")), Augment(mixup=MixUp(of="image"))
    assert mix_images(images, target, votes, of_signal, drawing()) == (images, target, votes)
    assert mix_windows(windows, target, votes, of_image, drawing()) == (windows, target, votes)
    assert mix_windows(windows, target, votes, Augment(), drawing()) == (windows, target, votes)
    assert mix_images(images, target, votes, Augment(), drawing()) == (images, target, votes)


# ---- masks


def runs_of(mask):
    """Lengths of the stretches that are true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def test_masks_are_bands_of_the_drawn_size_set_to_zero():
    mask = XYMask(chance=0.5, time_masks=1, time_share=0.1, frequency_masks=1, frequency_share=0.1)
    images = torch.ones(1200, 2, 50, 100)
    made, target, _ = mix_images(images, WHOLE.expand(1200, 6), torch.ones(1200), Augment(mask=mask), drawing())
    assert torch.equal(made[:, 0], made[:, 1]) and (images == 1).all() and torch.equal(target, WHOLE.expand(1200, 6))
    covered = (made[:, 0] == 0).numpy()
    columns, rows = covered.all(axis=1), covered.all(axis=2)
    assert np.array_equal(covered, columns[:, None, :] | rows[:, :, None])
    masked = covered.any(axis=(1, 2))
    assert masked.mean() == pytest.approx(0.5, abs=0.06)
    of_columns, of_rows = ([runs_of(band) for band in bands[masked]] for bands in (columns, rows))
    assert all(len(found) == 1 for found in of_columns + of_rows)
    assert {size for (size,) in of_columns} == set(range(1, 11)) and {size for (size,) in of_rows} == set(range(1, 6))
    assert columns.any(axis=0).all() and rows.any(axis=0).all()  # anywhere
    assert len(np.unique(columns[masked], axis=0)) > 100  # each image its own


def test_so_many_masks_and_none_where_none_is_asked_for():
    images, votes = torch.ones(200, 1, 40, 300), torch.ones(200)
    mask = XYMask(chance=1.0, time_masks=3, time_share=0.01, frequency_masks=0)
    made = mix_images(images, WHOLE.expand(200, 6), votes, Augment(mask=mask), drawing())[0]
    covered = (made[:, 0] == 0).numpy()
    assert (covered == covered[:, :1]).all()
    numbers = [sum(runs_of(row)) for row in covered[:, 0]]
    assert 3 <= max(numbers) <= 9 and np.mean(numbers) == pytest.approx(6, abs=0.4)


def test_bands_of_every_length_are_drawn_alike_and_lie_inside():
    lengths = draw_bands(1, 1.0, 8000, 8, drawing()).sum(dim=1).bincount(minlength=9).tolist()
    assert lengths[0] == 0 and all(count == pytest.approx(1000, abs=120) for count in lengths[1:])
    tiny = draw_bands(1, 1e-3, 800, 8, drawing())
    assert (tiny.sum(dim=1) == 1).all() and tiny.any(dim=0).all()


# ---- all together

ALL = Augment(cutmix=CutMix(), mosaic=True, mixup=MixUp(), mask=XYMask())


def test_draws_come_from_the_generator_that_is_given_and_nothing_given_is_written_to():
    images, (target, votes) = torch.randn(8, 1, 400, 300), some_votes(8)
    kept, before = [values.clone() for values in (images, target, votes)], torch.get_rng_state()
    first, again, other = (mix_images(images, target, votes, ALL, drawing(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(now, then) for now, then in zip((images, target, votes), kept, strict=True))
    torch.testing.assert_close(first[1].sum(dim=1), torch.ones(8, dtype=torch.float64))


def test_the_order_is_mosaic_cutmix_mixup_mask():
    images, (target, votes) = torch.randn(8, 1, 400, 300), some_votes(8)
    draws, step_by_step = drawing(4), (images, target, votes)
    for name in ("mosaic", "cutmix", "mixup", "mask"):
        step_by_step = mix_images(*step_by_step, Augment(**{name: getattr(ALL, name)}), draws)
    made = mix_images(images, target, votes, ALL, drawing(4))
    assert all(torch.equal(one, two) for one, two in zip(made, step_by_step, strict=True))


def test_cutmix_and_mixup_happen_to_their_share_of_batches():
    batch = torch.arange(2.0)[:, None, None, None].expand(2, 1, 40, 300), WHOLE.expand(2, 6), torch.ones(2)
    for augment, chance in ((Augment(cutmix=CutMix(chance=0.6)), 0.6), (Augment(mixup=MixUp(chance=0.5)), 0.5)):
        made = (mix_images(*batch, augment, drawing(seed))[0] for seed in range(1000))
        changed = [not torch.equal(images, batch[0]) for images in made]
        assert np.mean(changed) == pytest.approx(chance / 2, abs=0.05)  # half of the orders of two move nothing
