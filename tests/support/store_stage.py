"""What the tests of the store share: a small competition, and a look at what is stored."""

import dataclasses

import numpy as np
import polars as pl

from common.schema import N_ELECTRODES, N_FREQUENCIES, REGIONS
from train.data.recording_kinds import EEGS
from train.data.store_build import open_store, values_file
from train.simulate import recording_files

HEAD = (
    "eeg_id,eeg_label_offset_seconds,spectrogram_id,spectrogram_label_offset_seconds,label_id,patient_id,"
    "expert_consensus,seizure_vote,lpd_vote,gpd_vote,lrda_vote,grda_vote,other_vote"
)
LENGTHS = (10_000, 12_400, 301, 10_001)  # of the EEGs; spectrograms have 300, 340, 7, 301 columns


def write_eeg(path, n_time, seed):
    values = np.random.default_rng(seed).normal(0, 30, (n_time, N_ELECTRODES)).astype(np.float32)
    values[5, 3] = np.nan
    recording_files.write_eeg(path, values.T)


def write_spectrogram(path, columns, seed):
    values = np.random.default_rng(seed).gamma(2, size=(len(REGIONS), N_FREQUENCIES, columns)).astype(np.float32)
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


def hold(competition, kind=EEGS, **options):
    """The entries of the store of one kind, made where there is none."""
    ids = pl.read_csv(competition / "train.csv")[kind.column]
    return open_store(kind, competition, competition / "store", ids, **options)[1]


def stored_values(competition):
    return values_file(competition / "store", EEGS).read_bytes()


def contents(competition):
    """Name -> bytes of every file in the store but the locks."""
    return {path.name: path.read_bytes() for path in (competition / "store").iterdir() if path.suffix != ".lock"}


def counted():
    """EEGs as a kind of recording, and the ids that are read from their own files."""
    ids = []
    return dataclasses.replace(EEGS, read=lambda path: ids.append(int(path.stem)) or EEGS.read(path)), ids
