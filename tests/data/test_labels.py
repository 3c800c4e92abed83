"""Label rows, the rules of train.csv, and which rows a stage wants."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from store_stage import HEAD

from common.schema import MANY_VOTES, VOTES
from train.data.labels import (
    LABEL_COLUMNS,
    ROW_KEYS,
    LabelError,
    find_violations,
    label_rows,
    prior_shares,
    select_rows,
    vote_totals,
)
from train.data.row_selection import RowSelection

REAL_VOTES = Path(__file__).resolve().parents[3] / "shared" / "data" / "iiic" / "votes.parquet"

# ---- label rows


def train_table(tmp_path, *lines, head=HEAD):
    (tmp_path / "train.csv").write_text("\n".join([head, *lines]) + "\n")
    return tmp_path


def test_label_rows_by_hand(tmp_path):
    rows = label_rows(
        train_table(
            tmp_path,
            "7,0,70,4,901,3,Seizure,10,0,0,0,0,2",
            "5,0,50,0,903,1,LPD,0,3,0,0,0,1",
            "5,2,50,2,902,1,LPD,0,3,0,0,0,1",
            "5,9,50,9,904,1,LPD,0,3,0,0,0,1",
            "5,13,50,17,905,1,Other,0,1,0,0,0,3",
            "7,2,70,6,906,3,Seizure,9,0,0,0,0,1",
        )
    )
    assert rows["eeg_id"].to_list() == [5, 5, 7, 7]
    assert rows.select(VOTES).rows() == [  # in the order of the numbers, not of their spelling
        (0, 1, 0, 0, 0, 3),
        (0, 3, 0, 0, 0, 1),
        (9, 0, 0, 0, 0, 1),
        (10, 0, 0, 0, 0, 2),
    ]
    assert rows["label_id"].to_list() == [905, 903, 906, 901]  # the first of each group in the file
    assert rows["total_votes"].to_list() == [4, 4, 10, 12]
    assert rows["eeg_start"].to_list() == [2600, 400, 400, 0]  # of the windows at 0, 2 and 9 s the one nearest to 4.5
    assert rows["spectrogram_start"].to_list() == [8, 1, 3, 2]  # the window's own: 17, 2, 6 and 4 s
    assert rows["eeg_starts"].to_list() == [[2600], [0, 400, 1800], [400], [0]]
    assert rows["spectrogram_starts"].to_list() == [[8], [0, 1, 4], [3], [2]]
    assert rows["expert_consensus"].to_list() == ["Other", "LPD", "Seizure", "Seizure"]


GOOD = "7,0,70,4,901,3,Seizure,10,0,0,0,0,2"


@pytest.mark.parametrize(
    ("line", "head", "message"),
    [
        (GOOD, HEAD.replace("patient_id", "subject"), "no column patient_id; it has eeg_id"),
        (GOOD.replace("10,0", "0,0")[:-1] + "0", HEAD, "1 rows without votes: 901; fix"),
        (GOOD.replace("10,0", "-1,0"), HEAD, "1 rows with votes that are negative, not whole or empty: 901"),
        (GOOD.replace("10,0", ",0"), HEAD, "negative, not whole or empty"),
        (GOOD.replace("10,0", "1.5,0"), HEAD, "negative, not whole or empty"),
        (GOOD.replace("70,4", "70,"), HEAD, "1 rows whose ids or offsets are no numbers: 901"),
        (GOOD.replace("901,3", ",3"), HEAD, "1 rows whose ids or offsets are no numbers: row 2"),
        (GOOD.replace("Seizure", "seizure"), HEAD, "1 rows whose consensus is none of Seizure, LPD.*: 901"),
        (GOOD.replace("901", "900"), HEAD, "1 label_ids that stand in several rows: 900"),
        (GOOD.replace("901,3", "902,4"), HEAD, "1 eeg_ids under several patients: 7; it could be trained on and held"),
        (GOOD.replace("7,0", "8,0").replace("901,3", "902,4"), HEAD, "1 spectrogram_ids under several patients: 70"),
    ],
)
def test_unusable_train_table_is_refused(tmp_path, line, head, message):
    with pytest.raises(LabelError, match=message):
        label_rows(train_table(tmp_path, GOOD.replace("901", "900"), line, head=head))


def test_all_broken_rules_are_found_at_once():
    table = pl.DataFrame(
        {name: [1, 1, 3] for name in LABEL_COLUMNS}
        | {"label_id": [5, 5, None], "patient_id": [1, 2, 3], "expert_consensus": ["LPD", "lpd", "Other"]}
        | {"other_vote": [1.0, 0.5, 1.0]}
    )
    found = {violation.check: (violation.cases, violation.rows.tolist()) for violation in find_violations(table)}
    assert found == {
        "label-number": (("row 3",), [2]),
        "vote-number": (("5",), [1]),
        "consensus-name": (("5",), [1]),
        "label-twice": (("5",), []),
        "eeg-patients": (("1",), []),
        "spectrogram-patients": (("1",), []),
    }


def test_absent_and_empty_train_table(tmp_path):
    with pytest.raises(LabelError, match=r"train\.csv: cannot be read"):
        label_rows(tmp_path)
    with pytest.raises(LabelError, match="no rows"):
        label_rows(train_table(tmp_path))


# ---- one row per EEG, one per window

EEGS = (
    "7,0,70,4,901,3,Seizure,10,0,0,0,0,2",
    "5,0,50,0,903,1,LPD,0,3,0,0,0,1",
    "5,2,50,2,902,1,LPD,0,3,0,0,0,1",
    "5,9,50,9,904,1,LPD,0,3,0,0,0,1",
    "5,13,50,17,905,1,Other,0,1,0,0,0,4",
    "7,2,70,6,906,3,LPD,9,0,0,0,0,1",
)


def test_the_middle_is_half_way_between_the_first_and_the_last_window(tmp_path):
    competition = train_table(tmp_path, *EEGS)
    rows = label_rows(competition, "votes", "middle")
    assert rows["eeg_start"].to_list() == [2600, 900, 400, 0]  # of EEG 5 the windows at 0, 2 and 9 s: 200 (0 + 9) / 2
    assert rows["spectrogram_start"].to_list() == [8, 2, 3, 2]  # (17 + 17) // 4, (0 + 9) // 4, 12 // 4, 8 // 4
    rows = label_rows(competition, "eeg", "middle")
    assert rows["eeg_start"].to_list() == [1300, 200]  # 200 (0 + 13) / 2, 200 (0 + 2) / 2
    assert rows["spectrogram_start"].to_list() == [4, 2]  # (0 + 17) // 4, (4 + 6) // 4


def test_stretches_are_windows_in_a_row_with_equal_votes(tmp_path):
    lines = [f"5,{second},50,{second},{label},1,LPD,0,{votes},0,0,0,1" for label, second, votes in
             ((1, 0, 3), (2, 4, 3), (3, 8, 2), (4, 12, 3), (5, 16, 3))]  # fmt: skip
    rows = label_rows(train_table(tmp_path, *lines, "6,0,60,0,6,2,LPD,0,3,0,0,0,1"))
    assert rows["eeg_starts"].to_list() == [[1600], [0, 800, 2400, 3200], [0]]
    second, (first, same, third, fourth), other = rows["stretches"].to_list()
    assert first == same and third == fourth and len({first, *second, third, *other}) == 4
    assert rows["eeg_start"].to_list() == [1600, 800, 0]  # 4 s and 12 s are as near to the middle: the earlier one


def test_rows_of_whole_eegs_by_hand(tmp_path):
    rows = label_rows(train_table(tmp_path, *EEGS), "eeg")
    assert rows["eeg_id"].to_list() == [5, 7]
    # EEG 5: 10 of its 17 votes are LPD, 7 other; its largest panel has 5. EEG 7: 19 and 3 of 22, the largest has 12.
    assert rows["total_votes"].to_list() == [5, 12]
    expected = [[0, 5 * 10 / 17, 0, 0, 0, 5 * 7 / 17], [12 * 19 / 22, 0, 0, 0, 0, 12 * 3 / 22]]
    np.testing.assert_allclose(rows.select(VOTES).to_numpy(), expected, rtol=1e-12)
    assert rows["label_id"].to_list() == [903, 901]
    assert rows["expert_consensus"].to_list() == ["LPD", "Seizure"]
    assert rows["patient_id"].to_list() == [1, 3] and rows["spectrogram_id"].to_list() == [50, 70]
    assert rows["eeg_start"].to_list() == [1800, 0]  # of 0, 2, 9 and 13 s the nearest to 6.5; of 0 and 2 the earlier
    assert rows["spectrogram_start"].to_list() == [4, 2]
    assert rows["eeg_starts"].to_list() == [[0, 400, 1800, 2600], [0, 400]]


def test_rows_of_windows_are_those_of_the_table(tmp_path):
    competition = train_table(tmp_path, *EEGS)
    rows = label_rows(competition, "window")
    assert rows["label_id"].to_list() == [903, 902, 904, 905, 901, 906]  # by EEG and time
    assert rows["eeg_start"].to_list() == [0, 400, 1800, 2600, 0, 400]
    assert rows["spectrogram_start"].to_list() == [0, 1, 4, 8, 2, 3]
    table = pl.read_csv(competition / "train.csv")
    same = rows.select("label_id", "eeg_id", *VOTES).sort("label_id")
    assert same.equals(table.select("label_id", "eeg_id", *VOTES).sort("label_id"))


@pytest.mark.parametrize("labels", ROW_KEYS)
def test_all_kinds_of_rows_have_the_same_columns_and_one_order(tmp_path, labels):
    rows = label_rows(train_table(tmp_path, *EEGS), labels)
    schema = label_rows(tmp_path).schema
    assert list(rows.schema) == list(schema)
    differing = {name for name in schema if rows.schema[name] != schema[name]}
    assert differing == (set(VOTES) if labels == "eeg" else set())
    assert rows.schema["eeg_starts"] == pl.List(pl.Int64) and rows["label_id"].is_unique().all()
    np.testing.assert_array_equal(vote_totals(rows.select(VOTES).to_numpy()), rows["total_votes"])
    keys = [name for name in rows.columns if name not in ("label_id", "expert_consensus")]
    moved = train_table(tmp_path, *reversed(EEGS))  # the file's order decides only which window names a row
    assert label_rows(moved, labels).select(keys).equals(rows.select(keys))


# ---- rows of a stage

# N12 of the seed repository trains first on the rows with less than 4 votes and the divided ones with 4.
FIRST, SECOND = RowSelection(max_votes=4, at_max="divided"), RowSelection(min_votes=4, at_min="unanimous")


def test_selection_by_hand():
    votes = np.array(
        [[1, 0, 0, 0, 0, 0], [0, 1, 2, 0, 0, 0], [0, 4, 0, 0, 0, 0], [0, 3, 1, 0, 0, 0], [0, 0, 0, 0, 5, 5]]
    )
    for selection, chosen in (
        (RowSelection(), [0, 1, 2, 3, 4]),
        (RowSelection(min_votes=3, max_votes=4), [1, 2, 3]),
        (FIRST, [0, 1, 3]),
        (SECOND, [2, 4]),
        (RowSelection(min_votes=10), [4]),
        (RowSelection(min_votes=10, at_min="unanimous"), []),
        (RowSelection(min_votes=1, max_votes=10, at_max="divided"), [0, 1, 2, 3, 4]),
    ):
        assert np.flatnonzero(select_rows(votes, selection)).tolist() == chosen, selection


@pytest.mark.parametrize("kind", ["counts", "rounded"])
def test_published_stages_divide_the_rows(kind):
    rng = np.random.default_rng(0)
    votes = rng.multinomial(rng.integers(1, 29, 4000), rng.dirichlet(np.full(6, 0.3), 4000))
    totals, agreed = votes.sum(axis=1), votes.max(axis=1) == votes.sum(axis=1)
    if kind == "rounded":  # as rows of whole EEGs are
        votes = votes / totals[:, None] / 3 * 3 * totals[:, None] * (1 + rng.choice([-1, 1], (4000, 1)) * 1e-12)
    first, second = select_rows(votes, FIRST), select_rows(votes, SECOND)
    np.testing.assert_array_equal(first, (totals < 4) | ((totals == 4) & ~agreed))
    np.testing.assert_array_equal(second, (totals > 4) | ((totals == 4) & agreed))
    assert (first ^ second).all() and (first & (totals == 4)).any() and (second & (totals == 4)).any()


def test_prior_counts_rows_whose_votes_carry_rounding_errors():
    votes = np.array([[10 * (1 - 1e-12), 0, 0, 0, 0, 0], [0, 3, 0, 0, 0, 0]])
    np.testing.assert_allclose(prior_shares(votes, 10), [1, 0, 0, 0, 0, 0])


@pytest.mark.skipif(not REAL_VOTES.is_file(), reason="no real votes beside the project")
def test_stages_of_real_votes():
    votes = pl.read_parquet(REAL_VOTES).select(pl.col(VOTES).cast(pl.Int64)).to_numpy()
    totals = votes.sum(axis=1)
    first, second = select_rows(votes, FIRST), select_rows(votes, SECOND)
    assert (first ^ second).all()
    # 1 to 7 experts, or a panel of 10 and more: nobody is between, and many votes are many votes
    np.testing.assert_array_equal(select_rows(votes, RowSelection(min_votes=8)), totals >= MANY_VOTES)
