"""Which samples an epoch takes: every label row once, or one labelled window of each EEG or stretch."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch

from train.data.sampling import Sampler

# EEG 1 has two vote vectors, of three windows and one; the first vector's windows lie before and after the second's.
ROWS = pl.DataFrame(
    {
        "eeg_id": [1, 1, 2, 3],
        "eeg_starts": [[0, 400, 2000], [800], [0], [0, 200]],
        "stretches": [[1, 1, 3], [2], [4], [5, 5]],
    }
)
ALL = np.arange(4)
ROW_OF = [0, 0, 0, 1, 2, 3, 3]  # of each of the seven windows


def drawing(seed=0):
    return torch.Generator().manual_seed(seed)


def counts_of(sampler, rows, n_epochs=3000, any_window=False):
    """How often each window was taken; checks that each one's row is right."""
    draws, counts = drawing(), Counter()
    for _ in range(n_epochs):
        samples = sampler.draw(rows, any_window, draws)
        assert len(samples) == sampler.count(rows)
        assert samples.rows.tolist() == [ROW_OF[window] for window in samples.windows]
        counts.update(samples.windows.tolist())
    return {window: count / n_epochs for window, count in counts.items()}


def assert_shares(found, expected):
    assert found == pytest.approx(expected, abs=0.03)


def test_rows_by_votes_are_all_taken_once():
    sampler = Sampler(ROWS)
    samples = sampler.draw(ALL, False, drawing())
    assert samples.windows is None and sorted(samples.rows) == ALL.tolist() and sampler.count(ALL[:2]) == 2
    orders = {tuple(sampler.draw(ALL, False, drawing(seed)).rows) for seed in range(40)}
    assert len(orders) > 15


def test_any_window_takes_each_window_of_a_row_alike():
    third = 1 / 3
    found = counts_of(Sampler(ROWS), ALL, any_window=True)
    assert_shares(found, {0: third, 1: third, 2: third, 3: 1, 4: 1, 5: 0.5, 6: 0.5})


def test_one_window_of_each_eeg():
    sampler = Sampler(ROWS, "one-per-eeg")
    assert sampler.count(ALL) == 3
    assert_shares(counts_of(sampler, ALL), {0: 0.25, 1: 0.25, 2: 0.25, 3: 0.25, 4: 1, 5: 0.5, 6: 0.5})
    # A stage that wants only the second and the last row takes their windows alone.
    assert_shares(counts_of(sampler, np.array([1, 3])), {3: 1, 5: 0.5, 6: 0.5})


def test_one_window_of_each_stretch():
    sampler = Sampler(ROWS, "one-per-stretch")
    assert sampler.count(ALL) == 5 and sampler.count(np.array([0])) == 2
    assert_shares(counts_of(sampler, ALL), {0: 0.5, 1: 0.5, 2: 1, 3: 1, 4: 1, 5: 0.5, 6: 0.5})


@pytest.mark.parametrize("labels", ["votes", "one-per-eeg", "one-per-stretch"])
def test_the_same_generator_draws_the_same_epoch_in_another_order_next_time(labels):
    sampler, draws = Sampler(ROWS, labels), drawing(3)
    first, second = sampler.draw(ALL, True, drawing(3)), sampler.draw(ALL, True, draws)
    assert np.array_equal(first.rows, second.rows) and np.array_equal(first.windows, second.windows)
    orders = {tuple(sampler.draw(ALL, True, draws).rows) for _ in range(30)}
    assert len(orders) > 3
