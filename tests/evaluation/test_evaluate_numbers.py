"""The numbers of evaluate a second time, by pandas and by scipy; the interval by what it promises."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from run_samples import BEST, LAST, oof_of
from run_samples import two_runs as two_runs  # a fixture
from scipy.special import rel_entr

from common.schema import PATTERNS, VOTES
from train.data.labels import prior_shares
from train.evaluate.runs import CHECKPOINTS, FLOOR, PRIOR, evaluate, row_choices
from train.evaluate.scores import interval, kl_columns, many_votes, one_per_eeg, out_of_fold_prior, resampled_means


def by_pandas(oof, columns):
    """The five means; mean and number of rows by consensus and by fold; the rows with many votes, each with its kl."""
    table = pd.DataFrame(oof.sort("label_id").to_dict(as_series=False))
    votes = table[list(VOTES)].to_numpy(dtype=float)
    table["n"], table["consensus"] = votes.sum(axis=1), votes.argmax(axis=1)
    table["kl"] = rel_entr(votes / votes.sum(axis=1, keepdims=True), table[columns]).sum(axis=1)
    many = table[table["n"] >= 10]
    single = table.sort_values(["n", "label_id"], ascending=[False, True]).drop_duplicates("eeg_id")
    by_class = {pattern: many["kl"][many["consensus"] == k] for k, pattern in enumerate(PATTERNS)}
    by_fold = {f"fold{k}": many["kl"][many["fold"] == k] for k in sorted(table["fold"].unique())}
    return {
        "kl_all": table["kl"].mean(),
        "kl_many": many["kl"].mean(),
        "kl_folds": many.groupby("fold")["kl"].mean().mean(),
        "kl_eeg": single["kl"].mean(),
        "kl_eeg_many": single["kl"][single["n"] >= 10].mean(),
        "classes": {pattern: (part.mean(), len(part)) for pattern, part in by_class.items()},
        "folds_many": {fold: (part.mean(), len(part)) for fold, part in by_fold.items()},
        "many": many.to_dict("records"),
    }


def plain_interval(rows):
    """The documented draws, patient by patient: how often each comes is one multinomial draw. Of the rows' "kl"."""
    patients = sorted({row["patient_id"] for row in rows})
    draws, means = np.random.default_rng(0), []
    for _ in range(2000):
        times = draws.multinomial(len(patients), [1 / len(patients)] * len(patients))
        drawn = dict(zip(patients, times, strict=True))
        repeated = [row["kl"] for row in rows for _ in range(drawn[row["patient_id"]])]
        means.append(sum(repeated) / len(repeated))
    return np.percentile(means, (2.5, 97.5)).tolist()


# ---- every number a second time


def test_scores_equal_pandas(runs):
    evaluation = evaluate(runs, None)
    assert evaluation.scores["what"].to_list() == [
        *(f"{name} ({label})" for name in ("one", "other") for label in CHECKPOINTS.values()),
        PRIOR,
        "uniform",
    ]
    plain = [by_pandas(oof_of(run), columns) for run in runs for columns in (LAST, BEST)]
    plain.append(by_pandas(oof_of(runs[0]).with_columns(pl.lit(1 / 6).alias(c) for c in LAST), LAST))
    places = [0, 1, 2, 3, 5]
    for k, expected in zip(places, plain, strict=True):
        line = evaluation.scores.row(k, named=True)
        for column in ("kl_all", "kl_many", "kl_folds", "kl_eeg", "kl_eeg_many"):
            assert line[column] == pytest.approx(expected[column], rel=1e-12), (line["what"], column)
        for table in ("classes", "folds_many"):
            shown = getattr(evaluation, table).row(k, named=True)
            assert shown.pop("what") == line["what"]
            kl = {part: value for part, (value, _) in expected[table].items()}
            assert shown == pytest.approx(kl, rel=1e-12, nan_ok=True)
            assert evaluation.rows[table] == {part: n for part, (_, n) in expected[table].items()}
    assert evaluation.scores["run"].to_list() == [*[str(runs[0])] * 2, *[str(runs[1])] * 2, None, None]
    assert evaluation.scores["checkpoint"].to_list() == ["last", "best", "last", "best", None, None]


def test_intervals_equal_plain_loops(runs):
    evaluation = evaluate(runs, None)
    many = [by_pandas(oof_of(run), columns)["many"] for run in runs for columns in (LAST, BEST)]
    for k in (0, 3):
        line = evaluation.scores.row(k, named=True)
        assert [line["low"], line["high"]] == pytest.approx(plain_interval(many[k]), rel=1e-9)
    assert evaluation.differences["what"].to_list() == [f"other ({label})" for label in CHECKPOINTS.values()]
    for line, first, second in zip(evaluation.differences.rows(), many[:2], many[2:], strict=True):
        gaps = [b | {"kl": b["kl"] - a["kl"]} for a, b in zip(first, second, strict=True)]
        mean = sum(row["kl"] for row in gaps) / len(gaps)
        assert line[1:] == pytest.approx((mean, *plain_interval(gaps)), rel=1e-9)


def test_floor_and_prior_equal_scipy(runs, tmp_path):
    oof = oof_of(runs[0])
    truth = pl.DataFrame({"label_id": oof["label_id"].shuffle(1)}).with_columns(
        pl.Series(vote, column)
        for vote, column in zip(VOTES, np.random.default_rng(3).dirichlet(np.ones(6), oof.height).T, strict=True)
    )
    truth.write_csv(tmp_path / "truth.csv")
    known = oof.select("label_id").join(truth, on="label_id", maintain_order="left").select(VOTES).to_numpy()
    votes = oof.select(VOTES).to_numpy()
    target, many = votes / votes.sum(axis=1, keepdims=True), votes.sum(axis=1) >= 10
    prior = np.empty((len(votes), 6))
    for k in range(3):
        here = (oof["fold"] == k).to_numpy()
        prior[here] = target[many & ~here].mean(axis=0)
    table = evaluate(runs[:1], tmp_path / "truth.csv").scores
    for what, prediction in ((FLOOR, known), (PRIOR, prior)):
        kl = rel_entr(target, prediction).sum(axis=1)
        line = table.row(by_predicate=pl.col("what") == what, named=True)
        assert (line["kl_all"], line["kl_many"]) == pytest.approx((kl.mean(), kl[many].mean()), rel=1e-9)
        assert kl_columns(votes, prediction) == pytest.approx((kl.mean(), kl[many].mean()), rel=1e-9)
    assert table["what"].to_list()[0] == FLOOR


def test_prior_of_a_fold_never_sees_it():
    votes = np.array([[10, 0, 0, 0, 0, 0], [0, 10, 0, 0, 0, 0], [0, 0, 5, 0, 0, 0], [0, 0, 0, 6, 0, 6]])
    fold = np.array([0, 1, 1, 2])
    prior = out_of_fold_prior(votes, fold)
    np.testing.assert_allclose(prior[0], [0, 0.5, 0, 0.25, 0, 0.25])  # the row of 5 votes does not count
    np.testing.assert_allclose(prior[1], [0.5, 0, 0, 0.25, 0, 0.25])
    np.testing.assert_array_equal(out_of_fold_prior(votes, fold, np.array([1, 1])), prior[1:3])  # one fold finished
    np.testing.assert_allclose(prior_shares(votes[2:3], 10), [0, 0, 1, 0, 0, 0])  # unless there is no other


# ---- which rows


def votes_of(*totals):
    return {vote: [float(n) if k == 1 else 0.0 for n in totals] for k, vote in enumerate(VOTES)}


def test_one_row_of_each_eeg_is_the_one_with_most_votes():
    rows = pl.DataFrame(
        {"eeg_id": [7, 3, 7, 3, 7, 5], "label_id": [10, 40, 30, 20, 60, 50]} | votes_of(3, 12, 12, 12, 12, 1)
    )
    assert one_per_eeg(rows).tolist() == [False, False, True, True, False, True]
    choices = row_choices(rows.with_columns(fold=0))["scores"]
    assert choices["kl_eeg_many"].tolist() == [False, False, True, True, False, False]


def test_shares_of_ten_votes_are_ten_votes():
    tenth = np.array([[10 * 0.1] * 3 + [10 * 0.7 / 3] * 3, [9.4, 0, 0, 0, 0, 0], [9, 0, 0, 0, 0, 1]])
    tenth[0] *= 1 - 1e-15  # as sums of shares come out
    assert many_votes(tenth).tolist() == [True, False, True]


def test_class_of_a_tie_is_the_first():
    votes = pl.DataFrame([[0, 5, 5, 0, 0, 2], [0, 4, 5, 0, 0, 5], [0, 0, 9, 0, 0, 0]], schema=list(VOTES), orient="row")
    rows = votes.with_columns(eeg_id=pl.Series([1, 2, 3]), label_id=pl.Series([1, 2, 3]), fold=0)
    classes = row_choices(rows)["classes"]
    assert {pattern: np.flatnonzero(chosen).tolist() for pattern, chosen in classes.items() if chosen.any()} == {
        "lpd": [0],
        "gpd": [1],  # not the row of 9 votes
    }


# ---- the interval


def test_interval_holds_the_truth_as_often_as_it_says():
    """Patients of unequal size whose rows are alike; the truth is the mean over rows: 0.6."""
    rng, held, trials = np.random.default_rng(2), 0, 150
    for _ in range(trials):
        sizes = rng.integers(1, 8, 80)
        patient = np.repeat(np.arange(80), sizes)
        kl = rng.gamma(2, 0.3, 80)[patient] * rng.uniform(0.5, 1.5, len(patient))
        low, high = interval(resampled_means(kl[None], patient)[:, 0])
        held += low < 0.6 < high
    assert 0.90 < held / trials < 0.98
