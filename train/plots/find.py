"""What there is of an EEG: its files, its label row, its votes and predictions."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from common.errors import KitError
from common.inputs.base import Windows
from common.records import cut, read_eeg, read_spectrogram
from common.schema import (
    PATTERNS,
    SFREQ,
    SPECTROGRAM_COLUMNS,
    SPECTROGRAM_STEP_SECONDS,
    TEST_EEGS,
    TEST_SPECTROGRAMS,
    TEST_TABLE,
    TRAIN_EEGS,
    TRAIN_SPECTROGRAMS,
    TRAIN_TABLE,
    VOTES,
    WINDOW_SAMPLES,
)
from common.signal.spectrogram import rebuild_spectrogram
from train.data.labels import label_rows, read_train_table
from train.engine.run_folder import OOF, read_run, read_table


class ShowError(KitError):
    """An EEG that cannot be shown. The message says what was looked for and what there is."""


@dataclass(frozen=True)
class Found:
    """Where an EEG is: its recordings, and its label row (None in the test set)."""

    eeg_id: int
    patient_id: int
    spectrogram_id: int
    label: dict[str, Any] | None


@dataclass(frozen=True)
class Recordings:
    """Both recordings whole, (20, time) and (4, 100, columns) or None, and where the window starts in them."""

    eeg: np.ndarray
    spectrogram: np.ndarray | None
    eeg_start: int  # samples
    spectrogram_start: int  # columns
    remarks: tuple[str, ...]

    def window(self, shift: float = 0.0) -> Windows:
        """A batch of one, so many seconds later, its spectrogram rebuilt from the EEG when there is none."""
        eeg_start = self.eeg_start + round(shift * SFREQ)
        eeg = torch.from_numpy(cut(self.eeg, eeg_start, WINDOW_SAMPLES))
        if self.spectrogram is None:
            return Windows(eeg[None], rebuild_spectrogram(None, eeg)[None])
        start = self.spectrogram_start + round(shift / SPECTROGRAM_STEP_SECONDS)
        return Windows(eeg[None], torch.from_numpy(cut(self.spectrogram, start, SPECTROGRAM_COLUMNS))[None])

    def window_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The window's (20, 10000) microvolts and (4, 100, 300) power, NaN where missing."""
        window = self.window()
        assert window.eeg is not None and window.spectrogram is not None
        return window.eeg[0].numpy(), window.spectrogram[0].numpy()


def read_test_ids(competition: Path) -> pl.DataFrame:
    """test.csv's ids. Raises ShowError."""
    path = competition / TEST_TABLE
    try:
        return pl.read_csv(path).select(pl.col("eeg_id", "spectrogram_id", "patient_id").cast(pl.Int64))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ShowError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})") from error


def read_tables(competition: Path, split: str | None) -> dict[str, pl.DataFrame]:
    """The label rows as "train" and the rows of test.csv as "test", those there are. Raises ShowError."""
    names = {"train": TRAIN_TABLE, "test": TEST_TABLE}
    wanted = [split] if split else list(names)
    there = [name for name in wanted if (competition / names[name]).is_file()]
    if not there:
        expected = " or ".join(names[name] for name in wanted)
        raise ShowError(f"{competition}: no {expected} here; --competition wants the folder that holds it")
    return {name: label_rows(competition) if name == "train" else read_test_ids(competition) for name in there}


def unknown_id(eeg_id: int, tables: Mapping[str, pl.DataFrame]) -> ShowError:
    """The refusal of an id that no table has, with those that look like it."""
    known = {name: table["eeg_id"].unique().sort().cast(str).to_list() for name, table in tables.items()}
    counts = " and ".join(f"the {len(ids)} EEGs of {name}.csv" for name, ids in known.items())
    every = [text for ids in known.values() for text in ids]
    near = difflib.get_close_matches(str(eeg_id), every, n=3, cutoff=0.6) or every[:3]
    return ShowError(f"EEG {eeg_id} is not among {counts}; there are, for example, {', '.join(near)}")


def choose_label(competition: Path, rows: pl.DataFrame, label_id: int | None) -> dict[str, Any]:
    """The label row with most votes, or the one whose votes `label_id` has. Raises ShowError."""
    if label_id is None:
        return rows.sort("total_votes", "label_id", descending=[True, False]).row(0, named=True)
    table = read_train_table(competition).filter(pl.col("label_id") == label_id)
    found = rows.join(table.select("eeg_id", *VOTES), on=["eeg_id", *VOTES], how="semi")
    if found.height == 0:
        there = ", ".join(f"{row['label_id']} ({row['total_votes']} votes)" for row in rows.iter_rows(named=True))
        raise ShowError(f"--label {label_id} is no label of EEG {rows['eeg_id'][0]}; its label rows are {there}")
    return found.row(0, named=True)


def find(competition: Path, tables: Mapping[str, pl.DataFrame], eeg_id: int, label_id: int | None) -> Found:
    """Where an EEG is. Raises ShowError."""
    for name, table in tables.items():
        rows = table.filter(pl.col("eeg_id") == eeg_id)
        if rows.height == 0:
            continue
        if name == "test" and label_id is not None:
            raise ShowError(f"--label {label_id}: EEG {eeg_id} is in the test set, which has no labels")
        label = choose_label(competition, rows, label_id) if name == "train" else None
        row = label or rows.row(0, named=True)
        return Found(eeg_id, row["patient_id"], row["spectrogram_id"], label)
    raise unknown_id(eeg_id, tables)


def read_recordings(competition: Path, found: Found) -> Recordings:
    """Both recordings of an EEG; a spectrogram that has no file is None. Raises RecordingError."""
    eegs, spectrograms = (TRAIN_EEGS, TRAIN_SPECTROGRAMS) if found.label else (TEST_EEGS, TEST_SPECTROGRAMS)
    eeg = read_eeg(competition / eegs / f"{found.eeg_id}.parquet")
    remarks = [f"EEG file: {finding}" for finding in eeg.findings]
    file, spectrogram = competition / spectrograms / f"{found.spectrogram_id}.parquet", None
    if file.is_file():
        recording = read_spectrogram(file)
        spectrogram = recording.values
        remarks += [f"spectrogram file: {finding}" for finding in recording.findings]
    else:
        remarks.append(
            f"No spectrogram {spectrograms}/{file.name}: its 24 columns inside these 50 s are rebuilt from the EEG, "
            "the others are missing"
        )
    if found.label:
        starts = found.label["eeg_start"], found.label["spectrogram_start"]
    else:
        eeg_time, columns = eeg.values.shape[-1], SPECTROGRAM_COLUMNS if spectrogram is None else spectrogram.shape[-1]
        starts = (eeg_time - WINDOW_SAMPLES) // 2, (columns - SPECTROGRAM_COLUMNS) // 2
    return Recordings(eeg.values, spectrogram, *starts, tuple(remarks))


def true_shares(competition: Path, found: Found) -> dict[str, np.ndarray]:
    """A simulation's probabilities of this EEG; none for real data."""
    if found.label:
        name, row = "train_probabilities.csv", {"label_id": found.label["label_id"]}
    else:
        name, row = "probabilities.csv", {"eeg_id": found.eeg_id}
    path = competition / "truth" / name
    if not path.is_file():
        return {}
    rows = pl.read_csv(path).filter(**row).select(VOTES)
    return {"truth of the simulation": rows.to_numpy()[0]} if rows.height else {}


def predicted_shares(runs: Sequence[Path], found: Found) -> dict[str, np.ndarray]:
    """Out-of-fold predictions of the runs that have this label row. Raises RunError."""
    shares: dict[str, np.ndarray] = {}
    for run in runs if found.label else ():
        name, rows = read_run(run).name, read_table(run / OOF).filter(label_id=found.label["label_id"])
        if rows.height:
            shares[f"{name} (fold {rows['fold'][0]})"] = rows.select(PATTERNS).to_numpy()[0]
    return shares
