"""What the tests of training share: a small competition of noise, small experiments, and runs of their own process."""

import itertools
import json
import multiprocessing
import os
import sys
from contextlib import contextmanager

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from store_stage import HEAD

from train.engine import fold_model
from train.engine.optim import ModelOptimizer
from train.experiment import Experiment
from train.simulate.recording_files import write_eeg, write_spectrogram

EPOCHS, BATCH, RATE = 3, 4, 4e-3
# A server that has imported what training needs and done nothing yet: its forks start at once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["train.__main__", "train.engine.run", "train.engine.published"])

# ---- what is trained


def stage(**values):
    return {"epochs": 1, "batch_size": BATCH, "learning_rate": RATE, "warm_up": 0.0} | values


def small(*, name="tiny-wave", model=None, **training):
    """A wave net of two stages: eight label rows a fold in batches of four, then four in batches of two."""
    stages = [
        stage(epochs=EPOCHS, augment={"mirror": 0.5, "shift": 2.0}, warm_up=0.3),
        {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3, "rows": {"min_votes": 10}},
    ]
    return Experiment(
        name=name,
        input={"kind": "bipolar-sequence", "sfreq": 50},
        model={"kind": "wave-net", "width": 8, "kernel": 3, "dilations": [1]} | (model or {}),
        training={"folds": 2, "stages": stages} | training,
    )


def image(*stages, model=None, **training):
    """A net of images of the competition's spectrograms, with batch norm and dropout; cut to a third in time."""
    return Experiment(
        name="tiny-image",
        input={"kind": "kaggle-image", "resize": [100, 75]},
        model={"kind": "spectrogram-cnn", "backbone": "test_efficientnet", "pretrained": False} | (model or {}),
        training={"folds": 2, "stages": stages or [stage()]} | training,
    )


def write_competition(folder, without=None, patients=8):
    """Patients with one EEG of noise, a spectrogram of noise, and two vote vectors each."""
    rng, lines = np.random.default_rng(5), []
    for half in ("train_eegs", "train_spectrograms"):
        (folder / half).mkdir(parents=True)
    for k in range(patients):
        noise = rng.normal(0, 20 + 10 * (k % 2), (10_800, 20)).astype(np.float32)
        if k != without:
            write_eeg(folder / f"train_eegs/{k}.parquet", noise.T)
        power = rng.gamma(2, 1 + k % 2, (4, 100, 310)).astype(np.float32)
        write_spectrogram(folder / f"train_spectrograms/{k}.parquet", power, hidden=False)
        consensus, votes = ("Seizure", "{},0,1,0,0,1") if k % 2 else ("Other", "0,0,1,0,1,{}")
        lines += [f"{k},{2 * i},{k},{2 * i},{10 * k + i},{k},{consensus},{votes.format(3 + 9 * i)}" for i in (0, 1)]
    (folder / "train.csv").write_text("\n".join([HEAD, *lines]) + "\n")
    return folder


def same_weights(one, other):
    one, other = load_file(one), load_file(other)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def assert_same_run(found, expected):
    """Two folders of one model: the same weights, curve and predictions, and nothing left of an interruption."""
    for name in ("last.safetensors", "best.safetensors"):
        assert same_weights(found / name, expected / name), name
    told = [pl.read_csv(folder / "epochs.csv").drop("seconds") for folder in (found, expected)]
    assert told[0].equals(told[1])
    assert pl.read_parquet(found / "oof.parquet").equals(pl.read_parquet(expected / "oof.parquet"))
    assert not list(found.glob("*.partial")) and not (found / "state.pt").exists()


@contextmanager
def interrupted(steps=2):
    """After so many steps of the optimizer training ends as by Ctrl-C; its state is saved after each."""
    step, done = ModelOptimizer.step, itertools.count()

    def counted(self):
        if next(done) == steps:
            raise KeyboardInterrupt
        step(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ModelOptimizer, "step", counted)
        patch.setattr(fold_model, "SECONDS_BETWEEN_SAVES", 0.0)
        yield


# ---- `python -m train run` in a process of its own


def as_toml(value):
    match value:
        case dict():
            return "{" + ", ".join(f"{key} = {as_toml(v)}" for key, v in value.items()) + "}"
        case list() | tuple():
            return f"[{', '.join(map(as_toml, value))}]"
        case _:
            return json.dumps(value)


def write_config(experiment, folder):
    """The experiment as a config file."""
    folder.mkdir(exist_ok=True)
    values = experiment.model_dump(mode="json", exclude={"name"}, exclude_none=True)
    file = folder / f"{experiment.name}.toml"
    file.write_text("".join(f"{key} = {as_toml(value)}\n" for key, value in values.items()))
    return file


def run_command(words, environment, output, seconds_between_saves):
    """What a process of its own does: the command, with its output in a file."""
    from train.__main__ import main

    os.environ.update(environment)
    number = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(number, 1)
    os.dup2(number, 2)
    torch.set_num_threads(1)
    fold_model.SECONDS_BETWEEN_SAVES = seconds_between_saves
    sys.argv = ["train", *map(str, words)]
    sys.exit(main())


def start_run(config, competition, out, *more, output, environment=None, saves=0.0, target=run_command):
    """`python -m train run` as a process; `saves`: seconds between saved states, 0 for after every step."""
    words = ("run", config, "--competition", competition, "--out", out, *more)
    process = PROCESSES.Process(target=target, args=(words, environment or {}, output, saves), daemon=True)
    process.start()
    return process


def finished_run(*given, output, **options):
    """The output of a run that must end well."""
    process = start_run(*given, output=output, **options)
    process.join(120)
    assert process.exitcode == 0, output.read_text()
    return output.read_text()
