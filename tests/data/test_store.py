"""The store: made, kept, renewed and read; every window is the one of the recording's own file."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from store_stage import LENGTHS, contents, counted, hold, stored_values, write_competition, write_eeg

from common.inputs.config import BipolarSequence
from common.inputs.kaggle_image import KaggleImage
from common.records import cut
from common.schema import N_ELECTRODES
from train import __main__ as train_main
from train.data.labels import label_rows
from train.data.recording_kinds import EEGS, RECORDING_KINDS, SPECTROGRAMS
from train.data.store import RecordingStore
from train.data.store_build import StoreError, read_store
from train.data.windows import TrainingWindows


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    return write_competition(tmp_path_factory.mktemp("competition"))


def same(one, other):
    """Equal to the bit, NaN included."""
    return np.array_equal(np.asarray(one).view(np.uint32), np.asarray(other).view(np.uint32))


@pytest.mark.parametrize("kind", RECORDING_KINDS, ids=lambda kind: kind.name)
def test_every_window_has_the_bits_of_the_recording(competition, kind):
    ids = [100 + k for k in range(len(LENGTHS))]
    store = RecordingStore(kind, competition, competition / "store", ids)
    rng = np.random.default_rng(0)
    for recording in ids:
        values = kind.read(competition / kind.folder / f"{recording}.parquet").values
        n_time = values.shape[-1]
        assert same(store.recording(recording), values)
        ends = (-kind.length, -kind.length + 1, -1, 0, n_time - kind.length, n_time - 1, n_time, n_time + 5)
        starts = (*ends, *rng.integers(-kind.length, n_time, 5).tolist())
        for start, window in zip(starts, store.windows([recording] * len(starts), starts, kind.length), strict=True):
            assert same(window, cut(values, start, kind.length))
    batch = store.windows([101, 100, 101], [3, -2, 9], 50)
    assert batch.dtype == torch.float32 and batch.shape == (3, *kind.shape, 50)
    for window, recording, start in zip(batch, (101, 100, 101), (3, -2, 9), strict=True):
        assert same(window, store.windows([recording], [start], 50)[0])


def test_the_command_makes_both_kinds_once(tmp_path, monkeypatch, capsys):
    competition = write_competition(tmp_path / "competition")
    monkeypatch.setattr(sys, "argv", ["train", "store", "--competition", str(competition)])
    assert train_main.main() == 0
    shown, before = capsys.readouterr(), contents(competition)
    assert "eegs.f32: 4 recordings, 0.00 GiB" in shown.out and "spectrograms.f32: 4 recordings" in shown.out
    assert "storing eegs: 100%" in shown.err and set(before) == {
        f"{kind}.{suffix}" for kind in ("eegs", "spectrograms") for suffix in ("f32", "index.jsonl")
    }
    assert len(stored_values(competition)) == 4 * N_ELECTRODES * sum(LENGTHS)
    assert train_main.main() == 0 and contents(competition) == before
    assert "storing" not in capsys.readouterr().err


@pytest.mark.parametrize("n_time", [12_400, 11_000])  # as long as before, and shorter
def test_only_a_changed_file_is_read_again(tmp_path, n_time):
    competition = write_competition(tmp_path)
    hold(competition)
    write_eeg(competition / "train_eegs/101.parquet", n_time, seed=77)
    kind, ids = counted()
    hold(competition, kind)
    assert ids == [101]
    renewed = contents(competition)
    shutil.rmtree(competition / "store")
    hold(competition)
    assert contents(competition) == renewed
    os.utime(competition / "train_eegs/102.parquet")  # as another file of the same size
    hold(competition, kind)
    assert ids == [101, 102]


def test_a_new_and_a_dropped_label_row(tmp_path):
    competition = write_competition(tmp_path)
    table = (competition / "train.csv").read_text().splitlines()
    (competition / "train.csv").write_text("\n".join(table[:-1]))
    assert list(hold(competition)) == [100, 101, 102]
    kind, ids = counted()
    (competition / "train.csv").write_text("\n".join(table))
    assert list(hold(competition, kind)) == [100, 101, 102, 103] and ids == [103]
    (competition / "train.csv").write_text("\n".join(table[:-1]))
    hold(competition, kind)
    assert ids == [103]  # what is there and not needed does no harm


def test_the_index_keeps_what_the_reader_found(competition):
    rows = label_rows(competition)
    found = TrainingWindows(competition, rows, BipolarSequence()).findings
    assert found == {
        "some values are NaN": 4,
        "301 of 10000 samples: the rest is missing": 1,
        "window reaches beyond the recording: the rest is missing": 1,
    }


@pytest.mark.parametrize("config", [BipolarSequence(), KaggleImage()], ids=lambda config: config.kind)
def test_windows_are_shifted_in_seconds(competition, config):
    windows = TrainingWindows(competition, label_rows(competition), config)
    (store,), rows, shifts = windows.stores, np.array([1, 0, 3]), np.array([2.9, -4.0, 0.004])
    steps = [580, -800, 1] if store.kind is EEGS else [1, -2, 0]  # 200 samples, half a column in a second
    for (chosen, batch), first in zip(windows.batches(rows, 2, torch.device("cpu"), shifts), (0, 2), strict=True):
        raw = batch.eeg if store.kind is EEGS else batch.spectrogram
        assert chosen.tolist() == rows[first : first + 2].tolist()
        for window, row, step in zip(raw, chosen, steps[first:], strict=False):
            assert same(window, store.windows([100 + row], [step], store.kind.length)[0])


def test_a_gpu_that_is_too_small_is_named(competition, monkeypatch):
    store = RecordingStore(SPECTROGRAMS, competition, competition / "store", [100])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 2**30, 8 * 2**30))
    with pytest.raises(StoreError, match=r"take 0\.00 GiB and .* 4\.00 GiB, of the GPU's 8\.00 GiB 3\.00 GiB are free"):
        store.load(torch.device("cuda"))


PEAK = """
import resource, sys
from pathlib import Path
from train.data.recording_kinds import EEGS
from train.data.store_build import open_store
folder, n = Path(sys.argv[1]), int(sys.argv[2])
open_store(EEGS, folder, folder / sys.argv[2], range(n))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_recordings(tmp_path):
    (tmp_path / "train_eegs").mkdir()
    write_eeg(tmp_path / "first.parquet", 10_000, 1)
    for k in range(200):
        os.link(tmp_path / "first.parquet", tmp_path / f"train_eegs/{k}.parquet")
    peaks = {}
    for n in (20, 200):
        command = [sys.executable, "-c", PEAK, str(tmp_path), str(n)]
        peaks[n] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert len(read_store(tmp_path / str(n), EEGS)[1]) == n
    assert peaks[200] - peaks[20] < 40, peaks  # MiB; the values grow by 137
