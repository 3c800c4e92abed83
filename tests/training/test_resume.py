"""A training that is killed at any moment goes on to the same weights, bit by bit."""

import itertools
import os
import signal
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from training_stage import (
    PROCESSES,
    assert_same_run,
    finished_run,
    image,
    interrupted,
    run_command,
    small,
    stage,
    start_run,
    write_config,
)

from train.engine.published import PublishedSelection
from train.engine.run import RunOptions, run_experiment
from train.engine.run_folder import RunError

MIXED = {"mixup": {"chance": 0.5}, "cutmix": {"chance": 0.5, "length": 75, "margin": 10, "smallest": 5, "largest": 20}}
AVERAGED = {"ema": 0.9, "clip_norm": 1.0}
# Dropout, drop path and batch norm; everything random, the window of each EEG too; every kind of state; each way to
# begin a stage.
EVERYTHING = image(
    stage(epochs=4, batch_size=2, accumulate=2, augment=MIXED | {"mosaic": True}, **AVERAGED),
    stage(epochs=2, batch_size=3, augment=MIXED | {"mask": {}, "reverse": 0.5}, loss="vote-log", carry_on=True,
          **AVERAGED),
    stage(batch_size=2, rows={"min_votes": 10}, schedule="cosine", start="best", **AVERAGED),
    labels="one-per-eeg",
)  # fmt: skip


def changed_since(file, before):
    return file.is_file() and file.stat().st_mtime_ns != before


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bits(noise, tmp_path):
    config, output = write_config(EVERYTHING, tmp_path / "configs"), tmp_path / "output"
    given, rng = (config, noise), np.random.default_rng(1)
    finished_run(*given, tmp_path / "whole", "--folds", "1", output=output)
    folder = tmp_path / "killed" / EVERYTHING.name / "fold1"
    state, kills = folder / "state.pt", 0
    while True:
        before = state.stat().st_mtime_ns if state.is_file() else None
        more = ("--folds", "1", *["--resume"] * (kills > 0))
        process = start_run(*given, tmp_path / "killed", *more, output=output, saves=0.0)
        for _ in range(rng.integers(1, 5)):  # states
            while process.is_alive() and not changed_since(state, before):
                time.sleep(0.002)
            before = state.stat().st_mtime_ns if state.is_file() else None
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, output.read_text()
        kills += 1
    assert kills >= 2 and "continued" in output.read_text()
    assert_same_run(folder, tmp_path / "whole" / EVERYTHING.name / "fold1")


def die_at_change(words, environment, output, saves, number):
    """The command, killed by itself when it gives a file its name or removes one for the number-th time; of a file
    that was about to get its name only half is there."""
    changes = itertools.count(1)

    def guarded(change):
        def call(path, *given, **options):
            if next(changes) == number:
                if (temporary := Path(path)).suffix == ".partial":
                    os.truncate(temporary, temporary.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return change(path, *given, **options)

        return call

    os.replace = guarded(os.replace)
    Path.replace, Path.unlink = guarded(Path.replace), guarded(Path.unlink)
    run_command(words, environment, output, saves)


@pytest.mark.slow
def test_killed_while_it_writes_any_file_it_loads_nothing_half_written(noise, tmp_path):
    experiment = small(
        model={"drop_channel": 0.0},
        stages=[stage(epochs=2), stage(batch_size=2, rows={"min_votes": 10}, start="best")],
    )
    config, output = write_config(experiment, tmp_path / "configs"), tmp_path / "output"
    finished_run(config, noise, tmp_path / "whole", "--folds", "0", output=output)
    folder, left = tmp_path / "killed" / experiment.name / "fold0", set()
    words = ("run", config, "--competition", noise, "--out", tmp_path / "killed", "--folds", "0")
    for number in itertools.count(2):
        resume = ["--resume"] if (folder.parent / "config.json").exists() else []
        process = PROCESSES.Process(
            target=die_at_change, args=((*words, *resume), {}, output, 0.0, number), daemon=True
        )
        process.start()
        process.join(120)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, output.read_text()
        left |= {file.name for file in folder.parent.rglob("*.partial")}
    assert number > 5 and "state.pt.partial" in left and len(left) >= 2, left
    assert_same_run(folder, tmp_path / "whole" / experiment.name / "fold0")


# ---- state files that must not be used


def test_damaged_states_and_states_of_others_are_refused(noise, tmp_path):
    mine, others = image(stage(epochs=2)), image(stage(epochs=2), model={"backbone": "test_resnet"})
    for experiment, name in ((mine, "one"), (others, "other")):
        with interrupted():
            run_experiment(experiment, noise, tmp_path / name, RunOptions(folds="0"))
    folder, other = (tmp_path / name / "tiny-image/fold0" for name in ("one", "other"))
    whole = (folder / "state.pt").read_bytes()
    again = RunOptions(folds="0", resume=True)
    flipped = bytearray(whole)
    flipped[:200] = bytes(200)
    for damaged in (b"", whole[: len(whole) // 2], bytes(flipped)):
        (folder / "state.pt").write_bytes(damaged)
        with pytest.raises(RunError, match=r"fold0/state\.pt is damaged: remove .*/fold0, and this model starts"):
            run_experiment(mine, noise, tmp_path / "one", again)
    (folder / "state.pt").write_bytes((other / "state.pt").read_bytes())
    with pytest.raises(RunError, match="is the state of another model or config: remove"):
        run_experiment(mine, noise, tmp_path / "one", again)
    assert not (folder / "last.safetensors").exists()
    (folder / "state.pt").write_bytes(whole)
    (folder / "state.pt.partial").write_bytes(whole[:1000])
    run_experiment(mine, noise, tmp_path / "one", again)
    run_experiment(mine, noise, tmp_path / "whole", RunOptions(folds="0"))
    assert_same_run(folder, tmp_path / "whole/tiny-image/fold0")


def test_the_best_score_so_far_is_remembered(noise, tmp_path, monkeypatch):
    score = mock.Mock(side_effect=[0.2, 0.5, 0.4])  # of three epochs, interrupted after two
    monkeypatch.setattr(PublishedSelection, "score", score)
    published = image(stage(epochs=3, batch_size=8), selection="as-published")
    with interrupted():
        run_experiment(published, noise, tmp_path, RunOptions(folds="0"))
    folder = tmp_path / "tiny-image/fold0"
    first = (folder / "best-stage0.safetensors").read_bytes()
    run_experiment(published, noise, tmp_path, RunOptions(folds="0", resume=True))
    assert score.call_count == 3 and (folder / "best.safetensors").read_bytes() == first
