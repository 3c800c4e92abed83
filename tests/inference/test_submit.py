"""test.csv to submission.csv on sound recordings, and what validate and score say of the result."""

import json
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest
from scipy.special import rel_entr

import infer.runner
import infer.submit
from common.blend import BlendError
from common.predict import find_devices
from common.schema import PATTERNS, SUBMISSION_COLUMNS, VOTES
from infer.report import write_report
from infer.submit import submit
from infer.test_table import CompetitionError
from infer.validate import SubmissionError, score, validate

HEADER = ",".join(SUBMISSION_COLUMNS) + "\n"


def answers(path):
    """eeg_id -> its six probabilities; a repeated id must have one answer."""
    found = {}
    for eeg_id, *values in pl.read_csv(path).iter_rows():
        assert found.setdefault(eeg_id, values) == values
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    for eeg_id in one:
        np.testing.assert_allclose(one[eeg_id], other[eeg_id], rtol=0, atol=1e-6)


def test_every_row_is_answered_in_order(road, plain):
    frame, expected = pl.read_csv(plain[0]), pl.read_csv(road.competition / "test.csv")
    assert tuple(frame.columns) == SUBMISSION_COLUMNS
    assert frame["eeg_id"].to_list() == expected["eeg_id"].to_list() and frame.height > 5
    np.testing.assert_allclose(frame.select(VOTES).to_numpy().sum(axis=1), 1, atol=1e-9)
    assert validate(plain[0], road.competition) == expected.height
    assert frame.select(VOTES).to_numpy().std(axis=0).max() > 0.01  # else no comparison of predictions could fail


def test_the_report(road, plain, tmp_path):
    report = plain[1]
    n = pl.read_csv(road.competition / "test.csv").height
    assert (report.rows, report.eegs, len(report.devices)) == (n, n, len(find_devices()[0]))
    assert report.models == {"tiny-image": {"weight": 0.6, "nets": 2}, "tiny-wave": {"weight": 0.4, "nets": 2}}
    assert not (report.dropped or report.fallbacks or report.rebuilt_spectrograms or report.repaired)
    means = pl.read_csv(plain[0]).select(VOTES).mean().row(0)
    assert list(report.class_means) == list(PATTERNS)
    np.testing.assert_allclose(list(report.class_means.values()), means, atol=1e-6)
    text = "\n".join(report.lines())
    write_report(tmp_path / "report.json", report)
    assert json.loads((tmp_path / "report.json").read_text()) == asdict(report)
    assert f"{n} rows, {n} EEGs" in text and "model tiny-wave: weight 0.400, 2 nets" in text and "fallbacks: 0" in text


def test_the_blend_is_the_weighted_mean_of_the_models(road, plain, tmp_path):
    mixed = 0.0
    for name, weight in road.blend.models.items():
        alone = road.blend.model_copy(update={"models": {name: 1.0}})
        submit(road.competition, [road.weights / f"hms-{name}"], alone, tmp_path / "alone.csv")
        mixed = mixed + weight * pl.read_csv(tmp_path / "alone.csv").select(VOTES).to_numpy()
    np.testing.assert_allclose(pl.read_csv(plain[0]).select(VOTES).to_numpy(), mixed, atol=1e-7)


def test_repeated_ids_are_computed_once(road, plain, competition, tmp_path, monkeypatch):
    table = pl.read_csv(competition / "test.csv")
    # A local re-split repeats an EEG with another spectrogram; the first row's is taken.
    again = table[:3].with_columns(spectrogram_id=pl.lit(table["spectrogram_id"][-1], pl.Int64))
    pl.concat([table, again, table[:2]]).write_csv(competition / "test.csv")
    read, calls = infer.submit.read_row, []
    monkeypatch.setattr(infer.submit, "read_row", lambda *given: calls.append(given[1]) or read(*given))
    report = submit(competition, road.datasets, road.blend, tmp_path / "out.csv")
    assert sorted(calls) == sorted(table["eeg_id"])
    assert (report.rows, report.eegs) == (table.height + 5, table.height)
    assert validate(tmp_path / "out.csv", competition) == table.height + 5
    assert_same(answers(tmp_path / "out.csv"), answers(plain[0]))


@pytest.mark.parametrize("batch_size", [1, 100])
def test_batch_size_and_row_order_do_not_matter(road, plain, competition, tmp_path, monkeypatch, batch_size):
    monkeypatch.setattr(infer.runner, "BATCH_SIZE", batch_size)
    pl.read_csv(competition / "test.csv").sample(fraction=1, shuffle=True, seed=1).write_csv(competition / "test.csv")
    submit(competition, road.datasets, road.blend, tmp_path / "out.csv")
    assert pl.read_csv(tmp_path / "out.csv")["eeg_id"].to_list() != pl.read_csv(plain[0])["eeg_id"].to_list()
    assert_same(answers(tmp_path / "out.csv"), answers(plain[0]))


@pytest.mark.parametrize("content", ["spectrogram_id,eeg_id,patient_id\n", ""])
def test_no_rows_make_a_header_only_submission(road, competition, tmp_path, content):
    (competition / "test.csv").write_text(content)
    report = submit(competition, road.datasets, road.blend, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == HEADER
    assert (report.rows, report.eegs, report.class_means) == (0, 0, {})
    if content:
        assert validate(tmp_path / "out.csv", competition) == 0


def test_no_test_table_is_refused(road, tmp_path):
    with pytest.raises(CompetitionError, match=r"test\.csv: no such file"):
        submit(tmp_path, road.datasets, road.blend, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def blend_of(road, **models):
    return road.blend.model_copy(update={"models": {name.replace("_", "-"): w for name, w in models.items()}})


def test_a_missing_model(road, tmp_path):
    """The blend wants two, one is given: strict stops, the hidden re-run goes on with the other."""
    image, out = road.datasets[0], tmp_path / "out.csv"
    with pytest.raises(BlendError, match="wants tiny-wave, its weights were not given"):
        submit(road.competition, [image], road.blend, out)
    assert not out.exists()
    report = submit(road.competition, [image], road.blend, out, forgiving=True)
    assert report.models == {"tiny-image": {"weight": 1.0, "nets": 2}}
    assert len(report.dropped) == 1 and "tiny-wave" in report.dropped[0]
    submit(road.competition, [image], blend_of(road, tiny_image=1.0), tmp_path / "alone.csv")
    assert out.read_bytes() == (tmp_path / "alone.csv").read_bytes()


def test_no_model_of_the_blend_at_all(road, tmp_path):
    foreign, out = blend_of(road, other_model=1.0), tmp_path / "out.csv"
    with pytest.raises(BlendError, match="other-model"):
        submit(road.competition, road.datasets, foreign, out)
    report = submit(road.competition, road.datasets, foreign, out, forgiving=True)
    np.testing.assert_allclose(list(answers(out).values()), np.tile(road.blend.prior, (report.eegs, 1)), atol=1e-9)
    assert {(entry["answer"], entry["why"]) for entry in report.fallbacks} == {("prior", "no model left")}
    assert len(report.fallbacks) == report.eegs and "other-model" in report.dropped[0]


def test_the_score_is_the_metric_computed_another_way(road, plain, tmp_path):
    truth = road.competition / "truth" / "solution.csv"
    solution = pl.read_csv(truth)
    target, predicted = solution.select(VOTES).to_numpy(), pl.read_csv(plain[0]).select(VOTES).to_numpy()
    assert solution["eeg_id"].to_list() == pl.read_csv(plain[0])["eeg_id"].to_list()
    kl, rows = score(plain[0], truth)
    assert rows == solution.height
    assert kl == pytest.approx(rel_entr(target, predicted).sum(axis=1).mean(), abs=1e-12) and kl > 0.1
    pl.read_csv(plain[0]).reverse().write_csv(tmp_path / "reversed.csv")  # rows are matched by id
    assert score(tmp_path / "reversed.csv", truth)[0] == pytest.approx(kl, abs=1e-12)


def first_row(**votes):
    """Puts these values into the first row."""

    def change(frame):
        return pl.concat([frame[:1].with_columns(pl.lit(v, pl.Float64).alias(k) for k, v in votes.items()), frame[1:]])

    return change


REFUSED = {
    "not a number": (first_row(lpd_vote=float("nan")), "1 rows hold a value that is not a number, first row 0"),
    "infinite": (first_row(lpd_vote=float("inf")), "1 rows hold a value that is not a number"),
    "above 1": (first_row(lpd_vote=1.25), "1 rows hold a value below 0 or above 1"),
    "negative": (first_row(lpd_vote=-0.25), "1 rows hold a value below 0 or above 1, first row 0"),
    "sums to 0.99": (
        lambda frame: pl.concat([frame[:1].with_columns(pl.col(VOTES) * 0.99), frame[1:]]),
        "1 rows do not sum to 1, first row 0 sums to 0.990000",
    ),
    "missing id": (lambda frame: frame[1:], "1 rows missing: eeg_id"),
    "extra id": (
        lambda frame: pl.concat([frame, frame[:1].with_columns(eeg_id=pl.lit(7, pl.Int64))]),
        "1 rows too many or unknown: eeg_id 7",
    ),
    "missing column": (lambda frame: frame.drop("grda_vote"), "no column grda_vote; it has eeg_id"),
    "text": (
        lambda frame: frame.with_columns(seizure_vote=pl.lit("much")),
        "rows hold a value that is not a number, first row 0",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_validate_refuses(road, plain, tmp_path, fault):
    change, reason = REFUSED[fault]
    change(pl.read_csv(plain[0])).write_csv(tmp_path / "bad.csv")
    with pytest.raises(SubmissionError) as refusal:
        validate(tmp_path / "bad.csv", road.competition)
    assert reason in str(refusal.value) and "bad.csv" in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe"])
def test_validate_refuses_what_is_no_csv(road, tmp_path, content):
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(SubmissionError, match=r"bad\.csv: (not a readable csv|no column eeg_id)"):
        validate(tmp_path / "bad.csv", road.competition)
