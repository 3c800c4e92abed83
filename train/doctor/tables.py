"""Findings about train.csv and test.csv: every refusal of training's, and what it lets pass."""

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from common.schema import CONSENSUS, LABELLED_SECONDS, TEST_TABLE, TRAIN_TABLE, VOTES
from train.data.labels import FIX_ROWS, IDS, LABEL_COLUMNS, OFFSETS, find_violations, with_several
from train.doctor.findings import STOPS_PREDICTING, STOPS_TRAINING, WORTH_KNOWING, Finding, found
from train.doctor.recordings import NO_NEW_PATIENTS

COLUMNS = {
    TRAIN_TABLE: LABEL_COLUMNS,
    TEST_TABLE: ("spectrogram_id", "eeg_id"),  # what the kernel reads; patient_id is there for people
}
ROW = "row"  # of the file, the first after the header is 1
STOPS = {TRAIN_TABLE: STOPS_TRAINING, TEST_TABLE: STOPS_PREDICTING}
# EEGs of the competition's train.csv in which experts changed their minds: normal there, and no fault.
COMPETITION_CHANGES = {"eegs": 17_089, "consensus_changes": 783, "overlaps_differ": 912}


def read_table(competition: Path, name: str) -> tuple[pl.DataFrame | None, list[Finding]]:
    """A table with its expected columns as numbers (Float64, null where there is none) and `row`; None with why."""
    stops, path = STOPS[name], competition / name
    fetch = "download it again"
    try:
        table = pl.read_csv(path, infer_schema_length=None)
    except FileNotFoundError:
        alone = "; a test set alone is looked at with --test-only" if name == TRAIN_TABLE else ""
        return None, found("table-missing", stops, name, "no such file", fetch + alone, cases=[path.name])
    except pl.exceptions.NoDataError:
        table = pl.DataFrame(schema=dict.fromkeys(COLUMNS[name], pl.Float64))
    except (OSError, pl.exceptions.PolarsError) as error:
        return None, found("table-damaged", stops, name, "not readable", fetch, cases=[str(error).splitlines()[0]])
    if absent := [column for column in COLUMNS[name] if column not in table.columns]:
        return None, found("table-columns", stops, name, "missing columns", fetch, cases=absent)
    if table.height == 0:
        empty = WORTH_KNOWING if name == TEST_TABLE else stops  # the kernel answers a test set without rows
        return None, found("table-empty", empty, name, "no rows", fetch, cases=[path.name])
    wanted = dict.fromkeys((*COLUMNS[name], *(c for c in ("patient_id",) if c in table.columns)))
    text = pl.col("expert_consensus").cast(pl.String)
    columns = [text if column == "expert_consensus" else finite(column) for column in wanted]
    return table.select(columns).with_row_index(ROW, 1), []


def finite(column: str) -> pl.Expr:
    """A column as numbers: null where there is none, or no finite one."""
    number = pl.col(column).cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number).alias(column)


def whole(table: pl.DataFrame, columns: tuple[str, ...]) -> pl.Series:
    """Which rows have a number in each of the columns."""
    return table.select(pl.all_horizontal(pl.col(columns).is_not_null())).to_series()


def train_findings(table: pl.DataFrame) -> list[Finding]:
    """What training refuses, and of the other rows what a reader of scores should know."""
    findings, refused = [], []
    for rule in find_violations(table):
        findings += found(rule.check, STOPS_TRAINING, TRAIN_TABLE, rule.what, rule.todo, rule.ids, rule.cases)
        refused += rule.rows.tolist()
    return findings + label_findings(table.filter(~pl.int_range(pl.len()).is_in(refused)))


def label_findings(table: pl.DataFrame) -> list[Finding]:
    """What training accepts and a reader of scores should know. Only rows that training accepts."""
    eeg, spectrogram = OFFSETS
    votes = table.select(VOTES).to_numpy()
    place = np.array([CONSENSUS.index(name) for name in table["expert_consensus"]], dtype=np.int64)
    beaten = votes[np.arange(len(votes)), place] < votes.max(axis=1, initial=0)
    lag = table.with_columns(lag=pl.col(spectrogram) - pl.col(eeg)).group_by("eeg_id", "spectrogram_id")
    apart = lag.agg(pl.col("lag").n_unique()).filter(pl.col("lag") > 1)["eeg_id"].unique().sort()
    several = with_several(table, "eeg_id", "spectrogram_id")
    minority = table.filter(beaten)["label_id"]
    know = partial(found, severity=WORTH_KNOWING, where=TRAIN_TABLE)
    beaten_rows, several_words = "rows whose consensus has not the most votes", "EEGs with several spectrograms"
    offsets = "EEGs whose two offsets do not advance together"
    correct = "EEG and spectrogram do not match: correct the offsets"
    return [
        *know("consensus-beaten", what=beaten_rows, todo="training goes by the votes", ids=minority),
        *know("eeg-spectrograms", what=several_words, todo="label rows take the first window's", ids=several),
        *know("offsets-apart", what=offsets, todo=correct, ids=apart),
    ]


def changes_within_eegs(table: pl.DataFrame) -> dict[str, int]:
    """EEGs of train.csv; those whose consensus changes between windows; those with windows whose labelled 10 s overlap
    and whose votes differ. Only rows with numbers."""
    table = table.filter(whole(table, (*IDS, *OFFSETS, *VOTES)))
    # Windows of an EEG in the order of their starts: each with the one before.
    windows = table.sort("eeg_id", OFFSETS[0]).with_columns(
        follows=pl.col("eeg_id") == pl.col("eeg_id").shift(), after=pl.col(OFFSETS[0]) - pl.col(OFFSETS[0]).shift()
    )
    differ = pl.any_horizontal(pl.col(vote) != pl.col(vote).shift() for vote in VOTES)
    overlapping = windows.filter(pl.col("follows") & (pl.col("after") < LABELLED_SECONDS) & differ)
    return {
        "eegs": table["eeg_id"].n_unique(),
        "consensus_changes": len(with_several(table, "eeg_id", "expert_consensus")),
        "overlaps_differ": overlapping["eeg_id"].n_unique(),
    }


def findings_of_test(test: pl.DataFrame | None, train: pl.DataFrame | None) -> list[Finding]:
    """What test.csv says, alone and beside train.csv; None where there is no such table."""
    if test is None:
        return []
    cases = [f"row {row}" for row in test.filter(pl.col("eeg_id").is_null())[ROW]]
    findings = found(
        "test-number", STOPS_PREDICTING, TEST_TABLE, "rows whose eeg_id is no number", FIX_ROWS, cases=cases
    )
    for column in ("patient_id", "eeg_id", "spectrogram_id"):
        if train is not None and column in test.columns:
            both = sorted(set(train[column].drop_nulls()) & set(test[column].drop_nulls()))
            check, what = f"train-and-test-{column[:-3]}", f"{column}s in train and test"
            findings += found(check, WORTH_KNOWING, TEST_TABLE, what, NO_NEW_PATIENTS, both)
    return findings


def table_numbers(table: pl.DataFrame) -> dict[str, int]:
    """Rows, and how many different ids they name."""
    names = [name for name in ("eeg_id", "spectrogram_id", "patient_id") if name in table.columns]
    return {"rows": table.height} | {f"{name[:-3]}s": table[name].drop_nulls().n_unique() for name in names}
