"""The numbers on the page, against the same worked out by hand with other libraries."""

import numpy as np
import pandas as pd
import pytest
from report_samples import body_rows, kl_of, make_runs, oof_of_run, section, train, votes_of, words_of
from run_samples import LAST
from sklearn.metrics import confusion_matrix

from common.blend import load_blend
from train.report.charts import Axis
from train.report.load import load_report_data
from train.report.numbers import worst_and_best

PATTERNS = ["seizure", "lpd", "gpd", "lrda", "grda", "other"]
SHOWN = ["Seizure", "LPD", "GPD", "LRDA", "GRDA", "Other"]


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A page of two runs and their blend, and the blend's rows with the columns kl, prior and six probabilities."""
    folder = tmp_path_factory.mktemp("reported")
    runs, blend, out = make_runs(folder), folder / "blend.json", folder / "report.html"
    assert train("blend", *runs, "--out", blend) == 0
    assert train("report", *runs, blend, "--out", out) == 0
    assert load_blend(blend).chosen == "mean"  # the truth, as these runs are made
    tables = [oof_of_run(run) for run in runs]
    table = tables[0].drop(columns=[c for c in tables[0] if c.endswith(("_last", "_best"))])
    table[PATTERNS] = np.mean([each[LAST].to_numpy() for each in tables], axis=0)
    votes = votes_of(table)
    table["n"], table["consensus"] = votes.sum(axis=1), votes.argmax(axis=1)
    table["kl"] = kl_of(votes, table[PATTERNS].to_numpy())
    prior = np.empty_like(votes)
    for fold in range(3):
        others = (table["n"] >= 10) & (table["fold"] != fold)
        prior[table["fold"] == fold] = (votes[others] / votes[others].sum(axis=1, keepdims=True)).mean(axis=0)
    table["prior"] = kl_of(votes, prior)
    return out.read_text(), table, runs, blend


def test_headline_classes_votes_and_folds(reported):
    page, table, *_ = reported
    many = table[table["n"] >= 10]
    assert f'<div class="figure">{many["kl"].mean():.3f}</div>' in page
    lines = {line[0]: line for line in body_rows(section(page, "top"))}
    assert lines["blend (mean)"][1] == f"{many['kl'].mean():.3f}"
    assert lines["class prior"][1] == f"{many['prior'].mean():.3f}"
    single = table.sort_values(["eeg_id", "n", "label_id"], ascending=[True, False, True]).groupby("eeg_id").head(1)
    assert lines["blend (mean)"][4] == f"{single[single['n'] >= 10]['kl'].mean():.3f}"
    parts = {line[0]: line for line in body_rows(section(page, "classes"))}
    for k, name in enumerate(SHOWN):
        here = many[many["consensus"] == k]
        wanted = [len(here), here["patient_id"].nunique(), f"{here['kl'].mean():.3f}", f"{here['prior'].mean():.3f}"]
        assert [parts[name][i] for i in (1, 2, 3, 6)] == list(map(str, wanted))
    bins = pd.cut(table["n"], [0, 4, 9, 12, 15, 19, 99])
    for label, (_, here) in zip(
        ("1 to 4", "5 to 9", "10 to 12", "13 to 15"), table.groupby(bins, observed=True), strict=False
    ):
        assert parts[label][1] == str(len(here)) and parts[label][3] == f"{here['kl'].mean():.3f}"
    for fold, here in many.groupby("fold"):
        assert parts[f"Fold {fold}"][3] == f"{here['kl'].mean():.3f}"


def test_intervals_are_those_of_resampled_patients(reported):
    """Another generator and another way to draw: patients one by one, with their rows."""
    page, table, runs, _ = reported
    many = table[table["n"] >= 10]
    sums = many.groupby("patient_id")["kl"].agg(["sum", "size"]).to_numpy()
    drawn = np.random.default_rng(7).integers(len(sums), size=(4000, len(sums)))
    low, high = np.percentile(sums[drawn, 0].sum(axis=1) / sums[drawn, 1].sum(axis=1), (2.5, 97.5))
    line = next(line for line in body_rows(section(page, "top")) if line[0] == "blend (mean)")
    shown = [float(bound) for bound in line[2].split(" to ")]
    assert np.allclose(shown, (low, high), atol=0.1 * (high - low))
    other = kl_of(votes_of(table), oof_of_run(runs[1])[LAST].to_numpy())
    table = table.assign(gap=other - table["kl"])
    line = next(line for line in body_rows(section(page, "differences")) if line[0] == "other-run")
    assert line[1] == f"{table[table['n'] >= 10]['gap'].mean():+.4f}"
    assert line[4] == "worse"  # one model is far from the mean of two that are wrong in different ways


def test_confusion_is_scikit_learns(reported):
    page, table, *_ = reported
    many = table[table["n"] >= 10]
    counts = confusion_matrix(many["consensus"], many[PATTERNS].to_numpy().argmax(axis=1), labels=range(6))
    lines = {line[0]: line[1:] for line in body_rows(section(page, "confusion"))}
    for name, row in zip(SHOWN, counts, strict=True):
        wanted = [f"{100 * n / row.sum():.0f} % {n}" if n else "0" for n in row]
        assert lines[name] == [*wanted, str(row.sum())]


def test_calibration_errors_and_patients(reported):
    page, table, *_ = reported
    many = table[table["n"] >= 10]
    shares = votes_of(many) / votes_of(many).sum(axis=1, keepdims=True)
    said = words_of(section(page, "reliability"))
    for k, (name, pattern) in enumerate(zip(SHOWN, PATTERNS, strict=True)):
        part = pd.DataFrame({"p": many[pattern].to_numpy(), "q": shares[:, k]})
        means = part.groupby(pd.cut(part["p"], np.linspace(0, 1, 11), right=False), observed=True).agg(["mean", "size"])
        error = np.average((means["p"]["mean"] - means["q"]["mean"]).abs(), weights=means["p"]["size"])
        assert f"{name} · ECE {error:.3f}" in said
    patients = many.groupby("patient_id")["kl"].mean().sort_values(ascending=False)
    lines = [line for line in body_rows(section(page, "patients")) if line[0].isdigit()]
    assert [line[3] for line in lines] == [f"{kl:.3f}" for kl in patients[: len(lines)]] and len(lines) == 8
    worse = (patients > many.groupby("patient_id")["prior"].mean().loc[patients.index]).sum()
    assert f"for {worse} the prior would have been" in words_of(section(page, "patients"))


def test_worst_and_best_recordings(reported):
    page, table, runs, blend = reported
    data = load_report_data([*runs, blend], None)
    single = table.sort_values(["eeg_id", "n", "label_id"], ascending=[True, False, True]).groupby("eeg_id").head(1)
    ranked = single[single["n"] >= 10].sort_values("kl", ascending=False)
    assert len(ranked) > 8
    worst, best = worst_and_best(data, data.headline(), 4)
    assert data.rows[worst.tolist()]["label_id"].to_list() == ranked["label_id"].tolist()[:4]
    assert data.rows[best.tolist()]["label_id"].to_list() == ranked["label_id"].tolist()[::-1][:4]
    few = [rows.tolist() for rows in worst_and_best(data, data.headline(), 10_000)]
    assert sorted(few[0] + few[1]) == sorted(set(few[0] + few[1])) and len(few[0] + few[1]) == len(ranked)
    shown = words_of(section(page, "recordings"))
    assert f"KL {ranked['kl'].iloc[0]:.2f} EEG {ranked['eeg_id'].iloc[0]} · patient" in shown


@pytest.mark.parametrize("values", [[0.132, 1.43], [1.0, 1.0], [-0.5, 0.2], [], [float("nan"), 2]])
def test_scales_hold_their_values_between_even_ticks(values):
    axis = Axis.around(values)
    steps = np.diff(axis.ticks)
    assert len(steps) >= 1 and np.allclose(steps, steps[0]) and 1 <= len(steps) <= 12
    assert axis.ticks[0] == axis.low < axis.high == axis.ticks[-1]
    known = [value for value in values if value == value]
    assert all(axis.low - 1e-12 <= value <= axis.high + 1e-12 for value in known)
    assert axis.at(axis.low) == 0 and axis.at(axis.high) == 1
