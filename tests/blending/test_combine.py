"""How predictions are combined, models that did not answer left out: as written down, in the same bits in any batch."""

import numpy as np
import pytest
from blend_samples import PRIOR, dirichlet

from common.blend import LEAST_WEIGHT, LogLinear, combine


def test_rows_are_mixed_from_those_who_answered():
    one, other = dirichlet(1, 3), dirichlet(2, 3)
    one[1:] = np.nan
    other[2, 4] = np.nan
    mixed = combine({"a": one, "b": other}, {"a": 0.25, "b": 0.75}, PRIOR, 3)
    np.testing.assert_allclose(mixed[0], 0.25 * one[0] + 0.75 * other[0])
    np.testing.assert_allclose(mixed[1], other[1])
    np.testing.assert_allclose(mixed[2], PRIOR)
    np.testing.assert_allclose(combine({}, {}, PRIOR, 2), [PRIOR, PRIOR])


CORRECTION = tuple(map(tuple, np.random.default_rng(3).normal(size=(12, 6)).tolist()))
SHAPES = {
    "geometric": LogLinear(),
    "log-linear": LogLinear(temperature=0.8, bias=(0.1, -0.2, 0, 0.3, 0, -0.1)),
    "stacker": LogLinear(temperature=1.3, bias=(0.1, -0.2, 0, 0.3, 0, -0.1), correction=CORRECTION),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_logarithms_are_combined_as_written_down(kind):
    shape, weights = SHAPES[kind], {"a": 0.3, "b": 0.7}
    a, b = dirichlet(1, 40), dirichlet(2, 40)
    a[0, 3] = 0  # counts as one in a million
    mean, floor = 0.3 * a + 0.7 * b, 1e-6
    logits = (0.3 * np.log(np.maximum(a, floor)) + 0.7 * np.log(np.maximum(b, floor))) / shape.temperature + shape.bias
    if shape.correction:
        spread = np.sqrt(0.3 * (a - mean) ** 2 + 0.7 * (b - mean) ** 2)
        logits = logits + np.concatenate([mean, spread], axis=1) @ np.array(shape.correction)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = combine({"a": a, "b": b}, weights, PRIOR, 40, shape)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    # The bits of a row do not depend on the other rows.
    parts = [combine({"a": a[k : k + 1], "b": b[k : k + 1]}, weights, PRIOR, 1, shape) for k in range(40)]
    assert np.concatenate(parts).tobytes() == found.tobytes()
    # A model without an answer: as a blend of the others, which share its weight; none: the prior.
    a[5], a[6], b[6] = np.nan, np.nan, np.nan
    found = combine({"a": a, "b": b}, weights, PRIOR, 40, shape)
    np.testing.assert_allclose(found[5], combine({"b": b[5:6]}, {"b": 1.0}, PRIOR, 1, shape)[0], rtol=1e-7)
    np.testing.assert_allclose(found[6], PRIOR)
    np.testing.assert_allclose(np.delete(found, [5, 6], 0), np.delete(expected, [5, 6], 0), rtol=1e-9, atol=1e-12)


def test_the_largest_numbers_that_a_blend_may_hold_give_probabilities():
    signs = np.where(np.random.default_rng(5).random((13, 6)) < 0.5, -1e6, 1e6).tolist()
    extreme = LogLinear(temperature=1e-6, bias=tuple(signs[12]), correction=tuple(map(tuple, signs[:12])))
    one, other = dirichlet(1, 20), dirichlet(2, 20)
    one[:10] = np.nan
    for log_linear in (None, LogLinear(temperature=1e-6), LogLinear(temperature=1e7), extreme):
        mixed = combine({"a": one, "b": other}, {"a": 1.0, "b": LEAST_WEIGHT}, PRIOR, 20, log_linear)
        assert np.isfinite(mixed).all() and (mixed >= 0).all()
        np.testing.assert_allclose(mixed.sum(axis=1), 1)
