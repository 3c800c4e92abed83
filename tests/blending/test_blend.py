"""Blends: optima, honest nested scores, the choice, and that the kernel's arithmetic is the method's."""

from dataclasses import replace

import numpy as np
import pytest
from blend_samples import UNIFORM, dirichlet, noisy, out_of_fold, softmax
from scipy.optimize import minimize
from scipy.special import rel_entr

from common.blend import combine, load_blend, model_weights
from common.metric import kl_divergence, vote_shares
from train.blend.fit import equal_weights, fit_correction, fit_log_linear, fit_weights, optimality_gap
from train.blend.methods import METHODS, STRENGTHS, BlendWeights, nested_kl, predict_nested, rows_of
from train.blend.select import compare, fit_blend, order_of_dropping

METHOD = {method.name: method for method in METHODS}


# ---- fitted weights


def test_weights_reach_the_optimum():
    truth, rng = dirichlet(0, 300), np.random.default_rng(0)
    models = truth + rng.gamma(1.0, size=(5, 300, 6)) * np.array([0.3, 0.5, 0.7, 1, 3])[:, None, None]
    models /= models.sum(axis=-1, keepdims=True)
    target = vote_shares(rng.multinomial(12, truth))

    def loss(weights):
        return rel_entr(target, np.tensordot(weights, models, axes=1)).sum(axis=1).mean()

    weights = fit_weights(target, models)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    # Another method: expectation-maximisation of a mixture, whose every update lowers the KL.
    other = np.full(5, 0.2)
    for _ in range(4000):
        other = other * (target / np.tensordot(other, models, axes=1) * models).sum(axis=-1).mean(axis=-1)
    assert loss(weights) <= loss(other) + 1e-9
    np.testing.assert_allclose(weights, other, atol=0.02)
    assert optimality_gap(target, models, weights) < 1e-5
    equal = np.full(5, 0.2)
    assert loss(equal) > loss(weights) + 1e-3  # the mean is not the optimum here
    assert optimality_gap(target, models, equal) >= loss(equal) - loss(weights)  # the bound holds away from it, too


@pytest.mark.parametrize("seed", range(3))
def test_weights_reach_the_optimum_among_near_twins_and_sharp_models(seed):
    """Where the objective is almost flat, and where all models deny what was voted."""
    rng = np.random.default_rng(seed)
    truth = dirichlet(seed, 150)
    target = vote_shares(rng.multinomial(10, truth))
    models = noisy(rng, truth, rng.uniform(0.01, 3, (9, 1, 1)), 9)
    twins = np.concatenate([models, models * (1 + 1e-3 * rng.random(models.shape))])
    sharp = rng.dirichlet(np.full(6, 0.05), (3, 150))
    for models in (twins / twins.sum(axis=-1, keepdims=True), sharp):
        weights = fit_weights(target, models)
        assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
        assert optimality_gap(target, models, weights) < 2e-6


def test_identical_models_tie_and_a_perfect_one_wins():
    target = dirichlet(3, 100)
    np.testing.assert_allclose(fit_weights(target, np.stack([UNIFORM * np.ones((100, 6))] * 3)), 1 / 3)
    assert fit_weights(target, np.stack([dirichlet(4, 100), target]))[1] > 0.999
    certain = np.eye(6)[np.zeros(100, dtype=int)]  # all models sure of the wrong answer: still weights
    assert np.isfinite(fit_weights(np.roll(certain, 1, axis=1), np.stack([certain, certain]))).all()


def test_log_linear_weights_and_corrections_reach_their_optimum():
    """Against a general optimiser on the objective written down again."""
    rng = np.random.default_rng(0)
    target, logs = dirichlet(1, 200), np.log(dirichlet(2, 3, 200) + 0.01)
    logs[2] = -logs[0]  # a model that only misleads: its factor stays at 0

    def loss(x):
        predicted = softmax(np.tensordot(x[:3], logs, axes=1) + x[3:])
        ridge = 3 * ((x[:3] - x[:3].mean()) ** 2).sum() + (x[3:] ** 2).sum()
        return -(target * np.log(predicted)).sum(axis=1).mean() + 0.01 * ridge

    found = np.concatenate(fit_log_linear(target, logs, 0.01))
    bounds = [(0, None)] * 3 + [(None, None)] * 6
    other = minimize(loss, np.full(9, 0.1), bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-9, "maxfun": 10**5})
    assert loss(found) <= other.fun + 1e-10 and (found[:3] >= 0).all()
    np.testing.assert_allclose(found, other.x, atol=1e-3)

    logits, summaries = rng.normal(size=(200, 6)), rng.random((200, 12))

    def corrected(x):
        predicted = softmax(logits + summaries @ x.reshape(12, 6))
        return -(target * np.log(predicted)).sum(axis=1).mean() + 0.01 * (x**2).sum()

    found = fit_correction(target, logits, summaries, 0.01)
    other = minimize(corrected, np.zeros(72), options={"gtol": 1e-7})
    assert corrected(found.ravel()) <= other.fun + 1e-10
    np.testing.assert_allclose(found.ravel(), other.x, atol=1e-3)


# ---- nested scores


def test_nested_score_never_sees_its_own_fold():
    rng = np.random.default_rng(0)
    fold = np.repeat([0, 1, 2], 60)
    votes = rng.multinomial(12, dirichlet(5, 180)).astype(float)
    votes[:5] = [3, 0, 0, 0, 0, 0]  # few votes: neither fitted on nor scored
    lucky, plain = np.tile(UNIFORM, (180, 1)), np.tile(vote_shares(votes).mean(axis=0), (180, 1))
    lucky[fold == 0] = vote_shares(votes)[fold == 0] * 0.99 + 0.01 / 6  # knows fold 0, and only that
    oof = out_of_fold(np.stack([lucky, plain]), votes, fold)
    kl = nested_kl(oof, "convex")
    weights = fit_weights(vote_shares(votes[60:]), np.stack([lucky, plain])[:, 60:])
    expected = rel_entr(vote_shares(votes), np.tensordot(weights, np.stack([lucky, plain]), axes=1)).sum(axis=1)
    np.testing.assert_allclose(kl[:60], expected[:60], rtol=1e-9)
    assert weights[0] < 0.05 and kl[:60].mean() > 0.3  # its luck in fold 0 earned it nothing there
    assert fit_weights(vote_shares(votes[:120]), np.stack([lucky, plain])[:, :120])[0] > 0.3
    blend = fit_blend(oof).blend
    assert blend.rows == 175 and blend.prior == pytest.approx(vote_shares(votes[5:]).mean(axis=0))
    for method in blend.candidates:
        assert method.nested_kl == pytest.approx(nested_kl(oof, method.name)[5:].mean(), abs=1e-6)


@pytest.mark.parametrize("name", METHOD)
def test_what_a_fold_holds_changes_nothing_of_how_it_is_combined(name):
    """Neither weights nor the strength of regularisation: labels and predictions of the fold are scrambled."""
    oof = sample(240, seed=1)
    scrambled = np.where(oof.fold[:, None] == 2, oof.votes[:, ::-1], oof.votes)
    predictions = np.where(oof.fold[:, None] == 2, oof.predictions[..., ::-1], oof.predictions)
    fits = [
        METHOD[name].fit_nested(rows_of(o), range(4))
        for o in (oof, replace(oof, votes=scrambled, predictions=predictions))
    ]
    one, other = (each[2] for each in fits)
    np.testing.assert_array_equal(one.models, other.models)
    assert (one.log_linear, one.strength) == (other.log_linear, other.strength)
    if METHOD[name].needs_folds:  # and what the other folds hold does
        assert not np.array_equal(fits[0][0].models, fits[1][0].models)


def sample(rows, seed, models=3, folds=4):
    """The first model sees the truth through the least noise."""
    rng, truth = np.random.default_rng(seed), dirichlet(seed, rows)
    predictions = noisy(rng, truth, (0.5 + np.arange(models))[:, None, None], models)
    return out_of_fold(predictions, rng.multinomial(12, truth).astype(float), np.arange(rows) % folds)


def test_strength_is_the_best_of_the_inner_folds():
    oof = sample(240, seed=2)
    rows, method = rows_of(oof), METHOD["log-linear"]
    inside, logs = [k for k in range(4) if k != 1], np.log(np.maximum(oof.predictions, 1e-6))

    def inner(strength):
        losses = []
        for k in inside:
            train = ~np.isin(oof.fold, [1, k])
            factors, bias = fit_log_linear(vote_shares(oof.votes[train]), logs[:, train], strength)
            mixed = softmax(np.tensordot(factors, logs[:, oof.fold == k], axes=1) + bias)
            losses.append(rel_entr(vote_shares(oof.votes[oof.fold == k]), mixed).sum(axis=1))
        return np.concatenate(losses).mean()

    scores = {strength: inner(strength) for strength in STRENGTHS}
    for strength, score in scores.items():
        found = np.concatenate([method.score_fold(rows, frozenset({1}), k, strength) for k in inside])
        assert found.mean() == pytest.approx(score, abs=1e-7)
    assert method.fit_without(rows, frozenset({1})).strength == min(scores, key=scores.get)
    two = replace(oof, fold=oof.fold % 2)  # without one of two folds there is nothing to choose by: the strongest
    assert method.fit_without(rows_of(two), frozenset({1})).strength == STRENGTHS[0]


# ---- which way is chosen


def blurred_experts(rows=600, seed=0):
    """Experts whose errors share a fault that no weights mend: all name lpd what is half gpd."""
    rng, truth = np.random.default_rng(seed), dirichlet(seed, rows)
    predictions = softmax(np.log(noisy(rng, truth, 0.3, 3)) + np.array([0, 1.2, -1.2, 0, 0, 0]))
    return out_of_fold(predictions, rng.multinomial(15, truth).astype(float), np.arange(rows) % 4)


def disputed_experts(rows=3000, seed=0):
    """Where the experts differ much, nobody knows: the truth is flat there, though each is sure."""
    rng, truth = np.random.default_rng(seed), dirichlet(seed, rows)
    hard = rng.random(rows) < 0.5
    predictions = noisy(rng, truth, np.where(hard, 1.5, 0.05)[:, None], 4)
    truth = np.where(hard[:, None], 0.1 * truth + 0.9 / 6, truth)
    return out_of_fold(predictions, rng.multinomial(15, truth).astype(float), np.arange(rows) % 4)


def unequal_experts(rows=600, seed=0):
    """What is voted is three parts of the second model and one of the third; the first knows nothing."""
    predictions = np.stack([dirichlet(seed + k, rows) for k in range(3)])
    truth = 0.75 * predictions[1] + 0.25 * predictions[2]
    votes = np.random.default_rng(seed).multinomial(15, truth).astype(float)
    return out_of_fold(predictions, votes, np.arange(rows) % 4)


def alike(rows=300, seed=0):
    """Equal noise on probabilities that are right on average: nothing is to be gained over the mean."""
    rng = np.random.default_rng(seed)
    truth = dirichlet(seed, rows)
    predictions = np.stack([truth + rng.dirichlet(np.ones(6), rows) for _ in range(4)]) / 2
    mixed = predictions.mean(axis=0)
    votes = np.stack([rng.multinomial(15, p) for p in mixed]).astype(float)
    return out_of_fold(predictions, votes, np.arange(rows) % 4)


@pytest.mark.parametrize(
    ("case", "chosen"),
    [(alike, "mean"), (unequal_experts, "convex"), (blurred_experts, "log-linear"), (disputed_experts, "stacker")],
)
def test_the_simplest_that_is_as_good_as_the_best_is_chosen(case, chosen, tmp_path):
    """And the kernel answers what that method predicts: from the blend file, through the functions that it calls."""
    oof = case()
    blend = fit_blend(oof).blend
    assert [method.name for method in blend.candidates] == [*METHOD]
    assert [method.name for method in blend.candidates if method.chosen] == [chosen], blend.candidates
    (tmp_path / "blend.json").write_text(blend.model_dump_json(indent=1, exclude_none=True))
    read = load_blend(tmp_path / "blend.json")
    assert read == blend and read.chosen == chosen
    weights, _ = model_weights(read, list(oof.names))
    given = dict(zip(oof.names, oof.predictions, strict=True))
    answers = combine(given, weights, read.prior, len(oof.votes), read.log_linear)
    fitted = METHOD[chosen].fit_without(rows_of(oof))
    np.testing.assert_allclose(answers, fitted.predict(oof.names, oof.predictions), rtol=0, atol=1e-7)
    nested = predict_nested(oof, METHOD[chosen].fit_nested(rows_of(oof), range(4)))
    np.testing.assert_allclose(answers, nested, atol=0.1)  # and the nested scores are of much the same blend


def test_noise_keeps_the_simple_and_more_than_noise_does_not():
    """The same mean difference, once spread over all patients and once that of two of them."""
    group, gain = np.repeat(np.arange(50), 4), np.full(200, 0.01)
    base = np.random.default_rng(0).random(200)
    steady = compare(["simple", "clever"], np.stack([base, base - gain]), group)
    assert [method.chosen for method in steady] == [False, True]
    assert steady[0].behind == pytest.approx(0.01) and steady[1].difference == pytest.approx(-0.01)
    lucky = np.where(group < 2, 0.25, 0.0)
    assert lucky.mean() == pytest.approx(0.01)
    noise = compare(["simple", "clever"], np.stack([base, base - lucky]), group)
    assert [method.chosen for method in noise] == [True, False]
    assert noise[0].behind_interval[0] == 0 < noise[0].behind
    by_row = compare(["simple", "clever"], np.stack([base, base - lucky]), np.arange(200))
    assert by_row[1].chosen  # rows drawn one by one would promise too much
    alone = compare(["simple", "clever"], np.stack([base, base - gain]), np.zeros(200))
    assert alone[0].chosen and alone[0].interval is None  # one patient tells nothing
    between = compare(["simple", "middle", "best"], np.stack([base, base - gain, base - gain - lucky / 50]), group)
    assert [method.chosen for method in between] == [False, True, False]


def test_with_one_fold_nothing_is_fitted():
    oof = replace(sample(60, seed=3), fold=np.zeros(60, dtype=int))
    assert [method.name for method in fit_blend(oof).blend.candidates] == ["mean", "geometric"]


def test_models_are_left_out_weakest_first():
    rng, truth = np.random.default_rng(0), dirichlet(7, 400)
    good = 0.9 * truth + 0.1 / 6
    twin = 0.9 * truth + 0.1 * dirichlet(8, 400)
    junk = dirichlet(9, 400)
    votes = rng.multinomial(15, truth).astype(float)
    oof = out_of_fold(np.stack([good, junk, twin]), votes, np.arange(400) % 4)
    weights = {k: BlendWeights(equal_weights(3)) for k in range(4)}
    order, without = order_of_dropping(rows_of(oof), weights)
    assert order[0] == 1
    expected = kl_divergence(vote_shares(votes), (good + twin) / 2)
    np.testing.assert_allclose(without[1], expected)
    fitted = fit_blend(oof)
    assert sorted(fitted.blend.drop) == ["a", "b", "c"] and fitted.blend.drop[-1] != "b"
    unused = {k: BlendWeights(np.array([0.0, 0.0, 1.0])) for k in range(4)}
    assert order_of_dropping(rows_of(oof), unused)[0] == [1, 0, 2]  # of models that count nothing the worse one first


def test_of_near_twins_one_is_missed_once_the_other_is_gone():
    rng, truth = np.random.default_rng(0), dirichlet(7, 400)
    shared, own = rng.normal(size=(2, 400, 6))
    models = np.stack([softmax(np.log(truth + 0.01) + noise) for noise in (shared, 1.01 * shared, 1.2 * own)])
    oof = out_of_fold(models, rng.multinomial(15, truth).astype(float), np.arange(400) % 4)
    order, _ = order_of_dropping(rows_of(oof), {k: BlendWeights(equal_weights(3)) for k in range(4)})
    assert order[1] == 2, order
