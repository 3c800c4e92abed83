"""Pseudo labels: no vote of a patient held out reaches a model, by bookkeeping."""

import shutil

import numpy as np
import polars as pl
import pytest
import torch
from training_stage import small, stage

from common.schema import VOTES
from train.engine.loop import targets_of
from train.engine.pseudo_labels import (
    make_pseudo,
    plan_pseudo,
    read_teachers,
    refuse_leaks,
    rows_with_pseudo,
)
from train.engine.run_folder import FoldModel, RunError, probability_columns
from train.engine.state import FoldData
from train.experiment import Stage

# ---- targets


def test_targets_are_mixed_by_hand():
    votes = np.array([[3, 0, 0, 0, 0, 1], [6, 0, 0, 0, 0, 4], [0, 0, 9, 0, 0, 0]], float)
    votes = np.vstack([votes, np.array([1, 2, 0, 0, 0, 0]) / 3 * 10 * (1 - 1e-12)])  # 10 votes but for rounding
    nan = np.full(6, np.nan)
    pseudo = np.array([[0.5, 0.1, 0.1, 0.1, 0.1, 0.1], nan, [0, 0, 0.6, 0, 0.4, 0], nan])
    data = FoldData(None, None, votes, np.arange(4), np.arange(0), pseudo)
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
    smoothed, _ = targets_of(data, np.arange(1), Stage(pseudo=0.5, smoothing=1), torch.device("cpu"))  # the votes alone
    np.testing.assert_allclose(smoothed, [[0.2 + 0.25, 0.1, 0.1, 0.1, 0.1, 0.1 + 0.05]], atol=1e-7)


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


def make_up(run, rows, members, experiment=None):
    """A run folder of models whose predictions are numbers that tell whose they are; returns them by name."""
    experiment = experiment or small(name="source", folds=len(rows["fold"].unique()), stages=[stage()])
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


SINGLES = [FoldModel((k,)) for k in range(3)]
PAIRS = [FoldModel((0, 1)), FoldModel((0, 2)), FoldModel((1, 2))]
PATIENTS = np.repeat(np.arange(6), 2)
ROWS = made_up_rows(PATIENTS, [0, 0, 1, 1, 2, 2])


def labels_of(run, rows, held_out, experiment=None):
    experiment = experiment or small(name="student", folds=3, stages=[stage(pseudo=0.5)])
    return plan_pseudo(run, run.parent / "none", experiment, rows, [held_out])[held_out]


def test_folds_learn_from_pairs_and_the_full_fit_from_folds(tmp_path):
    said = make_up(tmp_path / "source", ROWS, [*SINGLES, *PAIRS, FoldModel((1, 2), 1), FoldModel((), 0)])
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
        chosen[number, rows_of.get(teacher.model.name, [])] = True
    return chosen


def test_a_leaking_assignment_is_refused_whoever_made_it(tmp_path):
    """By hand, for the model of fold 0 (patients 0 and 1): its training rows are 4 to 11, of patients 2 to 5."""
    make_up(tmp_path / "source", ROWS, [*SINGLES, *PAIRS])
    teachers, held_out = read_teachers(tmp_path / "source", ROWS), PATIENTS < 2

    def refuse(**rows_of):
        refuse_leaks(teachers, assignment(teachers, **rows_of), PATIENTS, held_out, "source")

    refuse()
    refuse(fold0and1=[4, 5, 6, 7], fold0and2=[8, 9, 10, 11])
    with pytest.raises(RunError, match=r"^patient 4: source/fold0and1 was trained on .* \(1 such patients\)"):
        refuse(fold0and1=[4, 5, 6, 7, 8], fold0and2=[9, 10, 11])
    with pytest.raises(RunError, match=r"^patient 0 is held out, but source/fold1 was trained on .* \(2 such"):
        refuse(fold1=[4, 5, 6, 7], fold0and2=[8, 9, 10, 11])  # the naive choice: out-of-fold predictions
    with pytest.raises(RunError, match=r"^patient 0 is held out, but source/fold1and2 was trained on"):
        refuse(fold1and2=[4], fold0and1=[5, 6, 7])
    with pytest.raises(RunError, match=r"^patient 2: source/fold0 was trained on"):
        refuse(fold0=[4])


@pytest.mark.parametrize("seed", range(3))
def test_every_choice_agrees_with_a_search_over_patients(tmp_path, seed):
    """Against plain sets, for runs whose folds are finer than the source's and numbered otherwise."""
    rng = np.random.default_rng(seed)
    patients = np.sort(np.append(np.arange(16), rng.integers(0, 16, 24)))
    coarse = rng.permutation(np.arange(16) % 4)
    finer = rng.permutation(8)[coarse + 4 * rng.integers(0, 2, 16)]
    theirs, rows = made_up_rows(patients, coarse), made_up_rows(patients, finer)
    everyone = [FoldModel((a,), s) for a in range(4) for s in (0, 1)]
    everyone += [FoldModel((a, b), s) for a in range(4) for b in range(a + 1, 4) for s in (0, 1)]
    lacking = rng.permutation([one for one in range(len(everyone)) if everyone[one].seed])[:5]
    members = [one for number, one in enumerate(everyone) if number not in lacking]
    said = make_up(tmp_path / "source", theirs, members)
    teachers = read_teachers(tmp_path / "source", rows)
    for held_out in [(), *((k,) for k in np.unique(finer).tolist())]:
        labels = make_pseudo(tmp_path / "source", teachers, rows, np.full(rows.height, True), FoldModel(held_out))
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


# ---- refusals


def test_missing_models_are_named_with_the_command_that_makes_them(tmp_path):
    make_up(tmp_path / "source", ROWS, [SINGLES[0], SINGLES[1], PAIRS[0]])
    run = tmp_path / "source"
    pairs = rf"fold0: no pseudo labels for 4 rows, first of patient 4: .*{run} that never saw its folds 0, 2, fold0and2"
    with pytest.raises(RunError, match=pairs + rf"\. Train it: .* source.toml .*--out {tmp_path} --folds pairs "):
        labels_of(run, ROWS, (0,))
    with pytest.raises(RunError, match=r"full: no pseudo labels for 4 rows.* folds 2, fold2. .* --folds 2 "):
        labels_of(run, ROWS, ())
    with pytest.raises(RunError, match=r"fold0and2: no pseudo.* never saw its folds 0, 1, 2, .*leave 'pairs' out"):
        labels_of(run, ROWS, (0, 2))
    (run / "fold0and1" / "state.pt").touch()  # not finished
    with pytest.raises(RunError, match="fold0: no pseudo labels for 8 rows"):
        labels_of(run, ROWS, (0,))


def test_folds_that_cross_or_are_too_few_are_refused(tmp_path):
    make_up(tmp_path / "source", ROWS, [*SINGLES, *PAIRS])
    crossing = made_up_rows(PATIENTS, [0, 1, 0, 1, 2, 2])
    with pytest.raises(RunError, match=r"give both runs the same folds \(--fold-table .*source/folds\.csv"):
        labels_of(tmp_path / "source", crossing, (0,))
    halves = made_up_rows(PATIENTS, [0, 0, 0, 1, 1, 1])
    make_up(tmp_path / "halves", halves, SINGLES[:2])
    with pytest.raises(RunError, match=r"never saw its folds 0, 1, and there can be none: .* 3 or more of them"):
        labels_of(tmp_path / "halves", halves, (0,))
    assert labels_of(tmp_path / "halves", halves, ()).models == ("fold0", "fold1")


def test_a_model_of_other_folds_is_not_believed(tmp_path):
    """A folder copied here from a run with other folds: its name says it never saw patient 1, its rows do not."""
    make_up(tmp_path / "source", ROWS, PAIRS)
    make_up(tmp_path / "other", made_up_rows(PATIENTS, [0, 2, 1, 1, 0, 2]), PAIRS)
    shutil.rmtree(tmp_path / "source/fold0and1")
    shutil.copytree(tmp_path / "other/fold0and1", tmp_path / "source/fold0and1")
    with pytest.raises(RunError, match=r"fold0and1/oof\.parquet does not have the rows .*which patients this model"):
        labels_of(tmp_path / "source", ROWS, (0,))


def test_runs_that_cannot_teach_are_refused(tmp_path):
    everyone = [*SINGLES, *PAIRS]
    make_up(tmp_path / "source", ROWS, everyone)
    changed = ROWS.with_columns(seizure_vote=pl.when(pl.col("eeg_id") == 7).then(4).otherwise("seizure_vote"))
    with pytest.raises(RunError, match=r"rows\.parquet has other label rows .*'votes'"):
        labels_of(tmp_path / "source", changed, (0,))
    with pytest.raises(RunError, match=r"no config\.json and no finished model here"):
        labels_of(tmp_path / "nowhere", ROWS, (0,))
    no_rows = small(name="student", folds=3, stages=[stage(pseudo=0.5, pseudo_below=4)])
    with pytest.raises(RunError, match="student: no stage with a share of pseudo labels has rows below"):
        labels_of(tmp_path / "source", ROWS, (0,), no_rows)
    # The best epoch was chosen by the votes held out: what starts from it knows them.
    make_up(tmp_path / "best", ROWS, everyone, small(folds=3, stages=[stage(), stage(start="best")]))
    with pytest.raises(RunError, match="start = 'best' goes on from weights chosen by the votes of the rows held"):
        labels_of(tmp_path / "best", ROWS, (0,))
    # Row 5 of patient 2 in another fold: fold numbers alone would let fold0and1 speak of row 4.
    make_up(tmp_path / "torn", ROWS.with_columns(fold=pl.when(pl.col("eeg_id") == 5).then(2).otherwise("fold")), PAIRS)
    with pytest.raises(RunError, match="patient 2: torn/fold0and1 was trained on"):
        labels_of(tmp_path / "torn", ROWS, (0,))
