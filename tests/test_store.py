"""The store: made, kept, renewed and read; every window is the one of the recording's own file."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from store_stage import LENGTHS, decoded, hold, store_files, whole_file, write_competition, write_eeg

from common.config import KaggleImage
from common.inputs import BipolarSequence
from common.records import cut
from train import __main__ as train_main
from train.data.labels import label_rows
from train.data.store import RecordingStore
from train.data.store_index import EEGS, HALVES, SPECTROGRAMS, StoreError, read_index, values_file
from train.data.windows import TrainingWindows


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    return write_competition(tmp_path_factory.mktemp("competition"))


@pytest.mark.parametrize("half", HALVES, ids=lambda half: half.name)
@pytest.mark.parametrize("on", ["disk", "device"])
def test_every_window_has_the_bits_of_the_recording(competition, half, on):
    ids = [100 + k for k in range(len(LENGTHS))]
    store = RecordingStore(half, competition, competition / "store", ids)
    if on == "device":
        store.load(torch.device("cpu"))
    rng = np.random.default_rng(0)
    for recording in ids:
        values = half.read(competition / half.folder / f"{recording}.parquet").values
        n_time = values.shape[-1]
        assert torch.equal(store.recording(recording).nan_to_num(7e30), torch.from_numpy(values).nan_to_num(7e30))
        ends = (-half.length, -half.length + 1, -1, 0, n_time - half.length, n_time - 1, n_time, n_time + 5)
        for start in (*ends, *rng.integers(-half.length, n_time, 5).tolist()):
            window = store.window(recording, start, half.length).numpy()
            np.testing.assert_array_equal(window.view(np.uint32), cut(values, start, half.length).view(np.uint32))
    batch = store.windows([101, 100, 101], [3, -2, 9], 50)
    assert batch.dtype == torch.float32 and batch.shape == (3, *half.shape, 50)
    for window, recording, start in zip(batch, (101, 100, 101), (3, -2, 9), strict=True):
        assert torch.equal(window.nan_to_num(7e30), store.window(recording, start, 50).nan_to_num(7e30))
    store.close()


def test_the_command_makes_both_halves_once(tmp_path, monkeypatch, capsys):
    competition = write_competition(tmp_path / "competition")
    monkeypatch.setattr(sys, "argv", ["train", "store", "--competition", str(competition)])
    assert train_main.main() == 0
    shown, before = capsys.readouterr(), store_files(competition)
    assert "eegs.f32: 4 recordings, 0.00 GiB" in shown.out and "spectrograms.f32: 4 recordings" in shown.out
    assert "storing eegs: 100%" in shown.err and set(before) == {
        f"{half}.{kind}" for half in ("eegs", "spectrograms") for kind in ("f32", "index.jsonl")
    }
    assert values_file(competition / "store", EEGS).stat().st_size == 80 * sum(LENGTHS)
    ids = decoded(monkeypatch)
    assert train_main.main() == 0 and not ids and store_files(competition) == before
    assert "storing" not in capsys.readouterr().err


@pytest.mark.parametrize("same_length", [True, False])
def test_a_changed_file_is_stored_again(tmp_path, monkeypatch, same_length):
    competition, other = write_competition(tmp_path / "competition"), tmp_path / "other"
    hold(EEGS, competition)
    ids = decoded(monkeypatch)
    write_eeg(competition / "train_eegs/101.parquet", 12_400 if same_length else 11_000, seed=77)
    hold(EEGS, competition)
    assert ids == ([101] if same_length else [101, 102, 103])  # those behind a new length move
    (other / "store").mkdir(parents=True)
    fresh = write_competition(other, LENGTHS)
    os.replace(competition / "train_eegs/101.parquet", fresh / "train_eegs/101.parquet")
    hold(EEGS, fresh)
    assert whole_file(competition) == whole_file(fresh)


def test_a_new_and_a_dropped_label_row(tmp_path, monkeypatch):
    competition = write_competition(tmp_path)
    table = (competition / "train.csv").read_text().splitlines()
    (competition / "train.csv").write_text("\n".join(table[:-1]))
    assert list(hold(EEGS, competition)) == [100, 101, 102]
    ids = decoded(monkeypatch)
    (competition / "train.csv").write_text("\n".join(table))
    assert list(hold(EEGS, competition)) == [100, 101, 102, 103] and ids == [103]
    (competition / "train.csv").write_text("\n".join(table[:-1]))
    hold(EEGS, competition)
    assert ids == [103]  # what is there and not needed does no harm


def test_processes_write_what_one_writes(tmp_path, competition):
    hold(EEGS, competition)
    twin = tmp_path / "twin"
    twin.mkdir()
    for name in ("train_eegs", "train.csv"):
        os.symlink(competition / name, twin / name)
    hold(EEGS, twin, workers=2)
    for name in ("eegs.f32", "eegs.index.jsonl"):
        assert (twin / "store" / name).read_bytes() == (competition / "store" / name).read_bytes()


def test_the_index_keeps_what_the_reader_found(competition):
    rows = label_rows(competition)
    found = TrainingWindows(competition, rows, BipolarSequence()).findings
    assert found == {
        "some values are NaN": 4,
        "301 of 10000 samples: the rest is missing": 1,
        "window reaches beyond the recording: the rest is missing": 1,
    }


# ---- shifts


@pytest.mark.parametrize("config", [BipolarSequence(), KaggleImage()], ids=lambda config: config.kind)
def test_windows_are_shifted_in_seconds(competition, config):
    windows = TrainingWindows(competition, label_rows(competition), config)
    (store,), rows, shifts = windows.stores, np.array([1, 0, 3]), np.array([2.9, -4.0, 0.004])
    steps = [580, -800, 1] if store.half is EEGS else [1, -2, 0]  # 200 samples, half a column in a second
    for (chosen, batch), first in zip(windows.batches(rows, 2, torch.device("cpu"), shifts), (0, 2), strict=True):
        raw = batch.eeg if store.half is EEGS else batch.spectrogram
        assert chosen.tolist() == rows[first : first + 2].tolist()
        for window, row, step in zip(raw, chosen, steps[first:], strict=False):
            expected = store.window(100 + row, step, store.half.length)
            assert torch.equal(window.nan_to_num(7e30), expected.nan_to_num(7e30))


# ---- memory

PEAK = """
import resource, sys
from pathlib import Path
from train.data.store_build import hold_half
from train.data.store_index import EEGS
if __name__ == "__main__":
    folder, n = Path(sys.argv[1]), int(sys.argv[2])
    hold_half(EEGS, folder, folder / sys.argv[2], range(n), workers=2)
    print(*(resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""


def test_memory_does_not_grow_with_the_number_of_recordings(tmp_path):
    (tmp_path / "train_eegs").mkdir()
    write_eeg(tmp_path / "first.parquet", 10_000, 1)
    for k in range(200):
        os.link(tmp_path / "first.parquet", tmp_path / f"train_eegs/{k}.parquet")
    peaks = {}
    for n in (20, 200):
        command = [sys.executable, "-c", PEAK, str(tmp_path), str(n)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[n] = [float(word) for word in done.stdout.split()]
        assert len(read_index(tmp_path / str(n), EEGS)) == n
    growth = [large - small for small, large in zip(peaks[20], peaks[200], strict=True)]
    assert max(growth) < 40, peaks  # MiB; the values grow by 137


def test_a_gpu_that_is_too_small_is_named(competition, monkeypatch):
    store = RecordingStore(SPECTROGRAMS, competition, competition / "store", [100])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 2**30, 8 * 2**30))
    with pytest.raises(StoreError, match=r"take 0\.00 GiB and .* 4\.00 GiB, of the GPU's 8\.00 GiB 3\.00 GiB are free"):
        store.load(torch.device("cuda"))
