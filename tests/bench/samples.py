"""What the bench works on: simulated EEG, written as the competition's files are (pyarrow, snappy), and weights."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.torch import save_file
from torch import nn

from common.files import sha256_of
from common.schema import REGIONS, SFREQ, SPECTROGRAM_COLUMNS, TEST_EEGS, TEST_SPECTROGRAMS, TEST_TABLE, WINDOW_SAMPLES
from common.signal.spectrogram import competition_spectrogram
from common.weights import CONFIG_FILE, MANIFEST_FILE, FoldEntry, Manifest
from train.experiment import Experiment
from train.simulate.artefacts import draw_artefacts
from train.simulate.background import draw_background
from train.simulate.eeg import simulate_eeg
from train.simulate.recording_files import write_eeg, write_spectrogram

RECORDING_SECONDS = 602  # 300 columns of a spectrogram
WINDOWS_PER_RECORDING = RECORDING_SECONDS * SFREQ // WINDOW_SAMPLES


@dataclass(frozen=True)
class Samples:
    """One recording and what is cut from it.

    recording: (20, time) microvolts; windows: (n, 20, 10000); spectrogram: (4, 100, 300) uV^2/Hz. The files hold
    one window each, and the spectrogram.
    """

    recording: np.ndarray
    windows: np.ndarray
    spectrogram: np.ndarray
    eeg_files: list[Path]
    spectrogram_file: Path


def simulate_recording(seed: int, seconds: int = RECORDING_SECONDS) -> np.ndarray:
    """(20, seconds x 200) microvolts: background and artefacts."""
    rng = np.random.default_rng(seed)
    return simulate_eeg(seconds, draw_background(rng), (), draw_artefacts(rng), rng)


def cut_windows(recording: np.ndarray) -> np.ndarray:
    """(20, time) -> (n, 20, 10000), one after the other."""
    n = recording.shape[1] // WINDOW_SAMPLES
    pieces = recording[:, : n * WINDOW_SAMPLES].reshape(len(recording), n, WINDOW_SAMPLES)
    return np.ascontiguousarray(pieces.transpose(1, 0, 2))


def whole_spectrogram(recording: np.ndarray) -> np.ndarray:
    """(4, 100, 300); a recording shorter than ten minutes is repeated."""
    spectrogram = competition_spectrogram(recording).numpy()
    return np.ascontiguousarray(
        np.resize(spectrogram.transpose(2, 0, 1), (SPECTROGRAM_COLUMNS, 4, 100)).transpose(1, 2, 0)
    )


def make_samples(folder: Path, seconds: int = RECORDING_SECONDS, files: int = 16) -> Samples:
    """A recording of `seconds`, its windows, and `files` files of them (repeated where there are fewer)."""
    recording = simulate_recording(0, seconds)
    windows = cut_windows(recording)
    spectrogram = whole_spectrogram(recording)
    eeg_files = [write_eeg(folder / f"{i}.parquet", windows[i % len(windows)]) for i in range(files)]
    spectrogram_file = write_spectrogram(folder / "spectrogram.parquet", spectrogram, hidden=True)
    return Samples(recording, windows, spectrogram, eeg_files, spectrogram_file)


def write_test_set(competition: Path, eegs: int) -> None:
    """test.csv with `eegs` rows and their files: different windows of as many simulated recordings as it takes."""
    for name in (TEST_EEGS, TEST_SPECTROGRAMS):
        (competition / name).mkdir(parents=True)
    rows = []
    for number in range(-(-eegs // WINDOWS_PER_RECORDING)):
        recording = simulate_recording(number)
        spectrogram = whole_spectrogram(recording)
        for window in cut_windows(recording)[: eegs - len(rows)]:
            rows.append({"spectrogram_id": 2_000 + len(rows), "eeg_id": 1_000 + len(rows), "patient_id": number})
            write_eeg(competition / TEST_EEGS / f"{rows[-1]['eeg_id']}.parquet", window)
            file = competition / TEST_SPECTROGRAMS / f"{rows[-1]['spectrogram_id']}.parquet"
            write_spectrogram(file, spectrogram, hidden=True)
    pl.DataFrame(rows).write_csv(competition / TEST_TABLE)


def write_weights(folder: Path, experiment: Experiment, nets: Iterable[nn.Module]) -> None:
    """A weights folder as `python -m train export` writes it, with a fold of each net."""
    folder.mkdir(parents=True)
    config = experiment.model_dump_json()
    (folder / CONFIG_FILE).write_text(config)
    entries = []
    for fold, net in enumerate(nets):
        file = folder / f"fold{fold}.safetensors"
        save_file(net.state_dict(), file)
        entries.append(
            FoldEntry(file=file.name, sha256=sha256_of(file), bytes=file.stat().st_size, fold=fold, train_rows=1)
        )
    manifest = Manifest(
        name=experiment.name,
        config_sha256=hashlib.sha256(config.encode()).hexdigest(),
        checkpoint="last",
        initialised="random",
        folds=tuple(entries),
        versions={},
        regions=REGIONS,
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
