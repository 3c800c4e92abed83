"""Diagnostics of a blend: each number written down again, the command, and eight real models."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from blend_samples import PATTERNS, dirichlet, noisy, out_of_fold
from run_samples import make_rows, write_run
from scipy.special import rel_entr

from common.blend import load_blend
from common.command_line import parse
from common.metric import vote_shares
from common.schema import VOTES
from common.tta import View
from train.blend.diagnostics import calibration_curve, calibration_error, diagnose, disagreement, error_correlation
from train.blend.methods import method_named, nested_kl, rows_of
from train.blend.out_of_fold import BlendInputError, read_out_of_fold
from train.blend.select import fit_blend
from train.blend.text import as_text
from train.cli import app
from train.engine.run import merge_folds
from train.engine.run_folder import read_run

ROOT = Path(__file__).resolve().parents[2]
OOF = ROOT.parent / "shared" / "data" / "oof"


def blend(*words):
    """The command, in this process."""
    parse(app, ["blend", *map(str, words)])()


# ---- calibration, correlation, disagreement


def test_calibration_is_zero_for_the_truth_and_the_distance_for_the_sure():
    truth = dirichlet(0, 20000)
    share = np.random.default_rng(1).multinomial(15, truth) / 15
    assert calibration_error(share, truth) < 0.005
    sure = np.eye(6)[truth.argmax(axis=1)]
    right = share[np.arange(20000), truth.argmax(axis=1)].mean()
    # At 1 they promise 1 and get `right`; at 0, five times as often, they promise nothing and get the rest.
    assert calibration_error(share, sure) == pytest.approx((1 - right) / 6 + 5 / 6 * (1 - right) / 5)
    low, high = calibration_curve(share, sure)
    assert (low["low"], low["high"], low["predicted"], low["probabilities"]) == (0, 0.1, 0, 100000)
    assert (high["low"], high["high"], high["predicted"]) == (0.9, 1, 1) and high["observed"] == pytest.approx(right)


def test_correlation_and_disagreement_of_models():
    target, rng = dirichlet(2, 4000), np.random.default_rng(3)
    shared, own = rng.normal(size=(4000, 6)), rng.normal(size=(2, 4000, 6))
    models = target + np.stack([shared + own[0], shared + own[1], -shared])
    found = error_correlation(target, models)
    np.testing.assert_allclose(found[0], [1, 0.5, -np.sqrt(0.5)], atol=0.02)
    np.testing.assert_array_equal(error_correlation(target, target[None]), [[0]])
    one = np.eye(6)[[0, 1, 2, 3]]
    other = np.eye(6)[[0, 1, 2, 4]]
    np.testing.assert_array_equal(disagreement(np.stack([one, other])), [[0, 0.25], [0.25, 0]])


# ---- all of it


@pytest.fixture(scope="module")
def fitted():
    rng, truth = np.random.default_rng(0), dirichlet(5, 240)
    predictions = noisy(rng, truth, np.array([0.5, 1, 2])[:, None, None], 3)
    votes = rng.multinomial(rng.integers(3, 22, 240), truth).astype(float)
    oof = out_of_fold(predictions, votes, np.arange(240) // 4 % 4)
    return fit_blend(replace(oof, group=np.arange(240) // 4, group_name="patient_id"))


def test_numbers_are_what_they_say(fitted):
    found, oof, many = diagnose(fitted), fitted.oof, fitted.oof.many
    target = vote_shares(oof.votes)
    chosen = fitted.blend.chosen
    kl = {name: rel_entr(target, values).sum(axis=1) for name, values in zip("abc", oof.predictions, strict=True)}
    nested = nested_kl(oof, chosen)
    assert (found["rows"], found["many"], found["groups"]) == (240, many.sum(), 59)
    for line in found["models"]:
        assert line["kl"] == pytest.approx(kl[line["name"]][many].mean())
        assert line["interval"][0] < line["kl"] < line["interval"][1]
        assert fitted.blend.drop[line["place"] - 1] == line["name"]
    worth = {line["name"]: line["value"] for line in found["models"]}
    assert worth["a"] > worth["c"]  # the best model is missed most
    without = np.empty(240)
    nested_weights = method_named(chosen).fit_nested(rows_of(oof), range(4))
    for k, fit in nested_weights.items():  # the blend without the first model, by hand
        here, weights = oof.fold == k, fit.models * [0, 1, 1]
        logs = np.tensordot(weights / weights.sum(), np.log(np.maximum(oof.predictions[:, here], 1e-6)), axes=1)
        logits = logs / fit.log_linear.temperature + np.array(fit.log_linear.bias)
        without[here] = rel_entr(target[here], np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).sum(axis=1)
    assert chosen in ("geometric", "log-linear") and worth["a"] == pytest.approx((without - nested)[many].mean())
    consensus = oof.votes.argmax(axis=1)
    for k, pattern in enumerate(PATTERNS):
        line = next(line for line in found["by_class"] if line["label"] == pattern)
        here = many & (consensus == k)
        assert (line["rows"], line["groups"]) == (here.sum(), len(np.unique(oof.group[here])))
        assert line["kl"]["blend"] == pytest.approx(nested[here].mean())
        assert line["kl"]["best"] == pytest.approx(kl["a"][here].mean())
    totals = oof.votes.sum(axis=1)
    for line in found["by_votes"]:
        low, _, high = line["label"].removeprefix(">= ").partition(" to ")
        here = (totals >= int(low)) & (totals <= int(high or 99))
        assert line["rows"] == here.sum() and line["kl"]["blend"] == pytest.approx(nested[here].mean())
    assert sum(line["rows"] for line in found["by_votes"]) == 240
    prior = np.empty((240, 6))
    for k in range(4):
        prior[oof.fold == k] = target[many & (oof.fold != k)].mean(axis=0)
    by_fold = [line["kl"]["prior"] for line in found["by_fold"]]
    expected = rel_entr(target, prior).sum(axis=1)
    np.testing.assert_allclose(by_fold, [expected[many & (oof.fold == k)].mean() for k in range(4)])
    assert [*found["calibration"]] == ["a (best model)", "mean", f"{chosen} (the blend)"]
    text = as_text(found, fitted.blend)
    assert all(line["name"] in text for line in (*found["candidates"], *found["models"])) and "WARNING" not in text
    one = fit_blend(replace(oof, group=np.zeros(240)))  # one patient: no intervals, and no NaN in any file
    for each in (fitted, one):
        assert json.dumps(diagnose(each), allow_nan=False)  # plain values
    assert " - " in as_text(diagnose(one), one.blend)


# ---- the command


def test_the_command_writes_what_the_kernel_is_to_do(tmp_path, capsys):
    rows = make_rows(n_patients=24)
    runs = [write_run(tmp_path / "a", rows), write_run(tmp_path / "b", rows, seed=1, checkpoint="best")]
    for run in runs:
        merge_folds(run, read_run(run))
    out, numbers = tmp_path / "new" / "blend.json", tmp_path / "numbers" / "numbers.json"
    options = ["--hours", "3", "--views", "mirror", "+4", "mirror-2"]
    blend(*runs, "--out", out, "--json", numbers, *options)
    printed = capsys.readouterr().out
    written = load_blend(out)
    assert written.views == (View(mirror=True), View(shift=4), View(mirror=True, shift=-2)) and written.hours == 3
    assert set(written.drop) == set(written.models) == {"a", "b"}
    assert written.provenance.group == "patient_id" and [s.name for s in written.provenance.sources] == ["a", "b"]
    assert str(tmp_path) not in out.read_text()
    found = json.loads(numbers.read_text())
    assert found["candidates"] == [c.model_dump(mode="json") for c in written.candidates]
    assert "b: best epoch, chosen on the fold that scores it" in printed and "WARNING: a:" not in printed
    blend(*runs, "--out", tmp_path / "again.json", *options)
    assert (tmp_path / "again.json").read_bytes() == out.read_bytes()
    with pytest.raises(SystemExit):
        parse(app, ["blend", "runs/a", "--out", "x", "--views", "mirror4"])
    assert "mirror4 is no view: mirror, +4, mirror-4" in capsys.readouterr().err
    with pytest.raises(BlendInputError, match="hours"):
        blend(*runs, "--out", tmp_path / "refused.json", "--hours", "20")
    assert not (tmp_path / "refused.json").exists()


# ---- real models


@pytest.mark.skipif(not OOF.is_dir(), reason="no ../shared/data/oof: real predictions are no part of the kit")
def test_eight_real_models():
    files = sorted(path for path in OOF.glob("*.parquet") if path.stem != "labels")
    labels, single = pl.read_parquet(OOF / "labels.parquet"), {}
    for path in files:
        one = pl.read_parquet(path)
        assert one.select("eeg_id", "eeg_sub_id").equals(labels.select("eeg_id", "eeg_sub_id"))
        prediction = one.select(VOTES).to_numpy().astype(float)
        prediction /= prediction.sum(axis=1, keepdims=True)
        target = labels.select(VOTES).to_numpy()
        single[path.stem] = rel_entr(target, np.clip(prediction, 1e-15, 1)).sum(axis=1).mean()
    assert len(files) == 8 and min(single.values()) == pytest.approx(0.2349, abs=1e-4)
    fitted = fit_blend(read_out_of_fold(files, OOF / "labels.parquet", "spectrogram_id"))
    methods = {method.name: method for method in fitted.blend.candidates}
    scores = {name: method.nested_kl for name, method in methods.items()}
    published = {"mean": 0.2157, "geometric": 0.2151, "convex": 0.2156, "log-linear": 0.2149, "stacker": 0.2149}
    assert scores == pytest.approx(published, abs=1e-4) and scores["log-linear"] < scores["convex"] < scores["mean"]
    assert fitted.blend.chosen == "mean" and methods["mean"].behind_interval[0] < 0  # inside the noise
    assert -1e-12 <= methods["convex"].optimality_gap < 1e-6
    found = diagnose(fitted)
    for line in found["models"]:
        assert line["kl"] == pytest.approx(single[line["name"]], abs=1e-6)
        assert line["interval"][0] < line["kl"] < line["interval"][1]
    assert fitted.blend.rows == 6366 and found["groups"] == 4702 and found["by_votes"] == []
    assert np.min(found["correlation"]) > 0.7 and np.max(found["disagreement"]) < 0.25
