"""A whole small training: its schedule, its resumption, its scores."""

import itertools

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import rel_entr

from common.config import Experiment
from common.schema import ELECTRODES, VOTES
from train import loop
from train.evaluate import as_text, evaluate, out_of_fold_prior
from train.labels import label_rows, prior_shares
from train.run import parse_folds, run_experiment
from train.run_folder import RunError
from train.store_index import MissingRecordings
from train.windows import TrainingWindows

PATTERNS = ["seizure", "lpd", "gpd", "lrda", "grda", "other"]
HEAD = (
    "eeg_id,eeg_label_offset_seconds,spectrogram_id,spectrogram_label_offset_seconds,label_id,patient_id,"
    "expert_consensus,seizure_vote,lpd_vote,gpd_vote,lrda_vote,grda_vote,other_vote"
)

# ---- a whole small training

EPOCHS, BATCH, RATE = 3, 4, 4e-3


def small(**training):
    stages = [
        {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": RATE, "mirror": 0.5, "shift": 2.0, "warm_up": 0.3},
        {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3, "min_votes": 10},
    ]
    return Experiment(
        name="tiny-wave",
        input={"kind": "bipolar-sequence", "sfreq": 50},
        model={"kind": "wave-net", "width": 8, "kernel": 3, "dilations": [1]},
        training={"folds": 2, "stages": stages} | training,
    )


def write_competition(folder, without=None):
    """Eight patients with one EEG of noise and two vote vectors each."""
    rng, lines = np.random.default_rng(5), []
    (folder / "train_eegs").mkdir(parents=True)
    for k in range(8):
        noise = rng.normal(0, 20 + 10 * (k % 2), (10_800, 20)).astype(np.float32)
        if k != without:
            pl.DataFrame(dict(zip(ELECTRODES, noise.T, strict=True))).write_parquet(folder / f"train_eegs/{k}.parquet")
        consensus, votes = ("Seizure", "{},0,1,0,0,1") if k % 2 else ("Other", "0,0,1,0,1,{}")
        lines += [f"{k},{2 * i},{k},{2 * i},{10 * k + i},{k},{consensus},{votes.format(3 + 9 * i)}" for i in (0, 1)]
    (folder / "train.csv").write_text("\n".join([HEAD, *lines]) + "\n")
    return folder


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    return write_competition(tmp_path_factory.mktemp("competition"))


@pytest.fixture(scope="module")
def rates():
    return []


@pytest.fixture(scope="module")
def run(competition, tmp_path_factory, rates):
    class Recording(torch.optim.AdamW):
        def step(self, *arguments, **options):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Recording)
        return run_experiment(small(), competition, tmp_path_factory.mktemp("runs"), "all", False, None)


def test_every_step_has_the_one_cycle_rate(run, rates):
    log = pl.read_csv(run / "fold0/epochs.csv")
    assert log["epoch"].to_list() == [0, 1, 2, 3] and log["stage"].to_list() == [0, 0, 0, 1]
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    steps = 2 * EPOCHS  # 8 of 16 rows in batches of 4
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=steps, pct_start=0.3, div_factor=25, final_div_factor=100, cycle_momentum=False
    )
    expected = []
    for _ in range(steps):
        expected.append(cycle.get_last_lr()[0])
        optimiser.step()
        cycle.step()
    assert expected[0] == pytest.approx(RATE / 25) and max(expected) > 0.9 * RATE and expected[-1] < RATE / 1000
    np.testing.assert_allclose(rates[:steps], expected, rtol=1e-9)
    np.testing.assert_allclose(log["learning_rate"][:2], [expected[2], expected[4]], rtol=1e-9)
    assert len(rates) == 2 * (steps + 2)  # the second stage: 4 rows in batches of 2, a cycle of its own
    assert expected[-1] * 50 < max(rates[steps : steps + 2]) < 1e-3


def test_out_of_fold_table_is_whole(run, competition):
    oof, rows = pl.read_parquet(run / "oof.parquet"), label_rows(competition)
    assert {"label_id", "eeg_id", "fold", *VOTES, *PATTERNS} <= set(oof.columns)
    assert sorted(oof["label_id"]) == sorted(rows["label_id"]) and oof.height == 16
    np.testing.assert_allclose(oof.select(PATTERNS).to_numpy().sum(axis=1), 1, atol=1e-12)
    assert oof.group_by("patient_id").agg(pl.col("fold").n_unique())["fold"].max() == 1
    assert oof.join(rows, on=["label_id", "eeg_id", *VOTES]).height == 16
    last = pl.read_parquet(run / "fold1/oof.parquet").select(f"{p}_last" for p in PATTERNS)
    assert last.rows() == oof.filter(fold=1).select(PATTERNS).rows() and not (run / "fold0/state.pt").exists()


def test_a_run_is_not_overwritten_nor_continued_as_another(run, competition):
    before = (run / "oof.parquet").read_bytes()
    with pytest.raises(RunError, match="exists: --resume continues it"):
        run_experiment(small(), competition, run.parent, "all", False, None)
    with pytest.raises(RunError, match="must be the same experiment"):
        run_experiment(small(seed=7), competition, run.parent, "all", True, None)
    assert (run / "oof.parquet").read_bytes() == before


def test_a_run_is_not_continued_on_other_labels(run, competition, tmp_path):
    other = write_competition(tmp_path / "other")
    table = (other / "train.csv").read_text()
    (other / "train.csv").write_text(table.replace("Other,0,0,1,0,1,12", "Other,0,0,1,0,1,13"))
    with pytest.raises(RunError, match="made on other data"):
        run_experiment(small(), other, run.parent, "all", True, None)


def test_training_interrupted_after_every_epoch_ends_the_same(run, competition, tmp_path, monkeypatch):
    train_epoch, done = loop.train_epoch, []

    def one_epoch(*arguments):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return train_epoch(*arguments)

    monkeypatch.setattr(loop, "train_epoch", one_epoch)
    for interruptions in itertools.count():
        done.clear()
        try:
            again = run_experiment(small(), competition, tmp_path, "0", interruptions > 0, None)
            break
        except KeyboardInterrupt:
            for state in tmp_path.glob("*/fold*/state.pt"):
                assert len(torch.load(state, weights_only=True)["history"]) == interruptions + 1
    assert interruptions == 3  # the fourth epoch ends the run
    for name in ("fold0/last.safetensors", "fold0/best.safetensors"):
        expected, found = load_file(run / name), load_file(again / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected), name
    assert pl.read_parquet(again / "fold0/oof.parquet").equals(pl.read_parquet(run / "fold0/oof.parquet"))
    one, other = (load_file(run / f"fold{k}/last.safetensors") for k in (0, 1))
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])  # the folds differ


def test_only_training_windows_are_shifted_and_each_epoch_anew(competition, tmp_path, monkeypatch):
    batches, given = TrainingWindows.batches, []

    def watched(self, rows, batch_size, device, shifts=None):
        given.append(shifts)
        return batches(self, rows, batch_size, device, shifts)

    monkeypatch.setattr(TrainingWindows, "batches", watched)
    run_experiment(small(), competition, tmp_path, "0", False, None)
    assert [shifts is not None for shifts in given] == [True, False] * EPOCHS + [False, False] + [False] * 2
    first, second = given[0], given[2]
    assert first.shape == (8,) and 0 < np.abs(first).max() <= 2 and not np.array_equal(first, second)


def test_missing_recording_is_named_before_training(tmp_path):
    incomplete = write_competition(tmp_path / "incomplete", without=3)
    with pytest.raises(MissingRecordings, match=r"1 of 8 recordings of train\.csv are not there, first 3\.parquet"):
        run_experiment(small(), incomplete, tmp_path / "runs", "all", False, None)
    assert not (tmp_path / "runs").exists()


def test_fold_choices():
    assert parse_folds("all", 3) == [0, 1, 2] and parse_folds("2,0, 2", 3) == [0, 2]
    for text in ("3", "-1", "", "0,,1", "x"):
        with pytest.raises(RunError, match="numbers from 0 to 2"):
            parse_folds(text, 3)


# ---- evaluate


def test_evaluation_equals_scipy(run, tmp_path):
    oof = pl.concat([pl.read_parquet(run / f"fold{k}/oof.parquet") for k in (0, 1)])
    votes = oof.select(VOTES).to_numpy().astype(float)
    target, many = votes / votes.sum(axis=1, keepdims=True), votes.sum(axis=1) >= 10
    truth = pl.DataFrame({"label_id": oof["label_id"].shuffle(1)})
    floor = np.random.default_rng(3).dirichlet(np.ones(6), 16)
    truth = truth.with_columns(pl.Series(vote, floor[:, k]) for k, vote in enumerate(VOTES))
    truth.write_csv(tmp_path / "truth.csv")
    known = oof.select("label_id").join(truth, on="label_id", maintain_order="left").select(VOTES).to_numpy()
    prior = np.empty((16, 6))
    for k in (0, 1):  # of the many-vote rows of the other fold
        prior[oof["fold"] == k] = target[many & (oof["fold"] != k).to_numpy()].mean(axis=0)
    last, best = (oof.select(f"{p}_{which}" for p in PATTERNS).to_numpy() for which in ("last", "best"))
    table = evaluate([run], tmp_path / "truth.csv")
    assert table["rows"].to_list() == [16] * 5 and table["rows_many"].to_list() == [8] * 5
    for line, prediction in zip(table.rows(), (known, last, best, prior, np.full((16, 6), 1 / 6)), strict=True):
        kl = rel_entr(target, np.clip(prediction, 1e-15, 1)).sum(axis=1)
        assert line[1:3] == pytest.approx((kl.mean(), kl[many].mean()), rel=1e-9), line[0]
    assert [what.split(" (")[0] for what in table["what"]] == ["floor", *["tiny-wave"] * 2, "class prior", "uniform"]
    assert "best epoch, chosen on the fold that scores it" in as_text(table)


def test_prior_of_a_fold_never_sees_it():
    votes = np.array([[10, 0, 0, 0, 0, 0], [0, 10, 0, 0, 0, 0], [0, 0, 5, 0, 0, 0], [0, 0, 0, 6, 0, 6]])
    rows = pl.DataFrame(votes, schema=list(VOTES)).with_columns(fold=pl.Series([0, 1, 1, 2]))
    prior = out_of_fold_prior(np.array([0, 1, 1, 2]), rows)
    np.testing.assert_allclose(prior[0], [0, 0.5, 0, 0.25, 0, 0.25])  # the row of 5 votes does not count
    np.testing.assert_allclose(prior[1], [0.5, 0, 0, 0.25, 0, 0.25])
    np.testing.assert_array_equal(out_of_fold_prior(np.array([1, 1]), rows), prior[1:3])  # one fold finished
    np.testing.assert_allclose(prior_shares(votes[2:3], 10), [0, 0, 1, 0, 0, 0])  # unless there is no other
