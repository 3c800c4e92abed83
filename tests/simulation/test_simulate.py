"""The simulator's files: formats as the competition's, windows in place, votes as drawn, refusals."""

import dataclasses
import filecmp
import json
from itertools import pairwise

import conftest
import numpy as np
import polars as pl
import pytest

from common.schema import CONSENSUS, ELECTRODES, PATTERNS, REGIONS, SFREQ, SPECTROGRAM_FIELDS, VOTES
from common.signal.spectrogram import competition_spectrogram
from train.simulate import files
from train.simulate.files import simulate_competition
from train.simulate.forward import LEFT
from train.simulate.patient import record_patient
from train.simulate.patterns import draw_episode
from train.simulate.plan import PANEL_SHARES, RecordingPlan, deal_patterns, lay_out, plan_patients
from train.simulate.raters import CONFUSION, draw_votes, probabilities

PATIENTS, SEED = int(conftest.PATIENTS), int(conftest.SEED)


@pytest.fixture(scope="module")
def competition(road):
    return road.competition


@pytest.fixture(scope="module")
def train(competition):
    return pl.read_csv(competition / "train.csv")


@pytest.fixture(scope="module")
def test(competition):
    return pl.read_csv(competition / "test.csv")


@pytest.fixture(scope="module")
def truth(competition):
    return pl.read_csv(competition / "truth/train_probabilities.csv")


# ---- files


def test_tables_have_the_competitions_columns(competition, train, test, truth):
    assert train.columns == list(files.TRAIN_COLUMNS) and len(train.columns) == 15
    floats = ("eeg_label_offset_seconds", "spectrogram_label_offset_seconds")
    for name, dtype in train.schema.items():
        expected = pl.Float64 if name in floats else pl.String if name == "expert_consensus" else pl.Int64
        assert dtype == expected, name
    assert test.columns == ["spectrogram_id", "eeg_id", "patient_id"]
    answer = ["eeg_id", *VOTES]
    for path in ("sample_submission.csv", "truth/solution.csv", "truth/probabilities.csv"):
        table = pl.read_csv(competition / path)
        assert table.columns == answer and table["eeg_id"].equals(test["eeg_id"])
        np.testing.assert_allclose(table.select(VOTES).to_numpy().sum(axis=1), 1, atol=1e-9)
    assert truth.columns == ["label_id", *answer] and truth["label_id"].equals(train["label_id"])
    assert truth["eeg_id"].equals(train["eeg_id"]) and truth.select(VOTES).to_numpy().min() > 0
    assert json.loads((competition / "truth/simulation.json").read_text())["seed"] == SEED


def test_ids_are_unique_and_patients_disjoint(train, test):
    assert train["label_id"].n_unique() == len(train)
    assert test["eeg_id"].n_unique() == len(test) == test["spectrogram_id"].n_unique()
    for column in ("patient_id", "eeg_id", "spectrogram_id"):
        assert not set(train[column]) & set(test[column])
    assert train["patient_id"].n_unique() + test["patient_id"].n_unique() == PATIENTS


def test_votes(competition, train, test):
    votes = train.select(VOTES).to_numpy()
    totals = votes.sum(axis=1)
    assert set(np.unique(totals)) <= set(range(1, 8)) | set(range(10, 21))
    assert [CONSENSUS[k] for k in votes.argmax(axis=1)] == train["expert_consensus"].to_list()
    assert train.group_by("spectrogram_id").agg((pl.sum_horizontal(VOTES) >= 10).n_unique().alias("n"))["n"].max() == 1
    solution = pl.read_csv(competition / "truth/solution.csv").select(VOTES).to_numpy()
    assert all(any(np.allclose(row * n, np.round(row * n), atol=1e-9) for n in range(10, 21)) for row in solution)


def test_eeg_files_hold_every_window(competition, train, test):
    for (eeg_id,), rows in train.group_by("eeg_id"):
        eeg = pl.read_parquet(competition / f"train_eegs/{eeg_id}.parquet")
        assert eeg.columns == list(ELECTRODES) and set(eeg.dtypes) == {pl.Float32}
        rows = rows.sort("eeg_sub_id")
        offsets = rows["eeg_label_offset_seconds"].to_numpy()
        assert rows["eeg_sub_id"].to_list() == list(range(len(rows)))
        assert offsets[0] == 0 and (np.diff(offsets) > 0).all() and (offsets % 2 == 0).all()
        assert len(eeg) == (offsets[-1] + 50) * SFREQ
        shift = rows["spectrogram_label_offset_seconds"].to_numpy() - offsets
        assert len(set(shift)) == 1
    for eeg_id in test["eeg_id"]:
        assert pl.read_parquet(competition / f"test_eegs/{eeg_id}.parquet").shape == (10_000, 20)
    assert len(list((competition / "train_eegs").iterdir())) == train["eeg_id"].n_unique()


def test_spectrogram_files_hold_every_window(competition, train, test):
    columns = ["time", *(field for region in REGIONS for field in SPECTROGRAM_FIELDS[region])]
    for (spectrogram_id,), rows in train.group_by("spectrogram_id"):
        spectrogram = pl.read_parquet(competition / f"train_spectrograms/{spectrogram_id}.parquet")
        assert spectrogram.columns == columns
        assert spectrogram.dtypes == [pl.Int64] + [pl.Float32] * 400
        assert spectrogram["time"].to_list() == list(range(1, 2 * len(spectrogram), 2))
        assert 2 * len(spectrogram) == rows["spectrogram_label_offset_seconds"].max() + 600
        assert sorted(rows["spectrogram_sub_id"]) == list(range(len(rows)))
    for spectrogram_id in test["spectrogram_id"]:
        assert pl.read_parquet(competition / f"test_spectrograms/{spectrogram_id}.parquet").shape == (300, 401)


def test_eeg_reproduces_its_columns_of_the_spectrogram(competition, train, test):
    # Column k spans seconds 2k - 1 to 2k + 3: the 50 s in the centre of 600 are columns 138 to 161.
    last = train.sort("eeg_label_offset_seconds").row(-1, named=True)
    for part, row in (("train", last), ("test", test.row(0, named=True))):
        eeg = pl.read_parquet(competition / f"{part}_eegs/{row['eeg_id']}.parquet").to_numpy().T
        begin = int(row.get("eeg_label_offset_seconds", 0)) * SFREQ
        found = competition_spectrogram(np.ascontiguousarray(eeg[:, begin : begin + 10_000])).numpy()
        table = pl.read_parquet(competition / f"{part}_spectrograms/{row['spectrogram_id']}.parquet")
        column = int(row.get("spectrogram_label_offset_seconds", 0)) // 2 + 138
        for r, region in enumerate(REGIONS):
            expected = table[column : column + 24].select(SPECTROGRAM_FIELDS[region]).to_numpy().T
            # The outer columns feel that the filter knows only these 50 s.
            np.testing.assert_allclose(found[r][:, 5:-5], expected[:, 5:-5], rtol=1e-3)
            assert np.sqrt(np.mean(np.log(found[r] / expected) ** 2)) < 0.1


def test_a_patient_has_the_same_files_whoever_simulates_them(competition, train, tmp_path):
    """By itself, in this process, as among others in several."""
    plan = next(plan for plan in plan_patients(PATIENTS, SEED) if not plan.hidden)
    for folder in ("train_eegs", "train_spectrograms"):
        (tmp_path / folder).mkdir()
    rows = record_patient(plan, tmp_path, SEED)
    names = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.parquet")]
    assert names and filecmp.cmpfiles(competition, tmp_path, names, shallow=False) == (names, [], [])
    own = train.filter(patient_id=plan.patient_id)
    assert sorted(own.select("spectrogram_id", "spectrogram_sub_id", *VOTES).rows()) == sorted(
        (row.fields["spectrogram_id"], row.fields["spectrogram_sub_id"], *row.votes) for row in rows
    )


def test_finished_simulation_is_left_alone(competition, capsys):
    before = (competition / "train.csv").stat().st_mtime_ns
    simulate_competition(competition, PATIENTS, SEED)
    assert "already holds" in capsys.readouterr().err
    assert (competition / "train.csv").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match=f'"seed": {SEED}'):
        simulate_competition(competition, PATIENTS, SEED + 1)
    with pytest.raises(FileExistsError, match="is no simulation"):
        simulate_competition(competition / "train_eegs", PATIENTS, SEED)


def test_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def no_patients(plans, directory, seed, workers):
        (directory / "train_eegs" / "1.parquet").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(files, "record_patients", no_patients)
    with pytest.raises(OSError, match="disk full"):
        simulate_competition(tmp_path / "competition", 4, 0)
    assert not list(tmp_path.iterdir())


# ---- plan and votes


def test_every_pattern_is_on_both_sides():
    for seed in range(5):
        plans = plan_patients(12, seed)
        for hidden in (True, False):
            shown = {r.pattern for plan in plans if plan.hidden == hidden for r in plan.recordings}
            assert shown == set(PATTERNS)
        assert sum(plan.hidden for plan in plans) == 3
        assert all(recording.panel for plan in plans if plan.hidden for recording in plan.recordings)


def test_deal_follows_the_shares():
    dealt = deal_patterns(100, PANEL_SHARES, np.random.default_rng(0))
    assert [dealt.count(pattern) for pattern in PATTERNS] == [round(100 * share) for share in PANEL_SHARES]


def test_labelled_seconds_lie_inside_one_episode():
    rng = np.random.default_rng(0)
    changed = 0
    for _ in range(200):
        recording = RecordingPlan(1, (1, 2, 3), "seizure", "lpd", panel=False)
        timeline = lay_out(recording, False, rng)
        for a, b in pairwise(timeline.stretches):
            assert a.stop <= b.start
        for window in timeline.windows:
            stretch = timeline.stretches[window.episode]
            # The stream starts 1 s before the spectrogram's time zero, the centre is 300 s later.
            assert stretch.start <= window.start + 296 and window.start + 306 <= stretch.stop
            assert window.start % 2 == 0
        seen = {(window.eeg, window.episode) for window in timeline.windows}
        changed += len(seen) - 3
        assert timeline.seconds == timeline.windows[-1].start + 602
    assert 0.08 < changed / 600 < 0.25  # a tenth to a fifth of the EEGs changes its pattern
    assert len(lay_out(RecordingPlan(1, (1,), "gpd", "lpd", True), True, rng).windows) == 1


def test_vote_shares_agree_with_their_probabilities():
    rng = np.random.default_rng(0)
    for pattern in PATTERNS:
        episode = draw_episode(pattern, 0, 20, 8.0, LEFT, rng)
        p = probabilities(episode, True, rng)
        assert p.min() > 0 and p.sum() == pytest.approx(1)
        votes = np.array([draw_votes(p, True, rng) for _ in range(2000)])
        totals = votes.sum(axis=1)
        assert totals.min() == 10 and 17 <= totals.max() <= 20
        expected = totals.sum() * p
        chi_square = ((votes.sum(axis=0) - expected) ** 2 / expected).sum()
        assert chi_square < 20.5  # 99.9 % of the chi-square distribution with 5 degrees of freedom


def test_crowds_have_one_to_seven_votes_and_confuse_what_is_alike():
    rng = np.random.default_rng(0)
    assert {int(draw_votes(np.full(6, 1 / 6), False, rng).sum()) for _ in range(500)} == set(range(1, 8))
    for pattern, more, less in (("seizure", "gpd", "lpd"), ("lrda", "lpd", "seizure"), ("grda", "other", "lpd")):
        faint = dataclasses.replace(draw_episode(pattern, 0, 20, 8.0, LEFT, rng), ratio=2.0, peak=8.0)
        p = probabilities(faint, True, rng)
        shares = p[PATTERNS.index(more)] / p[PATTERNS.index(less)]
        own = CONFUSION[PATTERNS.index(pattern)]
        assert shares == pytest.approx(own[PATTERNS.index(more)] / own[PATTERNS.index(less)])


def test_clear_episodes_have_sharper_votes():
    rng = np.random.default_rng(0)
    for k, pattern in enumerate(PATTERNS[:-1]):
        drawn = draw_episode(pattern, 0, 20, 8.0, LEFT, rng)
        clear = dataclasses.replace(drawn, ratio=25.0, peak=200.0, irregularity=0.05, presence=0.99)
        faint = dataclasses.replace(drawn, ratio=2.0, peak=8.0)
        assert 0.8 < probabilities(clear, True, rng)[k] < 0.96
        assert probabilities(faint, True, rng)[k] < 0.6
