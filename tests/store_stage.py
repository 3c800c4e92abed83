"""What the tests of the store share: a small competition, and a look at what is stored."""

import numpy as np
import polars as pl

from train.data import store_build
from train.data.store_index import EEGS, values_file
from train.simulate import recording_files

HEAD = (
    "eeg_id,eeg_label_offset_seconds,spectrogram_id,spectrogram_label_offset_seconds,label_id,patient_id,"
    "expert_consensus,seizure_vote,lpd_vote,gpd_vote,lrda_vote,grda_vote,other_vote"
)
LENGTHS = (10_000, 12_400, 301, 10_001)  # of the EEGs; spectrograms have 300, 340, 7, 301 columns


def write_eeg(path, n_time, seed):
    values = np.random.default_rng(seed).normal(0, 30, (n_time, 20)).astype(np.float32)
    values[5, 3] = np.nan
    recording_files.write_eeg(path, values.T)


def write_spectrogram(path, columns, seed):
    values = np.random.default_rng(seed).gamma(2, size=(4, 100, columns)).astype(np.float32)
    recording_files.write_spectrogram(path, values, hidden=False)


def write_competition(folder, lengths=LENGTHS):
    """Recordings 100, 101, ... of these lengths, one label row each, and one recording that no label names."""
    for name in ("train_eegs", "train_spectrograms"):
        (folder / name).mkdir(parents=True)
    for k, n_time in enumerate(lengths):
        write_eeg(folder / f"train_eegs/{100 + k}.parquet", n_time, k)
        columns = {10_000: 300, 12_400: 340, 301: 7}.get(n_time, 301)
        write_spectrogram(folder / f"train_spectrograms/{100 + k}.parquet", columns, k)
    (folder / "train_eegs/999.parquet").write_text("no label row needs it")
    lines = [f"{100 + k},0,{100 + k},0,{k},{k},Other,0,0,0,0,1,12" for k in range(len(lengths))]
    (folder / "train.csv").write_text("\n".join([HEAD, *lines]) + "\n")
    return folder


def hold(half, competition, **options):
    """The entries of a half, made where it is not; nobody holds it after this."""
    ids = pl.read_csv(competition / "train.csv")[half.column]
    lock, entries = store_build.hold_half(half, competition, competition / "store", ids, **options)
    lock.close()
    return entries


def whole_file(competition):
    return values_file(competition / "store", EEGS).read_bytes()


def contents(competition):
    """Name -> bytes of every file in the store."""
    return {path.name: path.read_bytes() for path in sorted((competition / "store").iterdir())}


def store_files(competition):
    """Name -> inode and times of every file in the store but the locks."""
    found = {path.name: path.stat() for path in (competition / "store").iterdir() if path.suffix != ".lock"}
    return {name: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in found.items()}


def decoded(monkeypatch):
    """The ids that are decoded from here on, in this process."""
    ids, store_recording = [], store_build.store_recording
    counted = lambda *given: ids.append(given[-1].id) or store_recording(*given)  # noqa: E731
    monkeypatch.setattr(store_build, "store_recording", counted)
    return ids
