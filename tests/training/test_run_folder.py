"""A run folder holds its own models only, whole, and is written by one command at a time."""

import json
import shutil

import polars as pl
import pytest
import torch
from run_samples import make_rows, write_run
from training_stage import image, small, stage

from train.augment.mixing import CutMix, mix_images
from train.engine.run import RunOptions, hold_run, run_experiment
from train.engine.run_folder import RunError, read_oof
from train.evaluate.runs import evaluate
from train.experiment import Augment
from train.export import export

RESUME = RunOptions(resume=True)


@pytest.fixture(scope="module")
def trained(noise, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run = run_experiment(small(stages=[stage()]), noise, folder, RunOptions())
    other = run_experiment(small(stages=[stage()], seed=7), noise, tmp_path_factory.mktemp("other"), RunOptions())
    return run, other


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "runs" / trained[0].name)


def swapped_folds(run, _):
    shutil.rmtree(run / "fold1")
    shutil.copytree(run / "fold0", run / "fold1")


def swapped_weights(run, _):
    shutil.copyfile(run / "fold0" / "last.safetensors", run / "fold1" / "last.safetensors")


def former_order(run, _):
    """As trained before the kit took the order of the competition's files."""
    facts = json.loads((run / "fold1" / "fold.json").read_text())
    assert facts.pop("regions") == ["LL", "RL", "LP", "RP"]
    (run / "fold1" / "fold.json").write_text(json.dumps(facts))


def lost_facts(run, _):
    (run / "fold1" / "fold.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (swapped_folds, r"fold1 is fold0 of another run: remove its folder and train it again"),
        (swapped_weights, r"fold1/last\.safetensors is not what training wrote: damaged or swapped"),
        (former_order, "fold1: trained with the regions in the order LL, RL, RP, LP"),
        (lost_facts, r"fold1/fold\.json cannot be read"),
    ],
)
def test_models_that_are_not_the_runs_own_are_not_exported_nor_taken_for_finished(
    run, trained, noise, tmp_path, damage, message
):
    export(run, tmp_path / "before")
    damage(run, trained[1])
    with pytest.raises(RunError, match=message):
        export(run, tmp_path / "weights")
    with pytest.raises(RunError, match=message):
        run_experiment(small(stages=[stage()]), noise, run.parent, RESUME)
    assert not (tmp_path / "weights").exists()


def test_predictions_of_another_folds_rows_are_not_scored(run, trained):
    assert read_oof(run).height == 16
    swapped_folds(run, None)
    for read in (read_oof, lambda folder: evaluate([folder], None)):
        with pytest.raises(RunError, match=r"fold1/oof\.parquet is not of the rows of fold 1"):
            read(run)


def test_models_without_their_config_are_not_taken_over(run, noise):
    (run / "config.json").unlink()
    for options in (RunOptions(), RESUME):
        with pytest.raises(RunError, match=r"tiny-wave has fold0, fold1 and no config\.json: remove it, or put"):
            run_experiment(small(seed=3), noise, run.parent, options)
    assert not (run / "config.json").exists()


def test_one_command_writes_to_a_run_at_a_time(run, noise):
    with hold_run(run), pytest.raises(RunError, match="tiny-wave is being written by another command"):
        run_experiment(small(stages=[stage()]), noise, run.parent, RESUME)
    assert run_experiment(small(stages=[stage()]), noise, run.parent, RESUME) == run


def test_whole_eegs_have_no_floor(tmp_path):
    rows = make_rows()
    truth = tmp_path / "truth.csv"
    rows.with_columns(pl.lit(1 / 6).alias(c) for c in rows.columns if c.endswith("_vote")).write_csv(truth)
    evaluate([write_run(tmp_path / "windows", rows)], truth)
    with pytest.raises(RunError, match=r"one label row for each EEG, .* knows windows: leave --truth out"):
        evaluate([write_run(tmp_path / "eegs", rows, labels="eeg")], truth)


def test_bands_wider_than_the_image_are_refused_before_training(noise, tmp_path):
    narrow = image(stage(augment={"cutmix": {}}))  # 75 columns
    with pytest.raises(RunError, match="length = 300 steps of time, the image has 75: set length"):
        run_experiment(narrow, noise, tmp_path, RunOptions())
    high = image(stage(augment={"cutmix": {"axis": "frequency", "length": 101, "margin": 0}}))
    with pytest.raises(RunError, match="length = 101 steps of frequency, the image has 100"):
        run_experiment(high, noise, tmp_path, RunOptions())
    assert not list(tmp_path.iterdir())


def test_cutmix_knows_a_class_by_the_votes_and_not_by_smoothed_targets():
    images = torch.arange(4.0)[:, None, None, None].expand(4, 1, 40, 300).clone()
    cast = torch.zeros(4, 6).index_fill(1, torch.tensor([2]), 1.0)
    smoothed, votes = (3 * cast + 2) / 15, torch.full((4,), 3.0)  # a third of the votes: below the threshold
    augment = Augment(cutmix=CutMix(chance=1.0))
    given = [
        mix_images(images, smoothed, votes, augment, torch.Generator().manual_seed(1), *c)[0] for c in ((), (cast,))
    ]
    assert torch.equal(given[0], images) and not torch.equal(given[1], images)
