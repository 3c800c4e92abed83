"""Out-of-fold files: rows matched by id, and what is refused, by name."""

import hashlib
import re
import subprocess

import numpy as np
import polars as pl
import pytest
from blend_samples import PATTERNS, dirichlet
from run_samples import make_rows, write_run

from common.schema import VOTES
from train.blend.out_of_fold import BlendInputError, read_out_of_fold
from train.provenance import kit_commit


def table(seed=0):
    votes = np.random.default_rng(1).multinomial(12, np.full(6, 1 / 6), 8)
    keys = {"label_id": range(8), "eeg_id": range(8), "patient_id": [0, 0, 1, 1, 2, 2, 3, 3], "fold": [0] * 4 + [1] * 4}
    values = dict(zip(VOTES, votes.T, strict=True)) | dict(zip(PATTERNS, dirichlet(seed, 8).T, strict=True))
    return pl.DataFrame(keys | values)


def labels():
    """As others keep them: shares of votes, ids of their own, no patients."""
    shares = [(pl.col(vote) / 12).cast(pl.Float64) for vote in VOTES]
    return table().select(pl.col("eeg_id"), pl.col("label_id").alias("eeg_sub_id"), "fold", *shares)


def imported(seed, names=VOTES):
    values = dict(zip(names, dirichlet(seed, 8).astype(np.float32).T, strict=True))
    return pl.DataFrame({"eeg_id": range(8), "eeg_sub_id": range(8)} | values)


def read(tmp_path, *tables, group=None, labels=None):
    for k, one in enumerate(tables):
        one.write_parquet(tmp_path / f"model{k}.parquet")
    if labels is not None:
        labels.write_parquet(tmp_path / "truth.parquet")
        labels = tmp_path / "truth.parquet"
    return read_out_of_fold([tmp_path / f"model{k}.parquet" for k in range(len(tables))], labels, group)


def test_rows_are_matched_by_id(tmp_path):
    oof = read(tmp_path, table(0), table(1).reverse())
    assert oof.names == ("model0", "model1") and oof.group_name == "patient_id" and oof.counted
    np.testing.assert_allclose(oof.predictions, np.stack([dirichlet(0, 8), dirichlet(1, 8)]), rtol=1e-12)
    np.testing.assert_array_equal(oof.votes, table().select(VOTES).to_numpy())
    np.testing.assert_array_equal(oof.group, table()["patient_id"])


@pytest.mark.parametrize(
    "names", [VOTES, PATTERNS, [f"pred_{p.upper()}" for p in PATTERNS], [f"{v}_prediction" for v in VOTES]]
)
def test_tables_of_others(tmp_path, names):
    """Their ids in other widths, their probabilities under other names; votes as shares count as many."""
    narrow = pl.col("eeg_id").cast(pl.UInt32), pl.col("eeg_sub_id").cast(pl.Float64)
    oof = read(tmp_path, imported(0, names).with_columns(narrow), imported(1, names).reverse(), labels=labels())
    np.testing.assert_allclose(oof.predictions, np.stack([dirichlet(0, 8), dirichlet(1, 8)]), atol=1e-6)
    assert oof.many.all() and not oof.counted and oof.group_name == "eeg_id"
    assert len(oof.warnings) == 1 and "patients are not known, intervals resample eeg_id" in oof.warnings[0]
    two = imported(0, [f"{p}_last" for p in PATTERNS]).with_columns(imported(1, [f"{p}_best" for p in PATTERNS])[:, 2:])
    with pytest.raises(BlendInputError, match=r"several sets of probabilities \(seizure_last, seizure_best\)"):
        read(tmp_path, two, labels=labels())


def test_where_it_comes_from(tmp_path):
    """Names and fingerprints: the same folds give the same one in any order of rows and models."""
    oof = read(tmp_path, table(0), table(1))
    provenance = oof.provenance
    files = [hashlib.sha256((tmp_path / f"model{k}.parquet").read_bytes()).hexdigest() for k in range(2)]
    assert [(s.name, s.sha256) for s in provenance.sources] == [*zip(("model0", "model1"), files, strict=True)]
    assert (provenance.group, provenance.groups) == ("patient_id", 4)
    assert str(tmp_path) not in provenance.model_dump_json()
    again = read(tmp_path, table(1).reverse(), table(0)).provenance
    assert again.folds_sha256 == provenance.folds_sha256 and again.sources != provenance.sources
    others = [t.with_columns(fold=1 - pl.col("fold")) for t in (table(0), table(1))]
    assert read(tmp_path, *others).provenance.folds_sha256 != provenance.folds_sha256
    assert read(tmp_path, imported(0), labels=labels()).provenance.labels.name == "truth.parquet"


def test_the_commit_is_that_of_the_kit(monkeypatch, tmp_path):
    monkeypatch.setattr("train.provenance.KIT", tmp_path)
    assert kit_commit() is None  # no checkout
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    commit = kit_commit()
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (tmp_path / "file").write_text("a")
    assert kit_commit() == commit  # not the kit's
    subprocess.run(["git", "add", "file"], cwd=tmp_path, check=True)
    assert kit_commit() == f"{commit}+changes"
    (tmp_path / "inside").mkdir()
    monkeypatch.setattr("train.provenance.KIT", tmp_path / "inside")
    assert kit_commit() is None  # another's checkout


ONE = pl.col("label_id") == 3


@pytest.mark.parametrize(
    ("other", "group", "message"),
    [
        (table(1).head(6), None, "model1: 2 of the 8 rows of model0 are missing and 0 others .* label_id 6, eeg_id 6"),
        (table(1).with_columns(pl.col("label_id") + 1), None, "model1: 8 of the 8 rows .* are missing and 8 others"),
        (pl.concat([table(1), table(1)[:1]]), None, r"model1: a row occurs twice \(label_id, eeg_id, patient_id\)"),
        (table(1).with_columns(fold=1 - pl.col("fold")), None, "model1: its folds differ from those of model0"),
        (
            table(1).with_columns(lpd_vote="gpd_vote", gpd_vote="lpd_vote"),
            None,
            "model1: its votes differ from those of model0",
        ),
        (table(1).with_columns(pl.when(ONE).then(None).otherwise("lpd").alias("lpd")), None, "1 rows hold NaN"),
        (
            table(1).with_columns(pl.col("lpd") + 0.1),
            None,
            "model1: 8 rows are not probabilities that sum to 1, the fi",
        ),
        (table(1).drop("lpd"), None, "model1: no columns seizure, lpd"),
        (table(1), "recording", "model0: --group recording: no such column"),
        (table(1).drop("label_id", "eeg_id", "patient_id"), None, "no id column .* model1 has none"),
        (table(1).with_columns(eeg_id=pl.lit("a")), None, "model1: column eeg_id holds values that are no ids"),
        (table(0).with_columns(pl.col(PATTERNS).round(4)), None, "model0 and model1 are one model under two names"),
    ],
)
def test_tables_that_do_not_fit_are_named(tmp_path, other, group, message):
    with pytest.raises(BlendInputError, match=message):
        read(tmp_path, table(0), other, group=group)


def test_folds_of_a_table_are_held_against_the_labels(tmp_path):
    mine = imported(0).with_columns(fold=labels()["fold"])
    narrow = mine.with_columns(pl.col("fold").cast(pl.Int8))
    assert read(tmp_path, narrow, labels=labels()).fold.tolist() == [0] * 4 + [1] * 4
    with pytest.raises(BlendInputError, match=r"model0: its folds differ from those of truth\.parquet"):
        read(tmp_path, mine.with_columns(fold=1 - pl.col("fold")), labels=labels())


@pytest.mark.parametrize(("columns", "spoilt"), [("gpd_vote", None), ("gpd_vote", -0.5), (VOTES, 0.0)])
def test_labels_that_are_missing_are_refused(tmp_path, columns, spoilt):
    changed = pl.when(pl.col("eeg_id") == 5).then(spoilt).otherwise(pl.col(columns)).name.keep()
    with pytest.raises(BlendInputError, match=r"truth.parquet: 1 rows without votes, the first is row 5"):
        read(tmp_path, imported(0), labels=labels().with_columns(changed))


def test_constant_predictions_are_told(tmp_path):
    flat = table(1).with_columns(pl.lit(1 / 6).alias(pattern) for pattern in PATTERNS)
    assert read(tmp_path, table(0), flat).warnings == ("model1 predicts the same for every row",)


def test_groups_in_several_folds_few_votes_and_strange_sources_are_refused(tmp_path):
    torn = table().with_columns(fold=pl.Series([0, 1] * 4))
    with pytest.raises(BlendInputError, match=r"patient_id \d is in several folds \(4 such\)"):
        read(tmp_path, torn)
    with pytest.raises(BlendInputError, match="no row has at least 10 votes"):
        read(tmp_path, table().with_columns(pl.col(VOTES) // 3 + 1))
    with pytest.raises(BlendInputError, match=r"no column fold; --labels FILE"):
        read(tmp_path, table().drop("fold"))
    with pytest.raises(BlendInputError, match=r"absent: no such run or parquet"):
        read_out_of_fold([tmp_path / "absent"], None, None)
    with pytest.raises(BlendInputError, match=r"model0: no columns seizure"):
        read(tmp_path, table().drop(PATTERNS))  # its votes are the labels, no predictions
    (tmp_path / "copy").mkdir()
    table().write_parquet(tmp_path / "copy/model0.parquet")
    with pytest.raises(BlendInputError, match="the same model twice: model0"):
        read_out_of_fold([tmp_path / "model0.parquet", tmp_path / "copy/model0.parquet"], None, None)


def test_label_rows_of_different_kinds_are_not_blended(tmp_path):
    rows = make_rows()
    runs = [write_run(tmp_path / name, rows, labels=name) for name in ("votes", "eeg")]
    with pytest.raises(BlendInputError, match="votes has labels = 'votes', eeg has labels = 'eeg'"):
        read_out_of_fold(runs, None, None)
