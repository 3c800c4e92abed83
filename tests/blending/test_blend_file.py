"""The blend file: whose weights count, what is refused, what older files mean."""

import json

import numpy as np
import pytest
from blend_samples import PRIOR, UNIFORM, dirichlet

from common.blend import Blend, BlendError, combine, load_blend, model_weights, parse_blend


def test_model_weights_strict_and_forgiving():
    blend = Blend(models={"a": 0.6, "b": 0.3, "c": 0.1}, prior=UNIFORM)
    weights, problems = model_weights(blend, ["c", "b", "a"])
    assert weights == pytest.approx({"a": 0.6, "b": 0.3, "c": 0.1}) and problems == []
    with pytest.raises(BlendError, match=r"the blend wants b, .*; weights of d were given, the blend does not name it"):
        model_weights(blend, ["a", "c", "d"])
    weights, problems = model_weights(blend, ["a", "b", "d"], forgiving=True)
    assert weights == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert len(problems) == 2 and "wants c" in problems[0] and "weights of d" in problems[1]
    assert model_weights(blend, [], forgiving=True)[0] == {}
    assert model_weights(Blend(models={}, prior=UNIFORM), ["x", "y"]) == ({"x": 0.5, "y": 0.5}, [])
    for names in (["a", "b", "c", "a"], ["a", "a"]):
        with pytest.raises(BlendError, match="two weights folders hold the same model: a"):
            model_weights(blend, names, forgiving=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {"a": 0.5}}, "weights must sum to 1, they sum to 0.5"),
        ({"models": {"a": 1.5, "b": -0.5}}, "models"),
        ({"prior": [0.2] * 6}, "prior must be 6 shares that sum to 1"),
        ({"weights": {}}, "weights: unknown key"),
        ({"log_linear": {"bias": [0.0]}}, "bias must be 6 numbers, got 1"),
        ({"log_linear": {"temperature": 1e-320}}, "temperature"),
        ({"log_linear": {"bias": [1e308] * 6}}, "bias"),
        ({"log_linear": {"correction": [[-1e308] * 6] * 12}}, "correction"),
        ({"models": {"a": 1.0, "b": 5e-324}}, "weights must be 0 or at least 1e-12: give b 0"),
        ({"log_linear": {"correction": [[0.0] * 6]}}, "correction must be 12 rows of 6 numbers"),
        ({"hours": 9}, "hours: Input should be less than or equal to"),
        ({"read_seconds": 1e12}, "read_seconds: Input should be less than or equal to"),
    ],
)
def test_wrong_blend_file_is_refused(change, message):
    text = json.dumps({"models": {}, "prior": list(PRIOR)} | change)
    with pytest.raises(BlendError, match=rf"(?s)^mine\.json:.*{message}"):
        parse_blend(text, "mine.json")


def test_what_is_no_blend_file_is_refused_and_what_is_written_is_read(tmp_path):
    with pytest.raises(BlendError, match=r"mine\.json:\n  \(file\): "):
        parse_blend("[]", "mine.json")
    twice = json.dumps({"models": {"a": 0.5, "b": 1.0}, "prior": PRIOR}).replace('"b"', '"a"')
    with pytest.raises(BlendError, match=r"^mine\.json: a is given twice; keep one of them$"):
        parse_blend(twice, "mine.json")
    with pytest.raises(BlendError, match=r"absent\.json"):
        load_blend(tmp_path / "absent.json")
    blend = Blend(models={"a": 1.0}, prior=PRIOR)
    (tmp_path / "blend.json").write_text(blend.model_dump_json(indent=1))
    assert load_blend(tmp_path / "blend.json") == blend


def test_files_of_earlier_versions_mean_the_convex_mixture():
    candidate = {"name": "convex", "nested_kl": 0.8, "chosen": True}
    text = json.dumps({"models": {"a": 0.75, "b": 0.25}, "prior": PRIOR, "candidates": [candidate], "rows": 5})
    blend = parse_blend(text, "old.json")
    a, b = dirichlet(1, 4), dirichlet(2, 4)
    mixed = combine({"a": a, "b": b}, model_weights(blend, ["a", "b"])[0], blend.prior, 4, blend.log_linear)
    np.testing.assert_allclose(mixed, 0.75 * a + 0.25 * b)
