"""A training that cannot work says so before it reads data or writes anything; one that breaks says why."""

import itertools
import resource
import shutil

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

from common.command_line import parse
from common.errors import KitError
from common.strict import ConfigError
from train.cli import app
from train.engine import fold_model, loop
from train.engine.optim import ModelOptimizer
from train.engine.run import RunOptions, run_experiment
from train.engine.state import TrainingError
from train.experiment import load_experiment

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


def test_refused_where_it_is_written(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse(app, ["run", "c.toml", "--competition", "d", "--out", "r", "--seeds", "0"])
    assert "0 is not a whole number from 1" in capsys.readouterr().err
    (tmp_path / "mixed-up.toml").write_text('input = {kind = "kaggle-image"}\nmodel = {kind = "wave-net"}\n')
    with pytest.raises(ConfigError, match="input 'kaggle-image' goes with model spectrogram-cnn"):
        load_experiment(tmp_path / "mixed-up.toml")


# ---- while training


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    return write_competition(tmp_path_factory.mktemp("competition"))


def rows_seen(monkeypatch):
    seen, targets_of = [], loop.targets_of

    def watched(data, rows, *more):
        seen.append(rows)
        return targets_of(data, rows, *more)

    monkeypatch.setattr(loop, "targets_of", watched)
    return seen


@pytest.mark.parametrize(
    "saves", [600.0, pytest.param(0.0, marks=pytest.mark.slow)], ids=["at the epoch's end", "at the next save"]
)
def test_a_loss_that_is_not_a_number_names_its_batch(competition, tmp_path, monkeypatch, saves):
    calls, row_loss, seen = itertools.count(), loop.row_loss, rows_seen(monkeypatch)
    broken = lambda *given: row_loss(*given) * (torch.nan if next(calls) == 5 else 1)  # noqa: E731
    monkeypatch.setattr(loop, "row_loss", broken)
    monkeypatch.setattr(fold_model, "SECONDS_BETWEEN_SAVES", saves)
    with pytest.raises(TrainingError, match="stage 0, epoch 1, batch 1: the loss is nan in the batch with") as caught:
        run_experiment(small(stages=[stage(epochs=2, batch_size=2)]), competition, tmp_path, RunOptions(folds="0"))
    table = pl.read_parquet(tmp_path / "tiny-wave/rows.parquet")
    assert f"label_id {table['label_id'].to_numpy()[seen[5]].tolist()}: lower learning_rate" in str(caught.value)
    state = torch.load(tmp_path / "tiny-wave/fold0/state.pt", weights_only=True)
    assert all(values.isfinite().all() for values in state["model"].values())  # as it was before


def test_weights_that_have_run_away_are_not_kept(competition, tmp_path, monkeypatch):
    """Also where nothing is held out, and no loss follows that would tell."""
    step = ModelOptimizer.step

    def too_far(self):
        step(self)
        self.model.classifier.bias.data.fill_(torch.inf)

    monkeypatch.setattr(ModelOptimizer, "step", too_far)
    for folds, message in (("0", "no finite prediction for label_id"), ("full", "full: weights are not numbers")):
        with pytest.raises(TrainingError, match=f"{message}.*: lower (the )?learning.rate"):
            run_experiment(small(stages=[stage(batch_size=16)]), competition, tmp_path, RunOptions(folds, resume=True))
    assert not list(tmp_path.glob("*/*/*.safetensors"))


def test_memory_that_does_not_suffice_says_which_setting_to_change(competition, tmp_path, monkeypatch):
    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    for place in ("train.engine.loop.build_input", "train.engine.optim.ModelOptimizer.step"):
        with monkeypatch.context() as patch:
            patch.setattr(place, too_large)
            with pytest.raises(TrainingError, match="set batch_size = 2 and accumulate = 2") as caught:
                run_experiment(small(), competition, tmp_path / place, RunOptions(folds="0"))
            assert "a batch of 4 does not fit in the memory of cpu" in str(caught.value)
            least = small(stages=[stage(batch_size=1)])
            with pytest.raises(TrainingError, match="memory of cpu: take a smaller backbone or input"):
                run_experiment(least, competition, tmp_path / f"{place}-1", RunOptions(folds="0"))


def with_little_room(words, environment, output, saves, room):
    """The command on a disk that takes files of so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    run_command(words, environment, output, saves)


@pytest.mark.slow
def test_a_full_disk_leaves_no_half_files_and_the_run_goes_on_later(competition, tmp_path):
    experiment, output = image(stage(epochs=2)), tmp_path / "output"
    config = write_config(experiment, tmp_path / "configs")
    finished_run(config, competition, tmp_path / "whole", "--folds", "0", output=output)
    size = (tmp_path / "whole/tiny-image/fold0/best.safetensors").stat().st_size
    words = ("run", config, "--competition", competition, "--out", tmp_path / "runs", "--folds", "0")
    for room, file, resume in ((size // 2, "best-stage0.safetensors", ()), (size * 2, "state.pt", ("--resume",))):
        given = ((*words, *resume), {}, output, 600.0, room)
        process = PROCESSES.Process(target=with_little_room, args=given, daemon=True)
        process.start()
        process.join(120)
        told = output.read_text()
        assert process.exitcode == 1 and f"{file} cannot be written (" in told and "Traceback" not in told, told
        assert "make room, then --resume goes on" in told and not list((tmp_path / "runs").rglob("*.partial"))
    finished_run(config, competition, tmp_path / "runs", "--folds", "0", "--resume", output=output)
    for name in ("last.safetensors", "best.safetensors"):
        assert same_weights(tmp_path / "runs/tiny-image/fold0" / name, tmp_path / "whole/tiny-image/fold0" / name)
