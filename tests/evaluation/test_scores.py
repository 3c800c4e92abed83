"""The metric by hand, and submissions validated and scored."""

import numpy as np
import pytest
from blend_samples import UNIFORM, dirichlet
from scipy.special import rel_entr

from common.metric import kl_divergence, refusals, vote_shares
from common.schema import VOTES
from infer.validate import SubmissionError, score, validate

# ---- metric


def test_kl_by_hand():
    halves, quarter = [0.5, 0.5, 0, 0, 0, 0], [0.25, 0.25, 0.5, 0, 0, 0]
    kl = kl_divergence([halves, halves, halves, [1, 0, 0, 0, 0, 0]], [halves, quarter, UNIFORM, [0, 1, 0, 0, 0, 0]])
    # ln 2; ln 3; and a certain error, clipped to 1e-15
    np.testing.assert_allclose(kl, [0, np.log(2), np.log(3), 15 * np.log(10)], atol=1e-12)
    certain = kl_divergence([[1, 0, 0, 0, 0, 0]], [[1, 0, 0, 0, 0, 0]])
    assert 0 < certain[0] < 2e-15  # 1 is clipped to 1 - 1e-15


def test_kl_equals_scipy():
    target, prediction = dirichlet(0, 200), dirichlet(1, 200)
    target[:50, 2] = 0
    target /= target.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(kl_divergence(target, prediction), rel_entr(target, prediction).sum(axis=1), rtol=1e-9)


def test_vote_shares():
    np.testing.assert_array_equal(vote_shares([[3, 0, 0, 0, 0, 1]]), [[0.75, 0, 0, 0, 0, 0.25]])
    with pytest.raises(ValueError, match="row 1 has no votes"):
        vote_shares([[1, 0, 0, 0, 0, 0], [0] * 6])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([np.nan, 0, 0, 0, 0, 1], "1 rows hold a value that is not a number, first row 1"),
        ([-0.01, 0.01, 0, 0, 0, 1], "below 0 or above 1, first row 1"),
        ([1.01, 0, 0, 0, 0, 0], "below 0 or above 1, first row 1"),
        ([0.99, 0, 0, 0, 0, 0], "1 rows do not sum to 1, first row 1 sums to 0.990000"),
    ],
)
def test_refusals_name_the_row(row, reason):
    assert any(reason in said for said in refusals([UNIFORM, row]))


def test_sound_rows_are_not_refused():
    assert refusals([UNIFORM, [1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 9e-6]]) == []
    assert refusals(dirichlet(2, 300).astype(np.float16).astype(float)) != []


# ---- submissions


def submission(tmp_path, rows, name="submission.csv", head=("eeg_id", *VOTES)):
    lines = [",".join(head), *(",".join(str(value) for value in row) for row in rows)]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path / name


def test_score_by_hand_with_repeated_and_shuffled_ids(tmp_path):
    other, halves = (0, 0, 1, 0, 0, 0), (0.5, 0.5, 0, 0, 0, 0)
    ours = submission(tmp_path, [(9, *halves), (4, *UNIFORM), (9, *UNIFORM)])
    truth = submission(tmp_path, [(4, 3, 3, 0, 0, 0, 0), (9, 4, 0, 0, 0, 0, 0), (9, *other)], "solution.csv")
    kl, rows = score(ours, truth)
    assert rows == 3 and kl == pytest.approx((np.log(3) + np.log(2) + np.log(6)) / 3)


@pytest.mark.parametrize(
    ("rows", "head", "reason"),
    [
        ([(1, *UNIFORM)], None, "1 rows missing: eeg_id 2"),
        ([(1, *UNIFORM), (2, *UNIFORM), (2, *UNIFORM)], None, "1 rows too many or unknown: eeg_id 2"),
        ([(1, *UNIFORM), (2, "x", 1, 0, 0, 0, 0)], None, "not a number"),
        ([(1, *UNIFORM), (2, 0.99, 0, 0, 0, 0, 0)], None, "do not sum to 1"),
        ([(1, *UNIFORM), (2, *UNIFORM)], ("eeg_id", *VOTES[:5], "others_vote"), "no column other_vote"),
        ([(1, *UNIFORM), (2, *UNIFORM)], ("eeg_id", *VOTES[1:], VOTES[0]), "columns are eeg_id, lpd_vote"),
    ],
)
def test_wrong_submission_is_refused(tmp_path, rows, head, reason):
    (tmp_path / "test.csv").write_text("spectrogram_id,eeg_id,patient_id\n5,1,7\n6,2,7\n")
    with pytest.raises(SubmissionError, match=reason):
        validate(submission(tmp_path, rows, head=head or ("eeg_id", *VOTES)), tmp_path)
    assert validate(submission(tmp_path, [(2, *UNIFORM), (1, *UNIFORM)]), tmp_path) == 2


def test_score_refuses_other_ids_and_rows_without_votes(tmp_path):
    ours = submission(tmp_path, [(1, *UNIFORM)])
    with pytest.raises(SubmissionError, match="missing: eeg_id 2"):
        score(ours, submission(tmp_path, [(2, 1, 0, 0, 0, 0, 0)], "solution.csv"))
    with pytest.raises(SubmissionError, match="row without votes"):
        score(ours, submission(tmp_path, [(1, 0, 0, 0, 0, 0, 0)], "solution.csv"))
