"""Pseudo labels: no vote of a patient held out reaches a model, by bookkeeping and bit for bit."""

import json
import shlex
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from common.config import Experiment
from common.schema import ELECTRODES, VOTES
from common.training import Stage
from train import __main__ as verbs
from train import loop, stages
from train.labels import label_rows
from train.loop import FoldData, targets_of
from train.optimisation import Optimisation
from train.pseudo import (
    PseudoError,
    Teacher,
    choose_teachers,
    make_pseudo,
    plan_pseudo,
    read_teachers,
    refuse_leaks,
    rows_with_pseudo,
)
from train.run import RunOptions, run_experiment
from train.run_folder import Member, RunError, probability_columns

HEAD = (
    "eeg_id,eeg_label_offset_seconds,spectrogram_id,spectrogram_label_offset_seconds,label_id,patient_id,"
    "expert_consensus,seizure_vote,lpd_vote,gpd_vote,lrda_vote,grda_vote,other_vote"
)

# ---- targets


def test_targets_are_mixed_by_hand():
    votes = np.array([[3, 0, 0, 0, 0, 1], [6, 0, 0, 0, 0, 4], [0, 0, 9, 0, 0, 0]], float)
    votes = np.vstack([votes, np.array([1, 2, 0, 0, 0, 0]) / 3 * 10 * (1 - 1e-12)])  # 10 votes but for rounding
    nan = np.full(6, np.nan)
    pseudo = np.array([[0.5, 0.1, 0.1, 0.1, 0.1, 0.1], nan, [0, 0, 0.6, 0, 0.4, 0], nan])
    data = FoldData(None, votes, np.arange(4), np.arange(0), pseudo)
    target, n_votes = targets_of(data, np.arange(4), Stage(pseudo=0.25), torch.device("cpu"))
    expected = [
        [0.75 * 0.75 + 0.125, 0.025, 0.025, 0.025, 0.025, 0.75 * 0.25 + 0.025],
        [0.6, 0, 0, 0, 0, 0.4],  # enough votes: its own
        [0, 0, 0.75 + 0.15, 0, 0.1, 0],
        [1 / 3, 2 / 3, 0, 0, 0, 0],
    ]
    np.testing.assert_allclose(target, expected, atol=1e-7)
    np.testing.assert_allclose(n_votes, [4, 10, 9, 10])  # the pseudo labels add no votes
    votes_only, _ = targets_of(data, np.arange(4), Stage(), torch.device("cpu"))
    np.testing.assert_allclose(votes_only[0], [0.75, 0, 0, 0, 0, 0.25])


def test_smoothing_is_of_the_votes_and_not_of_the_pseudo_labels():
    data = FoldData(None, np.array([[4.0, 0, 0, 0, 0, 0]]), np.arange(1), np.arange(0), np.eye(6)[[1]])
    target, _ = targets_of(data, np.arange(1), Stage(pseudo=0.5, smoothing=1), torch.device("cpu"))
    np.testing.assert_allclose(target, [[0.25, 0.05 + 0.5, 0.05, 0.05, 0.05, 0.05]], atol=1e-7)


def test_rows_that_have_pseudo_labels():
    votes = np.outer([1, 4, 5, 9, 10, 20, 10 * (1 - 1e-12)], np.eye(6)[0])
    assert rows_with_pseudo(votes, [Stage(pseudo=0.5)]).tolist() == [True, True, True, True, False, False, False]
    some = Stage(pseudo=0.5, pseudo_below=15, rows={"min_votes": 5})
    assert rows_with_pseudo(votes, [Stage(), some]).tolist() == [False, False, True, True, True, False, True]
    assert not rows_with_pseudo(votes, [Stage(), Stage(pseudo=0.5, rows={"min_votes": 10})]).any()


# ---- bookkeeping, on runs made up without training


def made_up_rows(patients, fold_of_patient):
    n = len(patients)
    votes = np.tile([[3, 0, 0, 0, 0, 1]], (n, 1))
    return pl.DataFrame(
        {"eeg_id": np.arange(n), **dict(zip(VOTES, votes.T, strict=True)), "label_id": 100 + np.arange(n)}
        | {"patient_id": patients, "fold": np.asarray(fold_of_patient)[patients]}
    )


def experiment_of(name="source", stages=({},), folds=3, **training):
    return Experiment(
        name=name,
        input={"kind": "bipolar-sequence", "sfreq": 50},
        model={"kind": "wave-net", "width": 8, "kernel": 3, "dilations": [1]},
        training={"folds": folds, "stages": list(stages)} | training,
    )


PSEUDO = ({"pseudo": 0.5},)


def make_up(run, rows, members, experiment=None):
    """A run folder of models whose predictions are numbers that tell whose they are; returns them by name."""
    experiment = experiment or experiment_of(folds=len(rows["fold"].unique()))
    run.mkdir(parents=True)
    (run / "config.json").write_text(experiment.model_dump_json())
    rows.write_parquet(run / "rows.parquet")
    said = {}
    for number, one in enumerate(members):
        folder = run / one.name
        folder.mkdir()
        (folder / "last.safetensors").touch()
        said[one.name] = np.random.default_rng(number).dirichlet(np.ones(6), rows.height)
        held_out = np.isin(rows["fold"], one.held_out)
        table = rows.filter(held_out)
        for checkpoint, values in (("last", said[one.name]), ("best", np.eye(6)[[0] * rows.height])):
            names = probability_columns(checkpoint)
            table = table.with_columns(pl.Series(name, values[held_out, k]) for k, name in enumerate(names))
        if one.held_out:
            table.write_parquet(folder / "oof.parquet")
    return said


SINGLES = [Member((k,)) for k in range(3)]
PAIRS = [Member((0, 1)), Member((0, 2)), Member((1, 2))]
PATIENTS = np.repeat(np.arange(6), 2)
ROWS = made_up_rows(PATIENTS, [0, 0, 1, 1, 2, 2])


def labels_of(run, rows, held_out, experiment=None):
    experiment = experiment or experiment_of("student", PSEUDO)
    return plan_pseudo(run, run.parent / "none", experiment, rows, [held_out])[held_out]


def test_folds_learn_from_pairs_and_the_full_fit_from_folds(tmp_path):
    said = make_up(tmp_path / "source", ROWS, [*SINGLES, *PAIRS, Member((1, 2), 1), Member((), 0)])
    labels, fold = labels_of(tmp_path / "source", ROWS, (1,)), ROWS["fold"].to_numpy()
    assert np.isnan(labels.probabilities[fold == 1]).all()
    np.testing.assert_array_equal(labels.probabilities[fold == 0], said["fold0and1"][fold == 0])
    both_seeds = (said["fold1and2"] + said["fold1and2-seed1"]) / 2
    np.testing.assert_allclose(labels.probabilities[fold == 2], both_seeds[fold == 2], rtol=1e-15)
    assert labels.models == ("fold0and1", "fold1and2", "fold1and2-seed1") and labels.record()["rows"] == 8
    full = labels_of(tmp_path / "source", ROWS, ())
    for k in range(3):
        np.testing.assert_array_equal(full.probabilities[fold == k], said[f"fold{k}"][fold == k])
    assert full.models == ("fold0", "fold1", "fold2") and full.record()["sha256"] != labels.record()["sha256"]


def assignment(teachers, **rows_of):
    chosen = np.zeros((len(teachers), len(PATIENTS)), bool)
    for number, teacher in enumerate(teachers):
        chosen[number, rows_of.get(teacher.member.name, [])] = True
    return chosen


def test_a_leaking_assignment_is_refused_whoever_made_it(tmp_path):
    """By hand, for the model of fold 0 (patients 0 and 1): its training rows are 4 to 11, of patients 2 to 5."""
    make_up(tmp_path / "source", ROWS, [*SINGLES, *PAIRS])
    teachers, held_out = read_teachers(tmp_path / "source", ROWS), PATIENTS < 2

    def refuse(**rows_of):
        refuse_leaks(teachers, assignment(teachers, **rows_of), PATIENTS, held_out, "source")

    refuse()
    refuse(fold0and1=[4, 5, 6, 7], fold0and2=[8, 9, 10, 11])
    with pytest.raises(PseudoError, match=r"^patient 4: source/fold0and1 was trained on .* \(1 such patients\)"):
        refuse(fold0and1=[4, 5, 6, 7, 8], fold0and2=[9, 10, 11])
    with pytest.raises(PseudoError, match=r"^patient 0 is held out, but source/fold1 was trained on .* \(2 such"):
        refuse(fold1=[4, 5, 6, 7], fold0and2=[8, 9, 10, 11])  # the naive choice: out-of-fold predictions
    with pytest.raises(PseudoError, match=r"^patient 0 is held out, but source/fold1and2 was trained on"):
        refuse(fold1and2=[4], fold0and1=[5, 6, 7])
    with pytest.raises(PseudoError, match=r"^patient 2: source/fold0 was trained on"):
        refuse(fold0=[4])


def test_a_patient_torn_between_folds_is_found_by_its_name(tmp_path):
    """Row 5 of patient 2 moved to fold 2: fold numbers alone would let fold0and1 speak of row 4."""
    torn = ROWS.with_columns(fold=pl.when(pl.col("eeg_id") == 5).then(2).otherwise("fold"))
    make_up(tmp_path / "source", torn, PAIRS)
    with pytest.raises(PseudoError, match="patient 2: source/fold0and1 was trained on"):
        labels_of(tmp_path / "source", ROWS, (0,))


@pytest.mark.parametrize("seed", range(6))
def test_every_choice_agrees_with_a_search_over_patients(tmp_path, seed):
    """Against plain sets, for runs whose folds are finer than the source's and numbered otherwise."""
    rng = np.random.default_rng(seed)
    patients = np.sort(np.append(np.arange(16), rng.integers(0, 16, 24)))
    coarse = rng.permutation(np.arange(16) % 4)
    finer = rng.permutation(8)[coarse + 4 * rng.integers(0, 2, 16)]
    theirs, rows = made_up_rows(patients, coarse), made_up_rows(patients, finer)
    everyone = [Member((a,), s) for a in range(4) for s in (0, 1)]
    everyone += [Member((a, b), s) for a in range(4) for b in range(a + 1, 4) for s in (0, 1)]
    lacking = rng.permutation([one for one in range(len(everyone)) if everyone[one].seed])[:5]
    members = [one for number, one in enumerate(everyone) if number not in lacking]
    said = make_up(tmp_path / "source", theirs, members)
    teachers = read_teachers(tmp_path / "source", rows)
    for held_out in [(), *((k,) for k in np.unique(finer).tolist())]:
        labels = make_pseudo(tmp_path / "source", teachers, rows, np.full(rows.height, True), Member(held_out))
        hidden, used = {p for p in range(16) if finer[p] in held_out}, set()
        for row, patient in enumerate(patients.tolist()):
            if patient in hidden:
                assert np.isnan(labels.probabilities[row]).all()
                continue
            saw = {one: {p for p in range(16) if coarse[p] not in one.held_out} for one in members}
            may = [one for one in members if not saw[one] & ({patient} | hidden)]
            may = [one for one in may if len(one.held_out) == min(len(other.held_out) for other in may)]
            expected = np.mean([said[one.name][row] for one in may], axis=0)
            np.testing.assert_allclose(labels.probabilities[row], expected, rtol=1e-14)
            used |= {one.name for one in may}
        assert used == set(labels.models)


def test_nobody_is_chosen_where_nobody_may(tmp_path):
    nothing = choose_teachers([], np.full(4, True), np.full(4, False))
    assert nothing.shape == (0, 4)
    held_out, predicted = np.array([True, False, False]), np.array([True, True, False])
    teacher = Teacher(Member((0, 1)), frozenset({2}), predicted, np.zeros((3, 6)))
    assert choose_teachers([teacher], ~held_out, held_out).tolist() == [[False, True, False]]


# ---- refusals


def test_missing_models_are_named_with_the_command_that_makes_them(tmp_path):
    make_up(tmp_path / "source", ROWS, [SINGLES[0], SINGLES[1], PAIRS[0]])
    run = tmp_path / "source"
    pairs = rf"fold0: no pseudo labels for 4 rows, first of patient 4: .*{run} that never saw its folds 0, 2, fold0and2"
    with pytest.raises(PseudoError, match=pairs + rf"\. Train it: .* source.toml .*--out {tmp_path} --folds pairs "):
        labels_of(run, ROWS, (0,))
    with pytest.raises(PseudoError, match=r"full: no pseudo labels for 4 rows.* folds 2, fold2. .* --folds 2 "):
        labels_of(run, ROWS, ())
    with pytest.raises(PseudoError, match=r"fold0and2: no pseudo.* never saw its folds 0, 1, 2: .*leave 'pairs' out"):
        labels_of(run, ROWS, (0, 2))
    (run / "fold0and1" / "state.pt").touch()  # not finished
    with pytest.raises(PseudoError, match="fold0: no pseudo labels for 8 rows"):
        labels_of(run, ROWS, (0,))


def test_folds_that_cross_or_are_too_few_are_refused(tmp_path):
    make_up(tmp_path / "source", ROWS, [*SINGLES, *PAIRS])
    crossing = made_up_rows(PATIENTS, [0, 1, 0, 1, 2, 2])
    with pytest.raises(PseudoError, match=r"cut the patients otherwise: .* --fold-table .*source/folds\.csv"):
        labels_of(tmp_path / "source", crossing, (0,))
    halves = made_up_rows(PATIENTS, [0, 0, 0, 1, 1, 1])
    make_up(tmp_path / "halves", halves, SINGLES[:2])
    with pytest.raises(PseudoError, match=r"never saw its folds 0, 1, and it has only these: .* 3 or more folds"):
        labels_of(tmp_path / "halves", halves, (0,))
    assert labels_of(tmp_path / "halves", halves, ()).models == ("fold0", "fold1")


def test_a_model_of_other_folds_is_not_believed(tmp_path):
    """A folder copied here from a run with other folds: its name says it never saw patient 1, its rows do not."""
    make_up(tmp_path / "source", ROWS, PAIRS)
    make_up(tmp_path / "other", made_up_rows(PATIENTS, [0, 2, 1, 1, 0, 2]), PAIRS)
    shutil.rmtree(tmp_path / "source/fold0and1")
    shutil.copytree(tmp_path / "other/fold0and1", tmp_path / "source/fold0and1")
    with pytest.raises(PseudoError, match=r"fold0and1/oof\.parquet does not have the rows .*which patients this model"):
        labels_of(tmp_path / "source", ROWS, (0,))


def test_last_weights_that_began_from_the_best_are_refused(tmp_path):
    """The best epoch was chosen by the votes held out: what starts from it knows them."""
    stages = [{}, {"start": "best"}]
    make_up(tmp_path / "source", ROWS, [*SINGLES, *PAIRS], experiment_of(stages=stages))
    with pytest.raises(PseudoError, match="start = 'best' goes on from weights chosen by the votes of the rows held"):
        labels_of(tmp_path / "source", ROWS, (0,))


def test_other_label_rows_and_no_run_at_all_are_refused(tmp_path):
    make_up(tmp_path / "source", ROWS, [*SINGLES, *PAIRS])
    changed = ROWS.with_columns(seizure_vote=pl.when(pl.col("eeg_id") == 7).then(4).otherwise("seizure_vote"))
    with pytest.raises(PseudoError, match=r"rows\.parquet has other label rows .*'votes'"):
        labels_of(tmp_path / "source", changed, (0,))
    with pytest.raises(RunError, match=r"no config\.json and no finished model here"):
        labels_of(tmp_path / "nowhere", ROWS, (0,))


def test_a_share_that_no_row_has_is_refused(tmp_path):
    make_up(tmp_path / "source", ROWS, [*SINGLES, *PAIRS])
    no_rows = experiment_of("student", [{"pseudo": 0.5, "pseudo_below": 4}])
    with pytest.raises(PseudoError, match="student: no stage with a share of pseudo labels has rows below"):
        labels_of(tmp_path / "source", ROWS, (0,), no_rows)


# ---- nothing leaks: whole trainings

LEARNING = {"epochs": 2, "batch_size": 4, "learning_rate": 4e-3, "augment": {"mirror": 0.5}}
SOURCE = experiment_of(stages=[LEARNING])
STUDENT = experiment_of("student", [LEARNING | {"pseudo": 1.0}])


def write_competition(folder, other_votes=()):
    """Six patients, each with an EEG of noise, one row of few and one of many votes; both cast at random.

    Those in `other_votes` are cast anew; all else is the same.
    """
    noise, votes, again = (np.random.default_rng(seed) for seed in (5, 6, 7))
    (folder / "train_eegs").mkdir(parents=True)
    lines = []
    for k in range(6):
        signal = noise.normal(0, 30, (10_800, 20)).astype(np.float32)
        pl.DataFrame(dict(zip(ELECTRODES, signal.T, strict=True))).write_parquet(folder / f"train_eegs/{k}.parquet")
        for i, n_votes in enumerate((4, 12)):
            first, second = votes.multinomial(n_votes, [1 / 6] * 6), again.multinomial(n_votes, [1 / 6] * 6)
            cast = ",".join(map(str, second if k in other_votes else first))
            consensus = "Seizure" if k % 2 else "Other"
            lines.append(f"{k},{2 * i},{k},{2 * i},{10 * k + i},{k},{consensus},{cast}")
    (folder / "train.csv").write_text("\n".join([HEAD, *lines]) + "\n")
    return folder


def train_both(folder, other_votes=()):
    """A competition, the models that teach, and the student's models of fold 0 and of all rows."""
    competition = write_competition(folder / "competition", other_votes)
    source = run_experiment(SOURCE, competition, folder, RunOptions(folds="all,pairs"))
    student = run_experiment(STUDENT, competition, folder, RunOptions(folds="0,full", pseudo=source))
    return SimpleNamespace(competition=competition, source=source, student=student)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_both(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def retrained(tmp_path_factory, trained):
    """The same with other votes of the patients in fold 0."""
    folds = pl.read_csv(trained.source / "folds.csv")
    return train_both(tmp_path_factory.mktemp("retrained"), folds.filter(fold=0)["patient_id"].to_list())


def arrays(case, held_out):
    rows = pl.read_parquet(case.source / "rows.parquet")
    return plan_pseudo(case.source, case.source / "none", STUDENT, rows, [held_out])[held_out].probabilities


def naive(case):
    """Out-of-fold predictions of the ordinary models, as pseudo labels are usually made."""
    return pl.read_parquet(case.source / "oof.parquet").sort("label_id").drop("eeg_id", "spectrogram_id")


def test_votes_held_out_change_no_pseudo_label_by_a_bit(trained, retrained):
    fold = pl.read_parquet(trained.source / "rows.parquet")["fold"].to_numpy()
    before, after = arrays(trained, (0,)), arrays(retrained, (0,))
    few = np.isfinite(before).all(axis=1)
    assert few.sum() == 4 and not few[fold == 0].any()
    assert before.tobytes() == after.tobytes()
    for held_out in ((1,), (2,), ()):  # those votes do matter where they may
        assert arrays(trained, held_out).tobytes() != arrays(retrained, held_out).tobytes()
    usual = [naive(case).filter(pl.col("fold") != 0) for case in (trained, retrained)]
    assert usual[0].select("label_id", *VOTES).equals(usual[1].select("label_id", *VOTES))
    assert (usual[0]["seizure"] != usual[1]["seizure"]).all()  # the usual ones would have leaked


def test_votes_held_out_change_no_weight_by_a_bit(trained, retrained):
    one, other = (load_file(case.student / "fold0/last.safetensors") for case in (trained, retrained))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    plain = load_file(trained.source / "fold0/last.safetensors")
    assert not torch.equal(one["classifier.weight"], plain["classifier.weight"])  # pseudo labels do matter
    one, other = (load_file(case.student / "full/last.safetensors") for case in (trained, retrained))
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])  # and so do those votes, elsewhere


def test_what_was_used_is_written_down(trained):
    known = json.loads((trained.student / "fold0/fold.json").read_text())["pseudo"]
    assert known.pop("sha256") and known == {"run": "source", "models": ["fold0and1", "fold0and2"], "rows": 4}
    known = json.loads((trained.student / "full/fold.json").read_text())["pseudo"]
    assert known["models"] == ["fold0", "fold1", "fold2"] and known["rows"] == 6
    assert json.loads((trained.source / "fold0/fold.json").read_text())["pseudo"] is None


def test_training_sees_the_last_epochs_predictions(trained, tmp_path, monkeypatch):
    """With a share of 1 the targets of the rows with few votes are what the pairs' models said, else the votes."""
    seen, original = {}, loop.targets_of

    def watched(data, rows, stage, device):
        target, n_votes = original(data, rows, stage, device)
        seen.update(zip(rows.tolist(), target.tolist(), strict=True))
        return target, n_votes

    monkeypatch.setattr(loop, "targets_of", watched)
    run_experiment(STUDENT, trained.competition, tmp_path, RunOptions(folds="0", pseudo=trained.source))
    rows = label_rows(trained.competition).join(pl.read_csv(trained.source / "folds.csv"), on="patient_id")
    assert sorted(seen) == [k for k, fold in enumerate(rows["fold"]) if fold]
    for k, target in seen.items():
        row = rows.row(k, named=True)
        expected = np.array([row[name] for name in VOTES]) / row["total_votes"]
        if row["total_votes"] < 10:
            oof = pl.read_parquet(trained.source / f"fold0and{row['fold']}/oof.parquet")
            (expected,) = oof.filter(label_id=row["label_id"]).select(probability_columns("last")).rows()
        np.testing.assert_allclose(target, expected, atol=1e-7)


# ---- runs that go on, and the command


def other_source(source, folder):
    """The same run, one of its models trained again and a little different."""
    shutil.copytree(source, folder)
    path = folder / "fold0and2/oof.parquet"
    table, (first, second, *_) = pl.read_parquet(path), probability_columns("last")
    table.with_columns(pl.col(first) * (1 - 1e-9), pl.col(second) + pl.col(first) * 1e-9).write_parquet(path)
    return folder


def test_a_run_goes_on_with_the_same_pseudo_labels_only(trained, tmp_path, monkeypatch):
    step, done = Optimisation.step, []

    def two_steps(self):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        step(self)

    changed = other_source(trained.source, tmp_path / "changed/source")
    monkeypatch.setattr(stages, "SECONDS_BETWEEN_SAVES", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Optimisation, "step", two_steps)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(STUDENT, trained.competition, tmp_path, RunOptions(folds="0", pseudo=trained.source))
    assert (tmp_path / "student/fold0/state.pt").exists()
    refused = r"student/fold0 was trained with pseudo labels of run source \(fold0and1, fold0and2\)"
    for folds in ("0", "1"):  # the models of one run share their pseudo labels' source
        with pytest.raises(PseudoError, match=refused):
            options = RunOptions(folds=folds, pseudo=changed, resume=True)
            run_experiment(STUDENT, trained.competition, tmp_path, options)
    assert not (tmp_path / "student/fold1").exists()
    same = shutil.copytree(trained.source, tmp_path / "elsewhere/source")
    run_experiment(STUDENT, trained.competition, tmp_path, RunOptions(folds="0", pseudo=same, resume=True))
    one, other = (load_file(run / "student/fold0/last.safetensors") for run in (tmp_path, trained.student.parent))
    assert all(torch.equal(one[key], other[key]) for key in one)


TOML = """
input = {kind = "bipolar-sequence", sfreq = 50}
model = {kind = "wave-net", width = 8, kernel = 3, dilations = [1]}
[training]
folds = 3
"""


def test_the_command_names_the_command_that_is_missing(trained, tmp_path, monkeypatch, capsys):
    def say(*words):
        monkeypatch.setattr(sys, "argv", ["train", *map(str, words)])
        code = verbs.main()
        return code, capsys.readouterr().err

    source = tmp_path / "source.toml"
    source.write_text(TOML + "stages = [{epochs = 1, batch_size = 4}]")
    (tmp_path / "student.toml").write_text(TOML + "stages = [{epochs = 1, batch_size = 4, pseudo = 0.5}]")
    places = ("--competition", trained.competition, "--out", tmp_path / "runs")
    student = ("run", tmp_path / "student.toml", *places, "--folds", "2,full")
    assert say("run", source, *places)[0] == 0
    code, error = say(*student, "--pseudo", tmp_path / "runs/source")
    assert code == 1 and "fold2: no pseudo labels for 4 rows" in error and not (tmp_path / "runs/student").exists()
    missing = shlex.split(error[error.index("python -m train") :].replace("DIR", str(trained.competition)))[3:]
    missing[1] = source
    assert say(*missing)[0] == 0
    code, error = say(*student, "--pseudo", tmp_path / "runs/source")
    assert code == 0, error
    assert json.loads((tmp_path / "runs/student/fold2/fold.json").read_text())["pseudo"]["rows"] == 4
    code, error = say(*student[:-2], "--folds", "pairs", "--resume", "--pseudo", tmp_path / "runs/source")
    assert code == 1 and "leave 'pairs' out of --folds" in error
    code, error = say(*student, "--resume")
    assert code == 1 and "--pseudo RUN says whose" in error
    code, error = say("run", source, *places, "--resume", "--pseudo", tmp_path / "runs/source")
    assert code == 1 and "no stage of this config has a share of them" in error
