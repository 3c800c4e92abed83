"""EEG and spectrogram files as the competition's are made: names, order and types of columns, one row group."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow.parquet import write_table

from common.schema import ELECTRODES, REGIONS, SPECTROGRAM_FIELDS, SPECTROGRAM_STEP_SECONDS


def write_eeg(path: Path, eeg: np.ndarray) -> Path:
    """eeg: (electrodes, time) microvolts in schema order."""
    return write_columns(path, dict(zip(ELECTRODES, eeg, strict=True)))


def write_spectrogram(path: Path, power: np.ndarray, hidden: bool) -> Path:
    """power: (regions, frequencies, columns) in schema order. Times are int16 in the test set and int64 in train."""
    n_columns = power.shape[-1]
    times = 1 + SPECTROGRAM_STEP_SECONDS * np.arange(n_columns, dtype=np.int16 if hidden else np.int64)
    fields = (field for region in REGIONS for field in SPECTROGRAM_FIELDS[region])
    return write_columns(path, {"time": times} | dict(zip(fields, power.reshape(-1, n_columns), strict=True)))


def write_columns(path: Path, columns: dict[str, np.ndarray]) -> Path:
    floats = {name: values if name == "time" else values.astype(np.float32) for name, values in columns.items()}
    table = pa.table(floats)
    write_table(table, path, compression="snappy", row_group_size=table.num_rows)
    return path
