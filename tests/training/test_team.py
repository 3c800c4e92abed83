"""Several processes train as one: the same batches, the same steps, nobody waits for ever."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from training_stage import (
    assert_same_run,
    finished_run,
    run_command,
    small,
    stage,
    start_run,
    write_competition,
    write_config,
)

from common.schema import PATTERNS
from train.engine import fold_model
from train.engine.distributed import Distributed
from train.engine.loop import cut_batches
from train.experiment import Stage

CPU = torch.device("cpu")

try:
    with socket.create_server(("127.0.0.1", 0)):
        FORBIDDEN = ""
except OSError as error:
    FORBIDDEN = f"processes cannot talk to each other here: {error}"
needs_network = pytest.mark.skipif(bool(FORBIDDEN), reason=FORBIDDEN)

# No dropout: each process has its own. 8 samples: batches of 3, 3 and 2 in steps of two batches; then of 7 and 1, where
# the second process has nothing but a row that fills up.
EQUAL = small(
    model={"drop_channel": 0.0, "dropout": 0.0},
    stages=[
        stage(batch_size=3, accumulate=2, augment={"mirror": 0.5, "shift": 2.0}, clip_norm=1.0),
        stage(epochs=2, batch_size=7, loss="xloss", ema=0.9, start="best", smoothing=0.1),
    ],
    labels="one-per-stretch",
)


@pytest.fixture(scope="module")
def alone(noise, tmp_path_factory):
    """Both folds by one process, and the config."""
    folder = tmp_path_factory.mktemp("alone")
    config = write_config(EQUAL, folder)
    finished_run(config, noise, folder, output=folder / "output")
    return folder / EQUAL.name, config


def start_team(*given, output, **options):
    """Two processes with what torchrun tells them, and each one's output."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    outputs = [output.with_name(f"{output.name}{rank}") for rank in (0, 1)]
    environments = [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    pairs = zip(environments, outputs, strict=True)
    return [start_run(*given, environment=e, output=o, **options) for e, o in pairs], outputs


def finished_team(*given, **options):
    processes, outputs = start_team(*given, **options)
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0], [file.read_text() for file in outputs]
    return [file.read_text() for file in outputs]


def test_parts_of_a_batch_are_all_of_it_and_weigh_alike():
    rng, stage_ = np.random.default_rng(0), Stage(batch_size=7, accumulate=3)
    for n_rows, size in ((1, 2), (8, 2), (50, 3), (50, 8)):
        order = rng.permutation(n_rows)
        teams = [cut_batches(order, stage_, Distributed(rank, size, CPU)) for rank in range(size)]
        single = cut_batches(order, stage_, Distributed(0, 1, CPU))
        for whole, *parts in zip(single, *teams, strict=True):
            assert (whole.counted == 1).all() and len({len(part.rows) for part in parts}) == 1
            counted = np.concatenate([part.rows[part.counted > 0] for part in parts])
            assert sorted(counted) == sorted(whole.rows)
            assert all((whole.rows[part.places] == part.rows).all() for part in parts)
            assert {part.rows_in_step for part in parts} == {whole.rows_in_step}
        steps = np.cumsum([0] + [batch.last_of_step for batch in single])[:-1]
        for step in set(steps):
            batches = [batch for batch, of in zip(single, steps, strict=True) if of == step]
            assert {batch.rows_in_step for batch in batches} == {sum(len(batch.rows) for batch in batches)}


@pytest.mark.slow
@needs_network
def test_two_processes_under_torchrun_are_as_good_as_one(noise, alone, tmp_path):
    run, config = alone
    words = ("run", config, "--competition", noise, "--out", tmp_path, "--folds", "0")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "train")
    done = subprocess.run([sys.executable, *torchrun, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("in 2 processes") == 1 and done.stdout.count("wrote ") == 1  # one of them speaks
    found, expected = tmp_path / EQUAL.name / "fold0", run / "fold0"
    for file in ("last.safetensors", "best.safetensors"):
        one, other = load_file(found / file), load_file(expected / file)
        # A bias before a softmax has no gradient but rounding errors, which AdamW makes steps of.
        compared = [name for name in one if not name.endswith("score.2.bias")]
        assert len(compared) == len(one) - 2
        for name in compared:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    logs = [pl.read_csv(folder / "epochs.csv").drop("seconds").to_numpy() for folder in (found, expected)]
    np.testing.assert_allclose(*logs, atol=1e-4)
    columns = [f"{pattern}_{which}" for pattern in PATTERNS for which in ("last", "best")]
    tables = [pl.read_parquet(folder / "oof.parquet").select(columns).to_numpy() for folder in (found, expected)]
    np.testing.assert_allclose(*tables, atol=1e-4)


@needs_network
def test_each_process_may_train_its_own_folds(noise, alone, tmp_path):
    run, config = alone
    told = finished_team(config, noise, tmp_path, "--spread", "folds", output=tmp_path / "output")
    found = tmp_path / EQUAL.name
    for fold in ("fold0", "fold1"):
        assert_same_run(found / fold, run / fold)
    assert pl.read_parquet(found / "oof.parquet").equals(pl.read_parquet(run / "oof.parquet"))
    assert "fold0: first" in told[0] and "fold1: first" in told[1] and "fold1: first" not in told[0]


@pytest.mark.slow
@needs_network
def test_a_killed_process_ends_the_other_and_both_resume_with_the_same_bits(noise, alone, tmp_path):
    _, config = alone
    more, output = ("--folds", "1"), tmp_path / "output"
    finished_team(config, noise, tmp_path / "whole", *more, output=output)
    folder = tmp_path / "killed" / EQUAL.name / "fold1"
    (first, second), _ = start_team(config, noise, tmp_path / "killed", *more, output=output)
    while not (folder / "state.pt").exists():
        assert first.is_alive()
        time.sleep(0.01)
    os.kill(second.pid, signal.SIGKILL)
    first.join(60)
    assert first.exitcode not in (None, 0) and (folder / "state.pt").exists()
    told = finished_team(config, noise, tmp_path / "killed", *more, "--resume", output=output)
    assert "fold1: continued" in told[0]
    assert_same_run(folder, tmp_path / "whole" / EQUAL.name / "fold1")


def save_slowly(*given):
    """The command, where the process that writes needs a while for it."""
    save = fold_model.save_weights
    fold_model.save_weights = lambda *what: time.sleep(1) or save(*what)
    run_command(*given)


@pytest.mark.slow
@needs_network
def test_nobody_reads_weights_before_they_are_written(noise, alone, tmp_path):
    _, config = alone
    finished_team(config, noise, tmp_path, "--folds", "0", output=tmp_path / "output", target=save_slowly)
    assert (tmp_path / EQUAL.name / "fold0/oof.parquet").exists()


@pytest.mark.slow
@needs_network
def test_what_one_process_finds_ends_both(noise, alone, tmp_path):
    """A run folder that exists, or labels that are missing, found by both; recordings that are missing, by one."""
    run, config = alone
    for folder, found in ((noise, "exists: --resume continues it"), (tmp_path, "cannot be read")):
        processes, outputs = start_team(config, folder, run.parent, output=tmp_path / "output")
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [1, 1]
        assert all(found in file.read_text() and "Traceback" not in file.read_text() for file in outputs)
    incomplete = write_competition(tmp_path / "incomplete", without=3)
    (first, second), outputs = start_team(config, incomplete, tmp_path / "runs", output=tmp_path / "output")
    first.join(60)
    second.join(60)
    assert first.exitcode == 1 and second.exitcode not in (None, 0)
    assert "first 3.parquet" in outputs[0].read_text() and not (tmp_path / "runs").exists()
