"""A hidden test to break: the sound rows of a competition's test set, a sound base, and a row for each fault."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from common.records import RecordingError, read_eeg, read_spectrogram
from common.schema import SPECTROGRAM_COLUMNS, TEST_EEGS, TEST_SPECTROGRAMS, TEST_TABLE, WINDOW_SAMPLES
from drilling.damage import FILE_FAULTS
from drilling.faults import CASES, Case

# The base is the recording that every fault is made of. Nineteen digits: no id of a competition, and ids that pass
# through a float on their way would fall together.
BASE = 9_000_000_000_000_000_000
ID = {name: number for number, name in enumerate(CASES, start=BASE + 1)}
SOUND_ROWS = 50  # of the test set, at most


class DrillError(Exception):
    """The drill was not run. The message says what was found, what was expected and what to do."""


def is_sound(eeg: Path, spectrogram: Path) -> bool:
    """Whether nothing is wrong with two recordings, and the EEG in whole microvolts fits an Int16."""
    try:
        recordings = read_eeg(eeg), read_spectrogram(spectrogram)
    except RecordingError:
        return False
    whole = all(not one.findings and np.isfinite(one.values).all() for one in recordings)
    lengths = tuple(one.values.shape[-1] for one in recordings)
    small = float(np.nanmax(np.abs(recordings[0].values))) < 2**15 - 1
    return whole and lengths == (WINDOW_SAMPLES, SPECTROGRAM_COLUMNS) and small


def sound_base(competition: Path, table: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """EEG, in whole microvolts so that an integer file can hold the same, and spectrogram. Raises DrillError."""
    for spectrogram_id, eeg_id in table.select("spectrogram_id", "eeg_id").iter_rows():
        eeg = competition / TEST_EEGS / f"{eeg_id}.parquet"
        spectrogram = competition / TEST_SPECTROGRAMS / f"{spectrogram_id}.parquet"
        if is_sound(eeg, spectrogram):
            return pl.read_parquet(eeg).select(pl.all().round(0)), pl.read_parquet(spectrogram)
    found = f"{competition / TEST_TABLE} lists {table.height} rows, none with a sound EEG and spectrogram"
    raise DrillError(f"{found}; the drill breaks a sound one: give another competition folder.")


def place(path: Path, frame: pl.DataFrame, fault: object) -> None:
    if callable(fault) and fault not in FILE_FAULTS:
        frame = fault(frame)
    frame.write_parquet(path)
    if callable(fault) and fault in FILE_FAULTS:
        fault(path)


def write_hidden_test(competition: Path, folder: Path, cases: Mapping[str, Case]) -> list[int]:
    """A competition folder with a row for each case; returns the eeg_ids of its sound rows, the base last."""
    table = pl.read_csv(competition / TEST_TABLE).select("spectrogram_id", "eeg_id").head(SOUND_ROWS)
    eeg, spectrogram = sound_base(competition, table)
    for name, column in ((TEST_EEGS, "eeg_id"), (TEST_SPECTROGRAMS, "spectrogram_id")):
        (folder / name).mkdir(parents=True)
        for number in table[column].unique():
            file = f"{number}.parquet"
            if (competition / name / file).is_file():
                shutil.copyfile(competition / name / file, folder / name / file)
    rows = [(BASE, BASE)]
    for name, case in {"base": Case(), **cases}.items():
        number = ID.get(name, BASE)
        place(folder / TEST_EEGS / f"{number}.parquet", eeg, case.eeg)
        place(folder / TEST_SPECTROGRAMS / f"{number}.parquet", spectrogram, case.spectrogram)
        if name in cases:
            rows += [(number if case.spectrogram_id else None, number)] * case.listed
    added = pl.DataFrame(rows, schema=table.schema, orient="row")
    pl.concat([table, added]).sample(fraction=1, shuffle=True, seed=2).write_csv(folder / TEST_TABLE)
    return [*table["eeg_id"].to_list(), BASE]
