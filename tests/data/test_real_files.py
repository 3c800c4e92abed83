"""The competition's own files: how they are read, that the kit writes its files alike, what the doctor says of them."""

import shutil

import numpy as np
import polars as pl
import pytest
from doctor_stage import run_doctor
from eeg_samples import NAMES, real
from pyarrow.parquet import ParquetFile

from common.metric import kl_divergence, vote_shares
from common.records import read_eeg, read_spectrogram
from common.schema import MANY_VOTES, VOTES
from common.signal.spectrogram import competition_spectrogram
from train.data.folds import make_folds
from train.data.labels import ROW_KEYS, label_rows, prior_shares
from train.data.sampling import Sampler
from train.doctor.check import doctor

PAIRS = [("train", 1628180742, 353733), ("test", 3911565283, 853520)]


def pair(part, eeg_id, spectrogram_id):
    folder = real("real/train.csv").parent
    return folder / f"{part}_eegs/{eeg_id}.parquet", folder / f"{part}_spectrograms/{spectrogram_id}.parquet"


# ---- reading


@pytest.mark.parametrize("which", PAIRS, ids=["train", "test"])
def test_real_files_are_read_without_a_finding(which):
    eeg_file, spectrogram_file = pair(*which)
    eeg, spectrogram = read_eeg(eeg_file), read_spectrogram(spectrogram_file)
    assert eeg.findings == spectrogram.findings == eeg.structural == spectrogram.structural == ()
    assert np.array_equal(eeg.values, pl.read_parquet(eeg_file).select(NAMES).to_numpy().T, equal_nan=True)
    frame = pl.read_parquet(spectrogram_file)
    for k, region in enumerate(("LL", "RL", "LP", "RP")):
        panel = frame.select(name for name in frame.columns if name.startswith(f"{region}_")).to_numpy().T
        assert np.array_equal(spectrogram.values[k], panel, equal_nan=True)


# ---- how the kit's own files are made


def made_like(file):
    """Names and types of its columns, row groups, compression."""
    opened = ParquetFile(file)
    schema, meta = opened.schema_arrow, opened.metadata
    compression = {meta.row_group(0).column(k).compression for k in range(meta.num_columns)}
    return schema.names, list(map(str, schema.types)), meta.num_row_groups, compression


@pytest.mark.parametrize("which", PAIRS, ids=["train", "test"])
def test_simulated_files_are_made_like_the_real_ones(which, road):
    for real_file, folder in zip(pair(*which), (f"{which[0]}_eegs", f"{which[0]}_spectrograms"), strict=True):
        for file in list((road.competition / folder).glob("*.parquet"))[:3]:
            assert made_like(file) == made_like(real_file)


def test_train_recordings_reach_to_the_end_of_their_last_window(road):
    """As the real pair: 90 s and 320 rows for windows up to 40 s."""
    eeg_file, spectrogram_file = pair(*PAIRS[0])
    assert (read_eeg(eeg_file).values.shape[1], read_spectrogram(spectrogram_file).values.shape[2]) == (18_000, 320)
    table = pl.read_csv(road.competition / "train.csv")
    last = table.group_by("eeg_id").agg(pl.col("eeg_label_offset_seconds").max())
    assert last["eeg_label_offset_seconds"].max() > 0
    for eeg_id, offset in last.iter_rows():
        eeg = ParquetFile(road.competition / f"train_eegs/{eeg_id}.parquet")
        assert eeg.metadata.num_rows == 200 * (offset + 50)


# ---- the spectrogram recipe


@pytest.mark.parametrize("which", PAIRS, ids=["train", "test"])
def test_the_recipe_makes_the_real_spectrogram(which):
    eeg_file, spectrogram_file = pair(*which)
    made = competition_spectrogram(read_eeg(eeg_file).values).numpy()
    known = read_spectrogram(spectrogram_file).values[..., 138 : 138 + made.shape[-1]]
    inner, outer = np.s_[..., 2:-2], np.r_[:2, -2:0]
    apart = np.log(made[inner]) - np.log(known[inner])
    assert np.sqrt(np.mean(apart**2)) <= 0.03
    assert abs(np.median(made[inner] / known[inner]) - 1) <= 0.01
    assert np.corrcoef(np.log(made[inner]).ravel(), np.log(known[inner]).ravel())[0, 1] >= 0.9997
    at_edges = np.log(made[..., outer]) - np.log(known[..., outer])
    assert np.sqrt(np.mean(at_edges**2)) <= 0.06
    unfiltered = competition_spectrogram(read_eeg(eeg_file).values, filtered=True).numpy()
    assert np.sqrt(np.mean((np.log(unfiltered[inner]) - np.log(known[inner])) ** 2)) > 0.2


# ---- the real table


@pytest.fixture(scope="module")
def competition():
    return real("real/train.csv").parent


@pytest.fixture(scope="module")
def rows(competition):
    return label_rows(competition)


def test_label_rows_of_the_real_table(competition, rows):
    found = {labels: label_rows(competition, labels).height for labels in ROW_KEYS}
    by_votes = dict.fromkeys(("votes", "one-per-eeg", "one-per-stretch"), 20_183)
    assert found == by_votes | {"eeg": 17_089, "window": 106_667}
    assert Sampler(rows, "one-per-eeg").count(np.arange(rows.height)) == 17_089
    assert Sampler(rows, "one-per-stretch").count(np.arange(rows.height)) == 21_490
    assert sum(rows["eeg_starts"].list.len()) == 106_667


def test_middles_of_label_rows_are_often_far_from_any_window(competition, rows):
    def seconds_to_a_window(rows):
        starts = zip(rows["eeg_start"], rows["eeg_starts"].to_list(), strict=True)
        return np.array([min(abs(start - labelled) for labelled in windows) for start, windows in starts]) / 200

    middles = seconds_to_a_window(label_rows(competition, "votes", "middle"))
    assert (middles > 10).sum() == 915 and middles.max() == 780
    assert (seconds_to_a_window(rows) == 0).all()


def test_prior_and_folds_of_the_real_table(rows):
    votes = rows.select(VOTES).to_numpy()
    many = votes.sum(axis=1) >= MANY_VOTES
    prior = np.broadcast_to(prior_shares(votes, MANY_VOTES), (many.sum(), 6))
    assert many.sum() == 6_350
    assert kl_divergence(vote_shares(votes[many]), prior).mean() == pytest.approx(0.849, abs=5e-4)
    assert np.ptp(np.bincount(make_folds(rows, 5))) <= 1


# ---- the doctor


def test_the_doctor_finds_only_what_is_not_there(competition):
    report = doctor(competition)
    found = [(finding.check, finding.where, len(finding.cases)) for finding in report.findings]
    assert found == [("missing", "train_eegs", 17_088), ("missing", "train_spectrograms", 11_137)]
    assert report.changes == {"eegs": 17_089, "consensus_changes": 783, "overlaps_differ": 912}


def test_the_doctor_calls_the_real_pair_sound(competition, tmp_path, monkeypatch, capsys):
    """The recordings at hand with their rows, and once more, louder, as another patient's: folds need two."""
    folder = tmp_path / "pair"
    for name in ("train_eegs", "train_spectrograms", "test_eegs", "test_spectrograms"):
        shutil.copytree(competition / name, folder / name)
    for name in ("test.csv", "sample_submission.csv"):
        shutil.copy(competition / name, folder)
    table = pl.read_csv(competition / "train.csv").filter(eeg_id=PAIRS[0][1])
    others = {"eeg_id": 7, "spectrogram_id": 8, "patient_id": 9}
    other = table.with_columns(
        label_id=-pl.col("label_id"), **{name: pl.lit(i, pl.Int64) for name, i in others.items()}
    )
    pl.concat([table, other]).write_csv(folder / "train.csv")
    files = ("train_eegs", PAIRS[0][1], 7), ("train_spectrograms", PAIRS[0][2], 8)
    for name, file, again in files:
        frame = pl.read_parquet(folder / name / f"{file}.parquet").with_columns(pl.exclude("time") * 1.5)
        frame.write_parquet(folder / name / f"{again}.parquet")
    code, said, values = run_doctor(monkeypatch, capsys, folder, "--folds", "2")
    assert code == 0 and values["findings"] == [], said
    assert (
        "0 EEGs change their consensus between windows, 0.0 % (normal; the competition: 783 of 17,089, 4.6 %)" in said
    )
