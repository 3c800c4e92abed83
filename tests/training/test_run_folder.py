"""A run folder holds its own models only, whole, and is written by one command at a time."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from run_samples import make_rows, write_run
from training_stage import image, small, stage, write_competition

from train.augment.mixing import CutMix, mix_images
from train.data.labels import LabelError, label_rows
from train.engine.loop import train_batch
from train.engine.run import RunOptions, hold_run, run_experiment
from train.engine.run_folder import RunError, read_oof
from train.engine.state import TrainingError
from train.evaluate.runs import evaluate
from train.experiment import Augment
from train.export import export

RESUME = RunOptions(resume=True)


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    return write_competition(tmp_path_factory.mktemp("competition"))


@pytest.fixture(scope="module")
def trained(competition, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run = run_experiment(small(stages=[stage()]), competition, folder, RunOptions())
    other = run_experiment(small(stages=[stage()], seed=7), competition, tmp_path_factory.mktemp("other"), RunOptions())
    return run, other


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "runs" / trained[0].name)


def swapped_folds(run, _):
    shutil.rmtree(run / "fold1")
    shutil.copytree(run / "fold0", run / "fold1")


def fold_of_another_run(run, other):
    shutil.rmtree(run / "fold1")
    shutil.copytree(other / "fold1", run / "fold1")


def swapped_weights(run, _):
    shutil.copyfile(run / "fold0" / "last.safetensors", run / "fold1" / "last.safetensors")


def cut_weights(run, _):
    file = run / "fold1" / "last.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


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
        (fold_of_another_run, r"fold1 is fold1 of another run"),
        (swapped_weights, r"fold1/last\.safetensors is not what training wrote: damaged or swapped"),
        (cut_weights, r"fold1/last\.safetensors is not what training wrote"),
        (former_order, "fold1: trained with the regions in the order LL, RL, RP, LP"),
        (lost_facts, r"fold1/fold\.json cannot be read"),
    ],
)
def test_models_that_are_not_the_runs_own_are_not_exported_nor_taken_for_finished(
    run, trained, competition, tmp_path, damage, message
):
    export(run, tmp_path / "before")
    damage(run, trained[1])
    with pytest.raises(RunError, match=message):
        export(run, tmp_path / "weights")
    with pytest.raises(RunError, match=message):
        run_experiment(small(stages=[stage()]), competition, run.parent, RESUME)
    assert not (tmp_path / "weights").exists()


def test_predictions_of_another_folds_rows_are_not_scored(run, trained):
    assert read_oof(run).height == 16
    swapped_folds(run, None)
    for read in (read_oof, lambda folder: evaluate([folder], None)):
        with pytest.raises(RunError, match=r"fold1/oof\.parquet is not of the rows of fold 1"):
            read(run)


def test_models_without_their_config_are_not_taken_over(run, competition):
    (run / "config.json").unlink()
    for options in (RunOptions(), RESUME):
        with pytest.raises(RunError, match=r"tiny-wave has fold0, fold1 and no config\.json: remove it, or put"):
            run_experiment(small(seed=3), competition, run.parent, options)
    assert not (run / "config.json").exists()


def test_one_command_writes_to_a_run_at_a_time(run, competition):
    with hold_run(run), pytest.raises(RunError, match="tiny-wave is being written by another command"):
        run_experiment(small(stages=[stage()]), competition, run.parent, RESUME)
    assert run_experiment(small(stages=[stage()]), competition, run.parent, RESUME) == run


# ---- other findings


@pytest.mark.parametrize("column", ["eeg_id", "spectrogram_id"])
def test_a_recording_of_two_patients_is_refused(competition, tmp_path, column):
    table = pl.read_csv(competition / "train.csv")
    torn = table.with_columns(pl.when(pl.col(column) == 3, pl.int_range(pl.len()) % 2 == 1).then(99)
                              .otherwise("patient_id").alias("patient_id"))  # fmt: skip
    torn.write_csv(tmp_path / "train.csv")
    with pytest.raises(LabelError, match="1 eeg_ids under several patients: 3"):
        label_rows(tmp_path)
    distinct = torn.with_columns(eeg_id=pl.int_range(pl.len()))
    distinct.write_csv(tmp_path / "train.csv")
    with pytest.raises(LabelError, match="1 spectrogram_ids under several patients: 3"):
        label_rows(tmp_path)


def test_whole_eegs_have_no_floor(tmp_path):
    rows = make_rows()
    truth = tmp_path / "truth.csv"
    rows.with_columns(pl.lit(1 / 6).alias(c) for c in rows.columns if c.endswith("_vote")).write_csv(truth)
    evaluate([write_run(tmp_path / "windows", rows)], truth)
    with pytest.raises(RunError, match=r"one label row for each EEG, .* knows windows: leave --truth out"):
        evaluate([write_run(tmp_path / "eegs", rows, labels="eeg")], truth)


def test_bands_wider_than_the_image_are_refused_before_training(competition, tmp_path):
    narrow = image(stage(augment={"cutmix": {}}))  # 75 columns
    with pytest.raises(RunError, match="length = 300 steps of time, the image has 75: set length"):
        run_experiment(narrow, competition, tmp_path, RunOptions())
    high = image(stage(augment={"cutmix": {"axis": "frequency", "length": 101, "margin": 0}}))
    with pytest.raises(RunError, match="length = 101 steps of frequency, the image has 100"):
        run_experiment(high, competition, tmp_path, RunOptions())
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


def test_the_cpus_memory_is_spoken_of_as_the_gpus(competition, tmp_path, monkeypatch):
    def fails(*given):
        train_batch(*given)
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr("train.engine.loop.train_batch", fails)
    with pytest.raises(
        TrainingError, match=r"does not fit in the memory of cpu: in training.stages set batch_size = 2"
    ):
        run_experiment(small(), competition, tmp_path, RunOptions())
    assert json.loads((tmp_path / "tiny-wave/fold0/fold.json").read_text())["member"][0] == "fold0"
    assert np.isfinite(label_rows(competition)["total_votes"].to_numpy()).all()
