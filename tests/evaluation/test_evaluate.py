"""The command evaluate: what it shows, what it refuses, and how it fares with little to score."""

import json
import math

import numpy as np
import polars as pl
import pytest
from run_samples import BEST, LAST, make_rows, oof_of, write_run
from run_samples import two_runs as two_runs  # a fixture
from scipy.special import rel_entr

from common.schema import VOTES
from train import __main__ as commands
from train.engine.run_folder import RunError
from train.evaluate.runs import as_values, evaluate
from train.evaluate.text import as_text


def test_seeds_are_averaged_and_full_fits_never_read(runs):
    rows = pl.read_parquet(runs[0] / "rows.parquet")
    for other, member in ((5, "fold{}-seed1"), (6, "fold{}and2"), (7, "full-seed{}")):
        write_run(runs[0], rows, other, member=member, finished=[0, 1] if "and" in member else None)
    seeds = [oof_of(runs[0]), pl.concat([pl.read_parquet(runs[0] / f"fold{k}-seed1/oof.parquet") for k in range(3)])]
    mean = seeds[0].with_columns((pl.col(c) + seeds[1][c]) / 2 for c in (*LAST, *BEST))
    scores = evaluate(runs[:1], None).scores
    assert scores["what"][0] == "one, mean of 2 seeds (last epoch)"
    votes = mean.select(VOTES).to_numpy()
    target = votes / votes.sum(axis=1, keepdims=True)
    for k, columns in enumerate((LAST, BEST)):
        expected = rel_entr(target, mean.select(columns).to_numpy()).sum(axis=1).mean()
        assert scores["kl_all"][k] == pytest.approx(expected, rel=1e-12)
    (runs[0] / "fold1-seed1/state.pt").touch()  # as while it is trained
    assert evaluate(runs[:1], None).scores["what"][0] == "one, mean of 1 to 2 seeds (last epoch)"


# ---- little to score


def test_no_row_with_many_votes(tmp_path):
    run = write_run(tmp_path / "few", make_rows(most=9))
    evaluation = evaluate([run], None)
    assert evaluation.scores["kl_many"].is_nan().all() and evaluation.scores["kl_all"].is_finite().all()
    last = next(line for line in as_text(evaluation).splitlines() if line.startswith("few (last epoch)"))
    kl_all, kl_eeg = (f"{evaluation.scores[column][0]:.4f}" for column in ("kl_all", "kl_eeg"))
    assert last.removeprefix("few (last epoch)").split() == [kl_all, "-", "-", "-", kl_eeg, "-"]
    assert "nan" not in as_text(evaluation) and json.dumps(as_values(evaluation), allow_nan=False).count("null") > 10


def test_one_patient_has_no_interval(tmp_path):
    rows = make_rows(n_patients=2, most=30, folds=2)
    run = write_run(tmp_path / "one", rows, folds=2, finished=[1])
    evaluation = evaluate([run], None)
    assert evaluation.patients == 1 and evaluation.scores["kl_many"].is_finite().all()
    assert evaluation.scores["low"].is_nan().all() and evaluation.scores["high"].is_nan().all()
    assert "folds 1 of 2" in as_text(evaluation)


def test_a_fold_without_many_votes_is_left_out_of_the_mean(tmp_path):
    rows = make_rows()
    rows = rows.with_columns(pl.when(pl.col("fold") == 1).then(1).otherwise(vote).alias(vote) for vote in VOTES)
    evaluation = evaluate([write_run(tmp_path / "gap", rows)], None)
    line = evaluation.folds_many.row(0, named=True)
    assert math.isnan(line["fold1"]) and evaluation.rows["folds_many"]["fold1"] == 0
    assert evaluation.scores["kl_folds"][0] == pytest.approx((line["fold0"] + line["fold2"]) / 2, rel=1e-12)
    assert "2 folds" in as_text(evaluation)


# ---- what is shown


def test_text_says_what_each_number_is(runs):
    text = as_text(evaluate(runs, None))
    best = [line for line in text.splitlines() if line.startswith(("one (best", "other (best"))]
    assert len(best) == 2 * 3 + 1  # three tables, and the differences of one
    assert all("best epoch, chosen on the fold that scores it)" in line for line in best)
    assert "difference to one (last with last, best with best)" in text
    assert "folds 0, 1, 2 of 3" in text and "one for each vote vector of an EEG" in text
    assert "difference" not in as_text(evaluate(runs[:1], None))  # there is nothing to compare with


@pytest.mark.parametrize(("lean", "verdict"), [(0.0, "not told apart"), (-0.3, "worse"), (0.3, "better")])
def test_verdict_on_a_difference(tmp_path, lean, verdict):
    """The other run's predictions are the first one's, leaning to what was voted or away from it."""
    rows = make_rows(40, most=30)
    one, other = write_run(tmp_path / "one", rows), write_run(tmp_path / "other", rows)
    for file in other.glob("fold*/oof.parquet"):
        table = pl.read_parquet(file)
        leaning = table.select(LAST).to_numpy() * (table.select(VOTES).to_numpy() + 0.1) ** lean
        leaning /= leaning.sum(axis=1, keepdims=True)
        table.with_columns(pl.Series(c, leaning[:, k]) for k, c in enumerate(LAST)).write_parquet(file)
    lines = as_text(evaluate([one, other], None)).splitlines()
    last, best = lines[-2:]
    assert last.startswith("other (last epoch)") and last.endswith(f"  {verdict}")
    assert best.startswith("other (best epoch, chosen") and best.endswith("+0.0000 to +0.0000  not told apart")


def test_json_holds_the_same_numbers(runs, tmp_path, monkeypatch, capsys):
    file = tmp_path / "new" / "scores.json"
    monkeypatch.setattr("sys.argv", ["train", "evaluate", *map(str, runs), "--json", str(file)])
    assert commands.main() == 0
    evaluation, values = evaluate(runs, None), json.loads(file.read_text())
    assert capsys.readouterr().out == f"{as_text(evaluation)}\nwrote {file}\n"
    assert values == json.loads(json.dumps(as_values(evaluation)))
    assert pl.DataFrame(values["scores"]).equals(evaluation.scores)


def test_runs_of_one_name_are_told_apart(tmp_path):
    rows = make_rows()
    runs = [write_run(tmp_path / place / "same", rows, seed) for seed, place in enumerate("ab")]
    evaluation = evaluate(runs, None)
    assert evaluation.scores["what"].to_list()[:4:2] == [f"{run} (last epoch)" for run in runs]
    with pytest.raises(RunError, match="the same run: give it once"):
        evaluate([runs[0], runs[0].parent / ".." / "a" / "same"], None)


# ---- what is refused


def test_runs_that_do_not_fit_together(runs, tmp_path):
    rows = make_rows()
    lone = write_run(tmp_path / "lone", rows, finished=[0, 2])
    with pytest.raises(RunError, match=r"lone: its finished folds are 0, 2, those of .*one 0, 1, 2; .* one by one"):
        evaluate([runs[0], lone], None)
    votes = rows.with_columns(pl.col("lpd_vote") + (pl.col("label_id") == 4).cast(pl.Int64))
    with pytest.raises(RunError, match=r"votes: it was scored on other label rows than .*one"):
        evaluate([runs[0], write_run(tmp_path / "votes", votes)], None)
    windows = write_run(tmp_path / "windows", rows, labels="window")
    with pytest.raises(RunError, match=r"windows: its label rows are one for each window .* one for each vote vector"):
        evaluate([runs[0], windows], None)
    moved = write_run(tmp_path / "moved", rows.with_columns((pl.col("fold") + 1) % 3))
    with pytest.raises(RunError, match=r"moved: its label rows are in other folds than those of .*one"):
        evaluate([*runs, moved], None)


@pytest.mark.parametrize(
    ("column", "value", "said"), [("lpd_best", np.nan, "not a number"), ("gpd_last", 2.0, "above 1")]
)
def test_predictions_that_are_none(runs, column, value, said):
    file = runs[1] / "fold1/oof.parquet"
    pl.read_parquet(file).with_columns(pl.lit(value).alias(column)).write_parquet(file)
    with pytest.raises(RunError, match=f"other: predictions of the {column[4:]} epoch: .*{said}"):
        evaluate(runs, None)


def test_truth_of_something_else(runs, tmp_path):
    file = tmp_path / "truth.csv"
    with pytest.raises(RunError, match=r"truth\.csv: cannot be read"):
        evaluate(runs, file)
    file.write_text("label_id,lpd_vote\n1,1\n")
    with pytest.raises(RunError, match="no column seizure_vote, gpd_vote"):
        evaluate(runs, file)
    whole = pl.DataFrame({"label_id": oof_of(runs[0])["label_id"]}).with_columns(pl.lit(1 / 6).alias(v) for v in VOTES)
    for wrong in (whole[1:], pl.concat([whole, whole[:1]]), whole.with_columns(pl.lit("x").alias("label_id"))):
        wrong.write_csv(file)
        with pytest.raises(RunError, match=r"does not know every label row of .*one once"):
            evaluate(runs, file)
