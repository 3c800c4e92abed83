"""Folds: no patient in two, the published ones again, tables of them, and what is refused."""

import sys
import warnings

import numpy as np
import polars as pl
import pytest
import sklearn
from sklearn.model_selection import StratifiedGroupKFold

from common.schema import CONSENSUS, VOTES
from train.__main__ import main
from train.data.folds import FoldError, check_folds, fold_table, folds_from_table, make_folds, read_fold_table
from train.data.labels import OFFSETS, label_rows
from train.data.published_folds import published_folds


def patients_table(seed, n_patients=40, n_rows=400, classes=("LPD", "GPD", "Other")):
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, n_patients, n_rows)
    return pl.DataFrame({"patient_id": patient, "expert_consensus": rng.choice(classes, n_rows)})


# ---- made here


def test_folds_split_no_patient_and_are_deterministic():
    rows = patients_table(0)
    fold = make_folds(rows, 5)
    assert set(fold) == set(range(5)) and np.bincount(fold).min() > 40
    for patient in rows["patient_id"].unique():
        assert len(set(fold[(rows["patient_id"] == patient).to_numpy()])) == 1
    np.random.seed(1)  # scikit-learn's own source of chance
    np.testing.assert_array_equal(make_folds(rows, 5), fold)
    shares = [np.mean(rows["expert_consensus"].to_numpy()[fold == k] == "LPD") for k in range(5)]
    assert max(shares) - min(shares) < 0.08  # stratified


@pytest.mark.parametrize("make", [make_folds, published_folds])
def test_too_few_patients_and_split_patients_are_refused(make):
    with pytest.raises(FoldError, match=r"5 folds need as many patients, train\.csv has 4"):
        make(patients_table(0, n_patients=4), 5)
    with pytest.raises(FoldError, match="1 folds: at least 2"):
        make(patients_table(0), 1)
    check_folds(np.array([1, 1, 2]), np.array([0, 0, 1]))
    with pytest.raises(FoldError, match="patient 2 is in 2 folds"):
        check_folds(np.array([1, 2, 2]), np.array([0, 0, 1]))


# ---- the published ones


@pytest.mark.skipif(
    tuple(int(part) for part in sklearn.__version__.split(".")[:2]) >= (1, 8),
    reason="scikit-learn shuffles the patients along with their counts from 1.8 on",
)
@pytest.mark.parametrize("seed", range(4))
def test_published_folds_are_those_of_the_old_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    n_folds, n_patients = int(rng.integers(2, 7)), int(rng.integers(20, 90))
    patient = rng.permutation(5000)[(n_patients * rng.beta(0.6, 2, 700)).astype(int)]  # a few have most of the rows
    shares = rng.dirichlet(np.full(6, 0.5), n_patients)
    consensus = [rng.choice(CONSENSUS, p=shares[p % n_patients]) for p in patient]
    rows = pl.DataFrame({"patient_id": patient, "expert_consensus": consensus})
    expected = np.full(700, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a rare class has fewer rows than there are folds
        splits = StratifiedGroupKFold(n_folds, shuffle=True, random_state=42).split(patient, consensus, patient)
        for k, (_, held_out) in enumerate(splits):
            expected[held_out] = k
    np.testing.assert_array_equal(published_folds(rows, n_folds), expected)
    assert len(set(expected)) == n_folds


# Rows of LPD and of GPD that a patient has; and the fold that scikit-learn 1.6.1 gave.
SMALL = {11: (6, 0), 12: (0, 5), 13: (4, 1), 14: (1, 3), 15: (2, 2), 16: (1, 0), 17: (0, 3), 18: (5, 5)}
SMALL_FOLDS = {11: 1, 12: 1, 13: 0, 14: 1, 15: 2, 16: 2, 17: 2, 18: 0}


def test_published_folds_of_a_small_case():
    counted = [(p, name) for p, (lpd, gpd) in SMALL.items() for name in ["LPD"] * lpd + ["GPD"] * gpd]
    rows = pl.DataFrame(counted, schema=["patient_id", "expert_consensus"], orient="row")
    rows = rows.sample(fraction=1, shuffle=True, seed=0)  # in no order
    table = fold_table(rows.with_columns(fold=pl.Series(published_folds(rows, 3))))
    assert dict(table.iter_rows()) == SMALL_FOLDS


# ---- tables


def write(path, table):
    table.write_parquet(path) if path.suffix == ".parquet" else table.write_csv(path)
    return path


@pytest.mark.parametrize("name", ["folds.csv", "folds.parquet"])
def test_a_table_gives_back_the_folds_it_was_made_of(tmp_path, name):
    rows = patients_table(3)
    fold = make_folds(rows, 4)
    table = fold_table(rows.with_columns(fold=pl.Series(fold)))
    assert table["patient_id"].to_list() == sorted(set(rows["patient_id"])) and table.columns == ["patient_id", "fold"]
    read = read_fold_table(write(tmp_path / name, table.sample(fraction=1, shuffle=True, seed=0)))
    assert read.equals(table)
    np.testing.assert_array_equal(folds_from_table(rows, read), fold)
    more = pl.concat([read, pl.DataFrame({"patient_id": [999_999], "fold": [2]})])
    np.testing.assert_array_equal(folds_from_table(rows, more), fold)  # of a larger competition


def test_a_table_with_a_row_for_every_label_and_more_columns_is_read(tmp_path):
    text = "label_id,fold,patient_id\n1,1,70\n2,0,60\n3,1.0,70\n"  # pandas writes 1.0 where a value was missing once
    (tmp_path / "folds.csv").write_text(text)
    assert read_fold_table(tmp_path / "folds.csv").rows() == [(60, 0), (70, 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient_id,fold\n", "no rows"),
        ("patient,fold\n1,0\n", "no column patient_id; it has patient, fold"),
        ("patient_id,fold\n1,0\n2,1\n3,-1\n", r"patient_id 3, fold -1 in data row 3 \(1 such rows\)"),
        ("patient_id,fold\n1,0\n2,0.5\n", r"fold 0\.5 in data row 2"),
        ("patient_id,fold\n1,0\n2,two\n", "fold two in data row 2"),
        ("patient_id,fold\n1,0\n2,1\n2,0\n5,1\n", r"folds\.csv: patient 2 is in 2 folds \(1 such patients\)"),
        ("patient_id,fold\n1,0\n2,2\n", r"its folds are \[0, 2\]; expected 0 to 1"),
    ],
)
def test_unusable_tables_are_refused(tmp_path, text, message):
    (tmp_path / "folds.csv").write_text(text)
    with pytest.raises(FoldError, match=message):
        read_fold_table(tmp_path / "folds.csv")


def test_absent_and_damaged_tables(tmp_path):
    (tmp_path / "damaged.parquet").write_bytes(b"\x00\xff\x00" * 9)
    for name in ("absent.csv", "damaged.parquet"):
        with pytest.raises(FoldError, match=rf"{name}: cannot be read"):
            read_fold_table(tmp_path / name)


def test_tables_that_do_not_fit_the_label_rows_are_refused():
    rows = pl.DataFrame({"patient_id": [30, 10, 20, 10]})
    table = pl.DataFrame({"patient_id": [10, 20, 30], "fold": [0, 1, 2]})
    assert folds_from_table(rows, table).tolist() == [2, 0, 1, 0]
    with pytest.raises(FoldError, match=r"lacks 2 patients of train\.csv: 10, 30$"):
        folds_from_table(rows, table[1:2])
    with pytest.raises(FoldError, match="fold 1 of 0 to 2 got no rows"):
        folds_from_table(rows.filter(pl.col("patient_id") != 20), table)
    with pytest.raises(FoldError, match="patient 10 is in 2 folds"):
        fold_table(rows.with_columns(fold=pl.Series([0, 1, 1, 0])))


# ---- the command


def write_train_table(folder, n=60):
    rng = np.random.default_rng(5)
    table = pl.DataFrame({name: rng.permutation(n) for name in ("eeg_id", "spectrogram_id", "label_id")})
    votes = pl.DataFrame(rng.integers(1, 5, (n, 6)), schema=list(VOTES))
    zeros = pl.DataFrame(np.zeros((n, 2)), schema=list(OFFSETS))
    table = pl.concat([table, patients_table(5, 15, n), votes, zeros], how="horizontal")
    table.write_csv(folder / "train.csv")
    return folder


@pytest.mark.parametrize(("flag", "make"), [((), make_folds), (("--published",), published_folds)])
def test_the_command_writes_a_table_that_training_can_read(tmp_path, monkeypatch, capsys, flag, make):
    competition, out = write_train_table(tmp_path), tmp_path / "new" / "folds.csv"
    words = ["folds", "--competition", str(competition), "--out", str(out), "--folds", "3", *flag]
    monkeypatch.setattr(sys, "argv", ["train", *words])
    assert main() == 0
    rows = label_rows(competition)
    fold = make(rows, 3)
    np.testing.assert_array_equal(folds_from_table(rows, read_fold_table(out)), fold)
    assert [path.name for path in out.parent.iterdir()] == ["folds.csv"]
    said = capsys.readouterr().out.splitlines()
    for k in range(3):
        n_patients = rows.filter(pl.Series(fold == k))["patient_id"].n_unique()
        assert said[k] == f"fold {k}: {(fold == k).sum()} label rows, {n_patients} patients"
    assert said[3] == f"wrote {out}"
