"""Is the data sound? Every recording that a table names is read once; what was found, and whether training can start.

The JSON file (`DoctorReport.as_values`), format 2; names are only added to a format:
    format, competition, can_start (bool), test_only (bool)
    counts          {severity: number of findings}; severities as in findings.py, the worst first
    findings        [{check, severity, where, what, todo, count, cases: [str], ids: [int]}], the worst first;
                    `check` is a fixed name to select by, or "reader: ..." with what records.py repaired
    tables          {file: {rows, eegs, spectrograms, patients}}, of those that could be read
    changes         null, or {eegs, consensus_changes, overlaps_differ}: EEGs of train.csv in which experts changed
                    their minds, between windows and where the labelled 10 s of two windows overlap
    recordings      {folder: {id: [..], n_time, missing, flat, largest}}: lists in the same order, null where there is
                    no number. EEG: missing is the share of samples, flat the share of whole seconds in which an
                    electrode does not vary, largest in microvolts from the electrode's mean, all over the scalp;
                    spectrogram: shares of missing and of zero power, and the largest power
    electrodes      {folder of EEGs: [{electrode, missing, flat, largest_median, largest_95, largest_max}]}: means over
                    the files, and microvolts
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from common.schema import TEST_EEGS, TEST_SPECTROGRAMS, TEST_TABLE, TRAIN_TABLE
from train.data.folds import FoldError, fold_table, folds_from_table, make_folds, read_fold_table
from train.data.labels import OFFSETS, label_rows
from train.data.recording_kinds import EEGS, RECORDING_KINDS, SPECTROGRAMS, RecordingKind
from train.doctor.findings import FORMAT, SEVERITIES, STOPS_PREDICTING, STOPS_TRAINING, Finding, found
from train.doctor.measure import Facts, Source, electrode_numbers, examine_all, recording_numbers
from train.doctor.recordings import recording_findings, same_content
from train.doctor.tables import changes_within_eegs, findings_of_test, read_table, table_numbers, train_findings

THREADS_A_CORE = 2  # one waits for the disk, or for the threads of polars, while the other counts
# Folders with their kind of recording, of the training and of the test set.
TRAIN_FOLDERS = {EEGS.folder: EEGS, SPECTROGRAMS.folder: SPECTROGRAMS}
TEST_FOLDERS = {TEST_EEGS: EEGS, TEST_SPECTROGRAMS: SPECTROGRAMS}


@dataclass(frozen=True)
class DoctorReport:
    """What was found. facts: of each folder, by id; tables, changes: as in the JSON file."""

    competition: Path
    test_only: bool
    findings: tuple[Finding, ...]
    tables: dict[str, dict[str, int]]
    changes: dict[str, int] | None
    facts: dict[str, list[Facts]]

    @property
    def can_start(self) -> bool:
        """Whether nothing stops training, or where only the test set was looked at, predicting."""
        stops = STOPS_PREDICTING if self.test_only else STOPS_TRAINING
        return not any(finding.severity == stops for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        return {severity: sum(f.severity == severity for f in self.findings) for severity in SEVERITIES}

    def electrodes(self) -> dict[str, list[dict[str, Any]]]:
        """The numbers of each electrode, by folder."""
        return {f: electrode_numbers(facts) for f, facts in self.facts.items() if f in (EEGS.folder, TEST_EEGS)}

    def as_values(self) -> dict[str, Any]:
        """What the JSON file holds."""
        return {
            "format": FORMAT,
            "competition": self.competition.name,
            "can_start": self.can_start,
            "test_only": self.test_only,
            "counts": self.counts,
            "findings": [finding.as_values() for finding in self.findings],
            "tables": self.tables,
            "changes": self.changes,
            "recordings": {folder: recording_numbers(facts) for folder, facts in self.facts.items()},
            "electrodes": self.electrodes(),
        }


def doctor(
    competition: Path, folds: int | Path = 5, workers: int | None = None, test_only: bool = False
) -> DoctorReport:
    """Look at the tables and once at every recording that they name.

    folds: how many, made as `run` makes them, or a table of them. workers: threads that read (default: two a core).
    test_only: the test set alone, as where there is no train.csv. Faults are findings; only the unforeseen raises.
    """
    workers = workers or THREADS_A_CORE * len(os.sched_getaffinity(0))
    tables, findings = {}, []
    for name in (TEST_TABLE,) if test_only else (TRAIN_TABLE, TEST_TABLE):
        tables[name], of_table = read_table(competition, name)
        findings += of_table
    train, test = tables.get(TRAIN_TABLE), tables[TEST_TABLE]
    if train is not None:
        findings += train_findings(train)
        if not any(finding.severity == STOPS_TRAINING for finding in findings):
            findings += fold_findings(competition, folds)
    findings += findings_of_test(test, train)
    facts = {}
    for folder, kind in (TEST_FOLDERS if test_only else TRAIN_FOLDERS | TEST_FOLDERS).items():
        training = folder in TRAIN_FOLDERS
        sources, missing = named_recordings(competition, kind, folder, train if training else test)
        facts[folder] = sorted(examine_all(sources, workers, folder), key=lambda one: one.source.id)
        findings += recording_findings(missing, facts[folder], training)
    findings += same_content(one for of_folder in facts.values() for one in of_folder)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))  # stable: tables before recordings
    numbers = {name: table_numbers(table) for name, table in tables.items() if table is not None}
    changes = None if train is None else changes_within_eegs(train)
    return DoctorReport(competition, test_only, tuple(findings), numbers, changes, facts)


def fold_findings(competition: Path, folds: int | Path) -> list[Finding]:
    """What training refuses of the folds that `run` would make or take, by the functions that training uses."""
    try:
        rows = label_rows(competition)
        fold = make_folds(rows, folds) if isinstance(folds, int) else folds_from_table(rows, read_fold_table(folds))
        fold_table(rows.with_columns(fold=pl.Series(fold)))  # refuses a patient in two folds
    except FoldError as error:
        where = "folds" if isinstance(folds, int) else folds.name
        todo = "other folds: --folds here, folds or --fold-table in the run"
        return found("folds", STOPS_TRAINING, where, "folds that cannot be used", todo, cases=[str(error)])
    return []


def named_recordings(
    competition: Path, kind: RecordingKind, folder: str, table: pl.DataFrame | None
) -> tuple[list[Source], list[Source]]:
    """The recordings that a table names, by id: those whose files are there, and those that are missing."""
    if table is None:
        return [], []
    offset = OFFSETS[RECORDING_KINDS.index(kind)]
    start, patient = (pl.col(c) if c in table.columns else pl.lit(None) for c in (offset, "patient_id"))
    named = (
        table.filter(pl.col(kind.column).is_not_null()).group_by(kind.column).agg(start.drop_nulls(), patient.first())
    )
    there = set(os.listdir(competition / folder)) if (competition / folder).is_dir() else set()
    sources, missing = [], []
    for number, starts, patient_id in named.sort(kind.column).iter_rows():
        path = competition / folder / f"{int(number)}.parquet"
        # To whole samples and columns, as label rows do.
        whole = tuple(sorted({int(start * kind.rate) for start in starts}))
        source = Source(kind, folder, int(number), path, whole, None if patient_id is None else int(patient_id))
        (sources if path.name in there else missing).append(source)
    return sources, missing
