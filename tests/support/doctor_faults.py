"""Ways to spoil a sound competition, each with the check that finds it and how bad it is."""

import os

import numpy as np
import polars as pl

from common.schema import VOTES

STOPS, LOST, KNOW, NO_ANSWER = "stops training", "costs rows", "worth knowing", "stops predicting"
EEG, SPECTROGRAM = "train_eegs", "train_spectrograms"


class Fault:
    """One way to spoil a competition: plant(c) spoils the copy `c` and returns what must be named."""

    def __init__(self, check, severity, spoil, *words, **cells):
        self.check, self.severity = check, severity
        self.plant = lambda c: spoil(c, *words, **cells)

    def __str__(self):
        return self.check


# ---- tables


def set_in_row(c, row, **values):
    """Cells of one row of train.csv; names its label_id."""
    c.edit("train.csv", row, **values)
    return c.table()["label_id"][row]


def drop_column(c, name, column):
    c.write(name, c.table(name).drop(column).write_csv().encode())
    return column


def label_twice(c):
    label = c.table()["label_id"][0]
    c.edit("train.csv", 3, label_id=label)
    return label


def under_two_patients(c, column):
    """Another patient's row says that it shows the first row's recording."""
    table = c.table()
    other = int(np.argmax(table["patient_id"].to_numpy() != table["patient_id"][0]))
    c.edit("train.csv", other, **{column: table[column][0]})
    return table[column][0]


def consensus_beaten(c):
    place = int(np.argmax(c.table()["seizure_vote"].to_numpy() == 0))
    return set_in_row(c, place, expert_consensus="Seizure")


def rows_of_an_eeg(c):
    """An EEG with several windows of one consensus, and their rows."""
    eegs = c.table().with_row_index("row").group_by("eeg_id", maintain_order=True).agg("row", "expert_consensus")
    return next((e, rows) for e, rows, names in eegs.iter_rows() if len(rows) > 1 and len(set(names)) == 1)


def eeg_of_two_spectrograms(c):
    """A window of an EEG says that it is the first of the same patient's other spectrogram."""
    eeg, rows = rows_of_an_eeg(c)
    table = c.table()
    patient, spectrogram = table.row(rows[0], named=True)["patient_id"], table["spectrogram_id"][rows[0]]
    others = table.filter((pl.col("patient_id") == patient) & (pl.col("spectrogram_id") != spectrogram))
    set_in_row(c, rows[0], spectrogram_id=others["spectrogram_id"][0], spectrogram_label_offset_seconds=0.0)
    return eeg


def offsets_apart(c):
    eeg, rows = rows_of_an_eeg(c)
    set_in_row(c, rows[0], spectrogram_label_offset_seconds=c.table()["spectrogram_label_offset_seconds"][rows[0]] + 2)
    return eeg


def in_train_and_test(c, column):
    value = c.table()[column][0]
    c.edit("test.csv", 0, **{column: value})
    if column != "patient_id":
        kind = column.replace("_id", "s")
        os.link(*(c.folder / c.recording(f"{half}_{kind}", value) for half in ("train", "test")))
    return value


def set_in_test(c, row, **values):
    c.edit("test.csv", row, **values)
    return f"row {row + 1}"


def without(c, name):
    (c.folder / name).unlink()
    return name


def too_long_a_line(c):
    c.write("train.csv", c.table().write_csv().encode() + b"1," * 30 + b"1\n")  # a line of twice as many cells
    return ""


TABLE_FAULTS = [
    Fault("table-missing", STOPS, without, "train.csv"),
    Fault("table-damaged", STOPS, too_long_a_line),
    Fault("table-columns", STOPS, drop_column, "train.csv", "patient_id"),
    Fault("label-number", STOPS, set_in_row, 1, eeg_label_offset_seconds=None),
    Fault("label-number", STOPS, set_in_row, 1, eeg_id="inf"),
    Fault("vote-number", STOPS, set_in_row, 1, lpd_vote=-1),
    Fault("vote-number", STOPS, set_in_row, 1, lpd_vote="many"),
    Fault("no-votes", STOPS, set_in_row, 2, **dict.fromkeys(VOTES, 0)),
    Fault("consensus-name", STOPS, set_in_row, 1, expert_consensus="PDA"),
    Fault("label-twice", STOPS, label_twice),
    Fault("eeg-patients", STOPS, under_two_patients, "eeg_id"),
    Fault("spectrogram-patients", STOPS, under_two_patients, "spectrogram_id"),
    Fault("consensus-beaten", KNOW, consensus_beaten),
    Fault("eeg-spectrograms", KNOW, eeg_of_two_spectrograms),
    Fault("offsets-apart", KNOW, offsets_apart),
    Fault("table-missing", NO_ANSWER, without, "test.csv"),
    Fault("table-columns", NO_ANSWER, drop_column, "test.csv", "eeg_id"),
    Fault("test-number", NO_ANSWER, set_in_test, 1, eeg_id="none"),
    Fault("train-and-test-patient", KNOW, in_train_and_test, "patient_id"),
    Fault("train-and-test-eeg", KNOW, in_train_and_test, "eeg_id"),
    Fault("train-and-test-spectrogram", KNOW, in_train_and_test, "spectrogram_id"),
]


# ---- recordings


def first(c, folder):
    table = c.table("test.csv" if folder.startswith("test") else "train.csv")
    return table["eeg_id" if folder.endswith("eegs") else "spectrogram_id"][0]


def gone(c, folder):
    recording = first(c, folder)
    (c.folder / c.recording(folder, recording)).unlink()
    return recording


def cut_short(c, folder):
    name = c.recording(folder, first(c, folder))
    c.write(name, (c.folder / name).read_bytes()[:5_000])
    return first(c, folder)


def changed(c, folder, change):
    c.change(c.recording(folder, first(c, folder)), change)
    return first(c, folder)


def put(value, rows=slice(None), name="C3"):
    """The columns that start with `name` set to a value in a slice of the rows."""

    def change(frame):
        columns = [column for column in frame.columns if column.startswith(name)]
        values = {column: frame[column].to_numpy().copy() for column in columns}
        for column in columns:
            values[column][rows] = value
        return frame.with_columns(**values)

    return change


def late_window(c):
    """A window 1,000 s into an EEG that is shorter."""
    set_in_row(c, 0, eeg_label_offset_seconds=1000.0)
    return c.table()["eeg_id"][0]


def same_as(c, folder, of):
    """A recording's values stored again as another one's, compressed otherwise."""
    tables = {name: c.table(f"{name.split('_')[0]}.csv") for name in (folder, of)}
    column = "eeg_id" if folder.endswith("eegs") else "spectrogram_id"
    lengths = [pl.scan_parquet(c.folder / c.recording(folder, i)).select(pl.len()) for i in tables[folder][column]]
    longest = int(np.argmax([each.item() for each in pl.collect_all(lengths)]))  # so that all windows fit
    source = tables[folder].row(longest, named=True)
    other = tables[of].filter(pl.col("patient_id") != source["patient_id"])[column][0]
    name = c.recording(of, other)
    (c.folder / name).unlink()
    frame = pl.read_parquet(c.folder / c.recording(folder, source[column]))
    frame.write_parquet(c.folder / name, compression="uncompressed")
    places = sorted([(folder, source[column]), (of, other)])
    return " = ".join(f"{place}/{recording}" for place, recording in places)


MILLIVOLTS = "reader: typical amplitude below 0.5 uV, as if in millivolts or volts"
FILE_FAULTS = [
    Fault("missing", STOPS, gone, EEG),
    Fault("missing", STOPS, gone, SPECTROGRAM),
    Fault("missing", LOST, gone, "test_eegs"),
    Fault("missing", KNOW, gone, "test_spectrograms"),
    Fault("damaged", STOPS, cut_short, EEG),
    Fault("damaged", STOPS, cut_short, SPECTROGRAM),
    Fault("damaged", STOPS, changed, EEG, put(np.nan, name="")),
    Fault("damaged", STOPS, changed, EEG, lambda frame: frame[:0]),
    Fault("reader: no channel varies", LOST, changed, EEG, put(3.0, name="")),
    Fault("reader: missing columns read as NaN", KNOW, changed, EEG, lambda frame: frame.drop("Cz")),
    Fault("reader: numbers are Float64", KNOW, changed, EEG, lambda frame: frame.cast(pl.Float64)),
    Fault(MILLIVOLTS, KNOW, changed, EEG, lambda frame: frame * 1e-6),
    Fault("window-outside", LOST, changed, EEG, lambda frame: frame[:5_000]),
    Fault("window-outside", LOST, changed, SPECTROGRAM, lambda frame: frame[:200]),
    Fault("window-outside", LOST, late_window),
    Fault("window-empty", LOST, late_window),
    Fault("same-content", KNOW, same_as, EEG, EEG),
    Fault("same-content", KNOW, same_as, SPECTROGRAM, SPECTROGRAM),
    Fault("same-content", KNOW, same_as, EEG, "test_eegs"),
    Fault("eeg-missing", KNOW, changed, EEG, put(np.nan, slice(200))),
    Fault("electrode-flat", KNOW, changed, EEG, put(5)),
    Fault("eeg-outlier", KNOW, changed, EEG, put(1e5, slice(900, 910))),
    Fault("ekg", KNOW, changed, EEG, put(0, name="EKG")),
    Fault("ekg", KNOW, changed, EEG, put(np.nan, name="EKG")),
    Fault("ekg", KNOW, changed, EEG, lambda frame: frame.with_columns(pl.col("EKG") * 1000)),
    Fault("spectrogram-missing", KNOW, changed, SPECTROGRAM, put(np.nan, slice(10, 40), name="LP")),
    Fault("spectrogram-zero", KNOW, changed, SPECTROGRAM, put(0, name="LP")),
    Fault("spectrogram-time", KNOW, changed, SPECTROGRAM, put(100_001, slice(-1, None), name="time")),
]
