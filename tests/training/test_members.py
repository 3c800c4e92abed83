"""The models of a run: folds, further seeds, the full fit, pairs; what is made of each, and what others see of them."""

import ctypes
import json
import os
import shutil
from importlib.util import find_spec

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from training_stage import PROCESSES, image, same_weights, small, stage

from common.inputs.config import BipolarSequence
from common.memory import M_MMAP_THRESHOLD
from common.schema import PATTERNS
from common.weights import load_weights, read_manifest
from train.data.labels import label_rows
from train.data.recording_kinds import EEGS
from train.data.store_build import open_store
from train.data.windows import TrainingWindows
from train.engine.run import RunOptions, run_experiment
from train.engine.run_folder import FoldModel, RunError, finished_models, model_of, read_oof
from train.evaluate.runs import evaluate
from train.export import export

ONE = small(folds=3, stages=[stage(batch_size=8)])
EXPORTED = ["fold0", "fold0-seed1", "fold1", "fold1-seed1", "fold2", "fold2-seed1", "full", "full-seed1"]
BOTH = [f"{pattern}_{which}" for which in ("last", "best") for pattern in PATTERNS]
SIZES = (6, 6, 4)  # label rows of the folds
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(noise, tmp_path_factory):
    """Grown in three sittings: one fold; all folds with a second seed and the full fit; pairs."""
    out = tmp_path_factory.mktemp("runs")
    run_experiment(ONE, noise, out, RunOptions(folds="0"))
    first = (out / ONE.name / "fold0/last.safetensors").read_bytes()
    run_experiment(ONE, noise, out, RunOptions(folds="all,full", seeds=2, resume=True))
    run = run_experiment(ONE, noise, out, RunOptions(folds="pairs,0", resume=True))
    assert (run / "fold0/last.safetensors").read_bytes() == first  # what is finished stays
    return run


def test_names_of_members_and_back():
    for name, member in (
        ("fold11-seed3", FoldModel((11,), 3)),
        ("full", FoldModel(())),
        ("fold0and2", FoldModel((0, 2))),
    ):
        assert member.name == name and model_of(name) == member
    for other in ("folds", "full0", "fold0and", "tensorboard", "fold0.partial", "xfold0"):
        assert model_of(other) is None


def test_members_are_what_was_asked_for_each_with_draws_of_its_own(run):
    names = {*EXPORTED, "fold0and1", "fold0and2", "fold1and2"}
    assert {member.name for member in finished_models(run)} == names
    assert {path.name for path in run.iterdir() if path.is_dir()} == names
    for name in names:
        files = {path.name for path in (run / name).iterdir()}
        scored = {"best.safetensors", "oof.parquet"} if model_of(name).held_out else set()
        assert files == {"fold.json", "epochs.csv", "last.safetensors"} | scored
        facts = json.loads((run / name / "fold.json").read_text())
        assert facts["train_rows"] == 16 - sum(SIZES[fold] for fold in model_of(name).held_out)
    stems = [load_file(run / name / "last.safetensors")["stem.weight"] for name in names]
    assert all(not torch.equal(stems[i], stems[j]) for i in range(len(stems)) for j in range(i))


def test_a_member_is_the_same_alone_and_among_others(run, noise, tmp_path):
    alone = run_experiment(ONE, noise, tmp_path, RunOptions(folds="full,1"))
    for name in ("full/last", "fold1/last", "fold1/best"):
        assert same_weights(alone / f"{name}.safetensors", run / f"{name}.safetensors")


def test_out_of_fold_is_the_mean_over_seeds_and_nothing_of_pairs_or_the_full_fit(run):
    table = read_oof(run)
    assert table.height == 16 and table["label_id"].n_unique() == 16
    merged = pl.read_parquet(run / "oof.parquet")
    for fold in range(3):
        seeds = [pl.read_parquet(run / name / "oof.parquet") for name in (f"fold{fold}", f"fold{fold}-seed1")]
        values = [seed.select(BOTH).to_numpy() for seed in seeds]
        assert not np.allclose(*values, atol=1e-4)
        found = table.filter(pl.col("fold") == fold)
        np.testing.assert_allclose(found.select(BOTH).to_numpy(), (values[0] + values[1]) / 2, rtol=1e-12)
        assert found["label_id"].equals(seeds[0]["label_id"])
        of_last = merged.filter(pl.col("fold") == fold).select(PATTERNS).to_numpy()
        np.testing.assert_array_equal(of_last, found.select(BOTH[:6]).to_numpy())
    assert evaluate([run], None) is not None


def test_an_export_has_all_models_but_pairs(run, tmp_path):
    folder = export(run, tmp_path)
    assert sorted(path.stem for path in folder.glob("*.safetensors")) == EXPORTED
    manifest, _ = read_manifest(folder)
    entries = {entry.file.removesuffix(".safetensors"): entry for entry in manifest.folds}
    assert sorted(entries) == EXPORTED
    for name, entry in entries.items():
        full = name.startswith("full")
        assert (entry.fold, entry.seed) == (None if full else int(name[4]), int("seed1" in name))
        held_out = 0 if full else SIZES[entry.fold]
        assert (entry.train_rows, entry.validation_rows) == (16 - held_out, held_out)
        assert (entry.last_kl is None) == (entry.best_kl is None) == full
        assert same_weights(folder / entry.file, run / name / "last.safetensors")
    assert len(load_weights(folder, CPU).models) == 8


def test_pairs_alone_are_neither_exported_nor_evaluated(run, tmp_path):
    pairs = shutil.copytree(run, tmp_path / run.name)
    for member in finished_models(pairs):
        if len(member.held_out) != 2:
            shutil.rmtree(pairs / member.name)
    assert [member.name for member in finished_models(pairs)] == ["fold0and1", "fold0and2", "fold1and2"]
    assert set(pl.read_parquet(pairs / "fold0and2/oof.parquet")["fold"]) == {0, 2}
    with pytest.raises(RunError, match="no fold and no full fit is finished"):
        export(pairs, tmp_path / "weights")
    with pytest.raises(RunError, match="no fold is finished"):
        evaluate([pairs], None)
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("labels", ["eeg", pytest.param("window", marks=pytest.mark.slow)])
def test_other_label_rows_go_the_whole_way(noise, tmp_path, labels):
    experiment = small(labels=labels, stages=[stage(epochs=1), stage(rows={"min_votes": 10}, loss="modified")])
    run = run_experiment(experiment, noise, tmp_path, RunOptions())
    rows, table = label_rows(noise, labels), read_oof(run)
    assert table.height == rows.height == {"eeg": 8, "window": 16}[labels]
    assert sorted(table["label_id"]) == sorted(rows["label_id"])
    assert evaluate([run], None) is not None and export(run, tmp_path / "weights").is_dir()
    log = pl.read_csv(run / "fold0/epochs.csv")
    assert log["validation_kl_many"].null_count() == 0  # 12 of 15 votes are many, though shares of them are not whole


@pytest.mark.slow
def test_tensorboard_is_an_option(noise, tmp_path):
    if find_spec("tensorboard") is None:
        pytest.skip("the package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = RunOptions(folds="0", tensorboard=True)
    run = run_experiment(image(stage(epochs=2)), noise, tmp_path, options)
    told = EventAccumulator(str(run / "fold0/tensorboard")).Reload()
    log = pl.read_csv(run / "fold0/epochs.csv")
    for name in ("train_loss", "validation_kl", "learning_rate"):
        found = [event.value for event in told.Scalars(name)]
        np.testing.assert_allclose(found, log[name], rtol=1e-6)


# ---- memory


def anonymous():
    """MiB of this process that no file stands behind."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024


def measure_reading(noise, rows, answers):
    """By how much memory grows while the windows of all rows are read; what is freed goes back at once."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**20)
    windows = TrainingWindows(noise, rows, BipolarSequence())
    reads, before = windows.batches(np.arange(rows.height), 4, CPU), anonymous()
    answers.put(max(anonymous() for _ in reads) - before)


@pytest.mark.slow
def test_reading_takes_no_more_memory_for_more_recordings(noise, tmp_path):
    (tmp_path / "train_eegs").mkdir()
    for k in range(160):
        os.link(noise / f"train_eegs/{k % 8}.parquet", tmp_path / f"train_eegs/{k}.parquet")
    open_store(EEGS, tmp_path, tmp_path / "store", range(160))
    answers, grown = PROCESSES.SimpleQueue(), {}
    for number in (20, 160):  # 17 and 132 MiB of recordings
        rows = pl.DataFrame({"eeg_id": range(number), "eeg_start": [0] * number, "eeg_starts": [[0]] * number})
        process = PROCESSES.Process(target=measure_reading, args=(tmp_path, rows, answers), daemon=True)
        process.start()
        process.join(120)
        assert process.exitcode == 0
        grown[number] = answers.get()
    assert grown[160] - grown[20] < 20, grown
