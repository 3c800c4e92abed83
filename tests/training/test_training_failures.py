"""A training that cannot work says so before it reads data or writes anything; one that breaks says why."""

import itertools
import resource
import shutil
from unittest import mock

import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from training_stage import (
    PROCESSES,
    finished_run,
    image,
    run_command,
    same_weights,
    small,
    stage,
    write_competition,
    write_config,
)

from common.errors import KitError
from train.engine import loop
from train.engine.optim import ModelOptimizer
from train.engine.run import RunOptions, run_experiment
from train.engine.run_folder import RunError

# ---- before anything is read or written


@pytest.fixture(scope="module")
def only_labels(tmp_path_factory):
    """A competition without a single recording."""
    folder = write_competition(tmp_path_factory.mktemp("labels"))
    for half in ("train_eegs", "train_spectrograms"):
        shutil.rmtree(folder / half)
    return folder


def write_tables(folder):
    """Tables of folds and weights files that are of no use."""
    pl.DataFrame({"patient_id": range(8), "fold": [0, 1, 2] * 2 + [0, 1]}).write_csv(folder / "three.csv")
    pl.DataFrame({"patient_id": [0, *range(8)], "fold": [1, *[0, 1] * 4]}).write_csv(folder / "torn.csv")
    (folder / "text.safetensors").write_text("no weights")
    save_file({"conv.weight": torch.zeros(1)}, folder / "other.safetensors")


VIT = {"kind": "spectrogram-transformer", "backbone": "resnet18", "pretrained": False}
REFUSED = {
    "unknown backbone": (image(model={"backbone": "no_such_net"}), {}, "no_such_net"),
    "no transformer": (image(model=VIT), {}, "resnet18"),
    "stage without rows": (
        small(stages=[stage(), stage(rows={"min_votes": 50})]),
        {},
        "fold0, stage 1: not one of 8 training rows is what a stage asks for: rows {'min_votes': 50}",
    ),
    "no pretrained file": (image(), {"pretrained": "none.safetensors"}, "no such file"),
    "pretrained text": (image(), {"pretrained": "text.safetensors"}, "neither a safetensors file nor a state dict"),
    "pretrained of another": (image(), {"pretrained": "other.safetensors"}, "does not fit test_efficientnet"),
    "pretrained without backbone": (small(), {"pretrained": "other.safetensors"}, "--pretrained does not apply"),
    "three folds": (small(), {"fold_table": "three.csv"}, "has 3 folds, the config's training.folds is 2"),
    "patient in two folds": (small(), {"fold_table": "torn.csv"}, "patient 0 is in 2 folds"),
    "too many folds": (small(folds=9), {}, "9 folds need as many patients, train.csv has 8"),
    "fold that is not": (small(), {"folds": "0,2"}, "numbers from 0 to 1"),
    "pseudo labels of nobody": (small(stages=[stage(pseudo=0.5)]), {}, "--pseudo RUN says whose"),
    "tensorboard": (small(), {"tensorboard": True}, "pip install tensorboard"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_data_is_read_or_anything_written(only_labels, tmp_path, monkeypatch, case):
    experiment, options, message = REFUSED[case]
    write_tables(tmp_path)
    monkeypatch.setattr("train.engine.plan.find_spec", lambda name: None)
    paths = {key: tmp_path / value for key, value in options.items() if key in ("pretrained", "fold_table")}
    with pytest.raises(KitError) as caught:
        run_experiment(experiment, only_labels, tmp_path / "runs", RunOptions(**options | paths))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists() and not (only_labels / "store").exists()


# ---- while training


def test_a_loss_that_is_not_a_number_names_its_batch(noise, tmp_path, monkeypatch):
    calls, row_loss = itertools.count(), loop.row_loss
    broken = lambda *given: row_loss(*given) * (torch.nan if next(calls) == 5 else 1)  # noqa: E731
    monkeypatch.setattr(loop, "row_loss", broken)
    targets_of = mock.Mock(side_effect=loop.targets_of)
    monkeypatch.setattr(loop, "targets_of", targets_of)
    with pytest.raises(RunError, match="stage 0, epoch 1, batch 1: the loss is nan in the batch with") as caught:
        run_experiment(small(stages=[stage(epochs=2, batch_size=2)]), noise, tmp_path, RunOptions(folds="0"))
    table = pl.read_parquet(tmp_path / "tiny-wave/rows.parquet")
    rows = targets_of.call_args_list[5].args[1]
    assert f"label_id {table['label_id'].to_numpy()[rows].tolist()}: lower learning_rate" in str(caught.value)
    state = torch.load(tmp_path / "tiny-wave/fold0/state.pt", weights_only=True)
    assert all(values.isfinite().all() for values in state["model"].values())  # as it was before


def test_weights_that_have_run_away_are_not_kept(noise, tmp_path, monkeypatch):
    """Also where nothing is held out, and no loss follows that would tell."""
    step = ModelOptimizer.step

    def too_far(self):
        step(self)
        self.model.classifier.bias.data.fill_(torch.inf)

    monkeypatch.setattr(ModelOptimizer, "step", too_far)
    for folds, message in (("0", "no finite prediction for label_id"), ("full", "full: weights are not numbers")):
        with pytest.raises(RunError, match=f"{message}.*: lower (the )?learning.rate"):
            run_experiment(small(stages=[stage(batch_size=16)]), noise, tmp_path, RunOptions(folds, resume=True))
    assert not list(tmp_path.glob("*/*/*.safetensors"))


def test_memory_that_does_not_suffice_says_which_setting_to_change(noise, tmp_path, monkeypatch):
    on_gpu, on_cpu = (
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] can't allocate memory: "),
    )
    for place, error in (("train.engine.loop.build_input", on_cpu), ("train.engine.optim.ModelOptimizer.step", on_gpu)):
        with monkeypatch.context() as patch:
            patch.setattr(place, mock.Mock(side_effect=error))
            with pytest.raises(RunError, match="set batch_size = 2 and accumulate = 2") as caught:
                run_experiment(small(), noise, tmp_path / place, RunOptions(folds="0"))
            assert "a batch of 4 does not fit in the memory of cpu" in str(caught.value)
    monkeypatch.setattr("train.engine.loop.build_input", mock.Mock(side_effect=on_gpu))
    with pytest.raises(RunError, match="memory of cpu: take a smaller backbone or input"):
        run_experiment(small(stages=[stage(batch_size=1)]), noise, tmp_path, RunOptions(folds="0"))


def with_little_room(words, environment, output, saves, room):
    """The command on a disk that takes files of so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    run_command(words, environment, output, saves)


@pytest.mark.slow
def test_a_full_disk_leaves_no_half_files_and_the_run_goes_on_later(noise, tmp_path):
    experiment, output = image(stage(epochs=2)), tmp_path / "output"
    config = write_config(experiment, tmp_path / "configs")
    finished_run(config, noise, tmp_path / "whole", "--folds", "0", output=output)
    size = (tmp_path / "whole/tiny-image/fold0/best.safetensors").stat().st_size
    words = ("run", config, "--competition", noise, "--out", tmp_path / "runs", "--folds", "0")
    for room, file, resume in ((size // 2, "best-stage0.safetensors", ()), (size * 2, "state.pt", ("--resume",))):
        given = ((*words, *resume), {}, output, 600.0, room)
        process = PROCESSES.Process(target=with_little_room, args=given, daemon=True)
        process.start()
        process.join(120)
        told = output.read_text()
        assert process.exitcode == 1 and f"{file} cannot be written (" in told and "Traceback" not in told, told
        assert "make room, then --resume goes on" in told and not list((tmp_path / "runs").rglob("*.partial"))
    finished_run(config, noise, tmp_path / "runs", "--folds", "0", "--resume", output=output)
    for name in ("last.safetensors", "best.safetensors"):
        assert same_weights(tmp_path / "runs/tiny-image/fold0" / name, tmp_path / "whole/tiny-image/fold0" / name)
