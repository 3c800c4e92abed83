"""Blends: weights at the optimum, honest nested scores, named refusals, and eight real models."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from run_samples import make_rows, write_run
from scipy.special import rel_entr

from common.blend import Blend, BlendError, combine, load_blend, model_weights, parse_blend
from common.metric import vote_shares
from common.schema import VOTES
from train.blend import BlendInputError, OutOfFold, fit_blend, fit_weights, nested_kl, optimality_gap, read_out_of_fold

OOF = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "oof"
PATTERNS = ["seizure", "lpd", "gpd", "lrda", "grda", "other"]
UNIFORM = (1 / 6,) * 6


def dirichlet(seed, *shape):
    return np.random.default_rng(seed).dirichlet(np.full(6, 0.7), shape)


# ---- fitted weights


@pytest.mark.parametrize("seed", range(4))
def test_weights_reach_the_optimum(seed):
    truth = dirichlet(seed, 300)
    noise = (
        np.random.default_rng(seed + 10).gamma(1.0, size=(5, 300, 6)) * np.array([0.3, 0.5, 0.7, 1, 3])[:, None, None]
    )
    models = truth + noise
    models /= models.sum(axis=-1, keepdims=True)
    target = vote_shares(np.random.default_rng(seed).multinomial(12, truth))

    def loss(weights):
        return rel_entr(target, np.tensordot(weights, models, axes=1)).sum(axis=1).mean()

    weights = fit_weights(target, models)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    # Another method: expectation-maximisation of a mixture, whose every update lowers the KL.
    other = np.full(5, 0.2)
    for _ in range(20000):
        other = other * (target / np.tensordot(other, models, axes=1) * models).sum(axis=-1).mean(axis=-1)
    assert loss(weights) <= loss(other) + 1e-7
    np.testing.assert_allclose(weights, other, atol=0.02)
    # The optimum's own mark: no model gains more per weight than 1, those in use exactly 1.
    gains = (target / np.tensordot(weights, models, axes=1) * models).sum(axis=-1).mean(axis=-1)
    np.testing.assert_allclose(gains[weights > 0], 1, atol=1e-4)
    assert gains.max() - 1 <= optimality_gap(target, models, weights) + 1e-12 < 1e-4
    assert loss(np.full(5, 0.2)) > loss(weights) + 1e-3  # the mean is not the optimum here


def test_identical_models_tie_and_a_perfect_one_wins():
    target = dirichlet(3, 100)
    np.testing.assert_allclose(fit_weights(target, np.stack([UNIFORM * np.ones((100, 6))] * 3)), 1 / 3)
    assert fit_weights(target, np.stack([dirichlet(4, 100), target]))[1] > 0.999
    certain = np.eye(6)[np.zeros(100, dtype=int)]  # all models sure of the wrong answer: still weights
    assert np.isfinite(fit_weights(np.roll(certain, 1, axis=1), np.stack([certain, certain]))).all()


def out_of_fold(predictions, votes, fold):
    return OutOfFold(tuple("abcdef"[: len(predictions)]), votes, fold, predictions, votes.sum(axis=1) >= 10)


def test_nested_score_never_sees_its_own_fold():
    rng = np.random.default_rng(0)
    fold = np.repeat([0, 1, 2], 60)
    votes = rng.multinomial(12, dirichlet(5, 180)).astype(float)
    votes[:5] = [3, 0, 0, 0, 0, 0]  # few votes: neither fitted on nor scored
    lucky, plain = np.tile(UNIFORM, (180, 1)), np.tile(vote_shares(votes).mean(axis=0), (180, 1))
    lucky[fold == 0] = vote_shares(votes)[fold == 0] * 0.99 + 0.01 / 6  # knows fold 0, and only that
    oof = out_of_fold(np.stack([lucky, plain]), votes, fold)
    kl = nested_kl(oof, fitted=True)
    weights = fit_weights(vote_shares(votes[60:]), np.stack([lucky, plain])[:, 60:])
    expected = rel_entr(vote_shares(votes), np.tensordot(weights, np.stack([lucky, plain]), axes=1)).sum(axis=1)
    np.testing.assert_allclose(kl[:60], expected[:60], rtol=1e-9)
    assert weights[0] < 0.05 and kl[:60].mean() > 0.3  # its luck in fold 0 earned it nothing there
    assert fit_weights(vote_shares(votes[:120]), np.stack([lucky, plain])[:, :120])[0] > 0.3
    blend = fit_blend(oof)
    assert blend.rows == 175 and blend.prior == pytest.approx(vote_shares(votes[5:]).mean(axis=0))
    for candidate in blend.candidates:
        nested = nested_kl(oof, fitted=candidate.name == "convex")[5:].mean()
        assert candidate.nested_kl == pytest.approx(nested, abs=1e-6)


def test_the_mean_is_kept_when_fitting_does_not_help():
    votes = np.tile([12.0, 0, 0, 0, 0, 0], (20, 1))
    same = np.tile([0.5, 0.1, 0.1, 0.1, 0.1, 0.1], (2, 20, 1))
    blend = fit_blend(out_of_fold(same, votes, np.arange(20) % 2))
    assert [(c.name, c.chosen) for c in blend.candidates] == [("mean", True), ("convex", False)]
    assert blend.models == {"a": 0.5, "b": 0.5}
    better = np.stack([same[0], np.tile([0.95, 0.01, 0.01, 0.01, 0.01, 0.01], (20, 1))])
    blend = fit_blend(out_of_fold(better, votes, np.arange(20) % 2))
    assert blend.candidates[1].chosen and blend.models["b"] > 0.999


# ---- out-of-fold files


def table(seed=0):
    votes = np.random.default_rng(1).multinomial(12, np.full(6, 1 / 6), 8)
    keys = {"label_id": range(8), "eeg_id": range(8), "patient_id": [0, 0, 1, 1, 2, 2, 3, 3], "fold": [0] * 4 + [1] * 4}
    values = dict(zip(VOTES, votes.T, strict=True)) | dict(zip(PATTERNS, dirichlet(seed, 8).T, strict=True))
    return pl.DataFrame(keys | values)


def read(tmp_path, *tables, group=None, labels=None):
    for k, one in enumerate(tables):
        one.write_parquet(tmp_path / f"model{k}.parquet")
    return read_out_of_fold([tmp_path / f"model{k}.parquet" for k in range(len(tables))], labels, group)


def test_rows_are_matched_by_id(tmp_path):
    oof = read(tmp_path, table(0), table(1).reverse())
    assert oof.names == ("model0", "model1")
    np.testing.assert_allclose(oof.predictions, np.stack([dirichlet(0, 8), dirichlet(1, 8)]), rtol=1e-12)
    np.testing.assert_array_equal(oof.votes, table().select(VOTES).to_numpy())


ONE = pl.col("label_id") == 3


@pytest.mark.parametrize(
    ("other", "group", "message"),
    [
        (table(1).head(6), None, "model1: 6 rows, of which 6 are among the 8 expected"),
        (table(1).with_columns(label_id=pl.col("label_id") + 1), None, "model1: 8 rows, of which 0"),
        (pl.concat([table(1), table(1)[:1]]), None, r"model1: a row occurs twice \(label_id, eeg_id\)"),
        (table(1).with_columns(fold=1 - pl.col("fold")), None, "model1: its folds differ"),
        (table(1).with_columns(pl.when(ONE).then(None).otherwise("lpd").alias("lpd")), None, "of which 7 are among"),
        (table(1).with_columns(pl.col("lpd") + 0.1), None, "model1: its rows are not probabilities"),
        (table(1).with_columns(pl.col("lpd") - 1, pl.col("gpd") + 1), None, "model1: its rows are not probabilities"),
        (table(1).drop("lpd"), None, "model1: no columns seizure, lpd"),
        (table(1), "recording", "--group recording: no such column"),
    ],
)
def test_tables_that_do_not_fit_are_named(tmp_path, other, group, message):
    with pytest.raises(BlendInputError, match=message):
        read(tmp_path, table(0), other, group=group)


def test_torn_groups_few_votes_and_strange_sources_are_refused(tmp_path):
    torn = table().with_columns(fold=pl.Series([0, 1] * 4))
    with pytest.raises(BlendInputError, match=r"patient_id \d is in several folds \(4 such\)"):
        read(tmp_path, torn)
    with pytest.raises(BlendInputError, match="eeg_id 0 is in several folds"):
        read(tmp_path, torn.with_columns(eeg_id=pl.Series([0, 0, 1, 2, 3, 4, 5, 6])).drop("patient_id"), group="eeg_id")
    with pytest.raises(BlendInputError, match="no row has at least 10 votes"):
        read(tmp_path, table().with_columns(pl.col(VOTES) // 3 + 1))
    with pytest.raises(BlendInputError, match=r"no column fold; --labels FILE"):
        read(tmp_path, table().drop("fold"))
    with pytest.raises(BlendInputError, match=r"absent: no such run or parquet"):
        read_out_of_fold([tmp_path / "absent"], None, None)
    (tmp_path / "copy").mkdir()
    table().write_parquet(tmp_path / "copy/model0.parquet")
    with pytest.raises(BlendInputError, match="the same model twice: model0"):
        read_out_of_fold([tmp_path / "model0.parquet", tmp_path / "copy/model0.parquet"], None, None)


def test_eight_real_models():
    if not OOF.is_dir():
        pytest.skip("the real out-of-fold predictions are not beside the repository")
    files = sorted(path for path in OOF.glob("*.parquet") if path.stem != "labels")
    labels = pl.read_parquet(OOF / "labels.parquet")
    target = labels.select(VOTES).to_numpy()
    single = []
    for path in files:
        one = pl.read_parquet(path)
        assert one["eeg_id"].equals(labels["eeg_id"]) and one["eeg_sub_id"].equals(labels["eeg_sub_id"])
        prediction = one.select(VOTES).to_numpy().astype(float)
        prediction /= prediction.sum(axis=1, keepdims=True)
        single.append(rel_entr(target, np.clip(prediction, 1e-15, 1)).sum(axis=1).mean())
    assert len(files) == 8 and min(single) == pytest.approx(0.2349, abs=1e-4)
    blend = fit_blend(read_out_of_fold(files, OOF / "labels.parquet", "spectrogram_id"))
    scores = {candidate.name: candidate.nested_kl for candidate in blend.candidates}
    assert scores["mean"] == pytest.approx(0.2157, abs=1e-3) and scores["mean"] < min(single)
    assert blend.rows == 6366 and set(blend.models) == {path.stem for path in files}
    assert [c.name for c in blend.candidates if c.chosen] == [min(scores, key=scores.get)]


# ---- combining


PRIOR = (0.05, 0.15, 0.2, 0.1, 0.1, 0.4)


def test_rows_are_mixed_from_those_who_answered():
    one, other = dirichlet(1, 3), dirichlet(2, 3)
    one[1:] = np.nan
    other[2, 4] = np.nan
    mixed = combine({"a": one, "b": other}, {"a": 0.25, "b": 0.75}, PRIOR, 3)
    np.testing.assert_allclose(mixed[0], 0.25 * one[0] + 0.75 * other[0])
    np.testing.assert_allclose(mixed[1], other[1])
    np.testing.assert_allclose(mixed[2], PRIOR)
    np.testing.assert_allclose(combine({}, {}, PRIOR, 2), [PRIOR, PRIOR])


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
        ({"prior": [1.0]}, "prior must be 6 shares"),
        ({"prior": [0.2] * 6}, "prior must be 6 shares that sum to 1"),
        ({"weights": {}}, "weights: unknown key"),
    ],
)
def test_wrong_blend_file_is_refused(tmp_path, change, message):
    text = json.dumps({"models": {}, "prior": list(PRIOR)} | change)
    with pytest.raises(BlendError, match=rf"(?s)^mine\.json:.*{message}"):
        parse_blend(text, "mine.json")
    with pytest.raises(BlendError, match=r"absent\.json"):
        load_blend(tmp_path / "absent.json")
    blend = Blend(models={"a": 1.0}, prior=PRIOR)
    (tmp_path / "blend.json").write_text(blend.model_dump_json(indent=1))
    assert load_blend(tmp_path / "blend.json") == blend


def test_label_rows_of_different_kinds_are_not_blended(tmp_path):
    rows = make_rows()
    runs = [write_run(tmp_path / name, rows, labels=name) for name in ("votes", "eeg")]
    with pytest.raises(BlendInputError, match="votes has labels = 'votes', eeg has labels = 'eeg'"):
        read_out_of_fold(runs, None, None)
