"""Is the data sound? Every recording is read once; what was found, and whether training can start.

The JSON file (`DoctorReport.as_values`), format 1; names are only ever added to it:
    format, competition, can_start (bool), test_only (bool)
    counts          {severity: number of findings}; severities as in doctor_findings.py, the worst first
    findings        [{check, severity, where, what, todo, count, cases: [str], ids: [int]}], the worst first;
                    `check` is a fixed name to select by, or "reader: ..." with what records.py repaired
    tables          {file: {rows, eegs, spectrograms, patients}}, of those that could be read
    changes         null, or {eegs, consensus_changes, overlaps_differ}: EEGs of train.csv in which experts changed
                    their minds, between windows and where the judged 10 s of two windows overlap
    folds           null, or {source, rows: [of each fold], patients: [of each fold]}
    reading         {folder: {files, bytes, seconds, workers}}; seconds of both kinds of recording by themselves
    extrapolation   null, or {eegs, spectrograms, eegs_per_second, spectrograms_per_second, seconds}: not measured
    recordings      {folder: {id: [..], n_time, missing, flat, largest}}: lists in the same order, null where there is
                    no number. EEG: missing is the share of samples, flat the share of whole seconds in which an
                    electrode stands still, largest in microvolts from the electrode's mean, all over the scalp;
                    spectrogram: shares of missing and of zero power, and the largest power
    electrodes      {folder of EEGs: [{electrode, missing, flat, largest_median, largest_95, largest_max,
                    missing_files, flat_files, largest_files}]}: means over the files, microvolts, and the number of
                    files in each bin of `share_bins` or `microvolt_bins`
    share_bins, microvolt_bins   edges; a bin holds its lower edge, the last one both
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.schema import (
    SAMPLE_SUBMISSION,
    TEST_EEGS,
    TEST_SPECTROGRAMS,
    TEST_TABLE,
    TRAIN_TABLE,
)
from train.doctor.findings import (
    COSTS_ROWS,
    SEVERITIES,
    STOPS_PREDICTING,
    STOPS_TRAINING,
    WORTH_KNOWING,
    Finding,
    found,
)
from train.doctor.measure import Facts, Source, examine_all, files_in
from train.doctor.numbers import MICROVOLT_BINS, SHARE_BINS, electrode_numbers, recording_numbers
from train.doctor.recordings import RESTORE, answered, findings_of, same_content
from train.doctor.tables import changes_within_eegs, findings_of_test, read_table, table_numbers, train_findings
from train.folds import FoldError, fold_table, folds_from_table, make_folds, read_fold_table
from train.labels import OFFSETS, LabelError, label_rows
from train.store_index import EEGS, HALVES, SPECTROGRAMS, Half

FORMAT = 1
THREADS_A_CORE = 2  # one waits for the disk, or for the threads of polars, while the other counts
FOLDERS = {EEGS.name: (EEGS.folder, TEST_EEGS), SPECTROGRAMS.name: (SPECTROGRAMS.folder, TEST_SPECTROGRAMS)}
FULL = {EEGS.name: 17_089, SPECTROGRAMS.name: 11_138}  # recordings of the competition's train.csv


@dataclass(frozen=True)
class DoctorReport:
    """What was found. `facts`: of each folder, by id; `reading`, `tables`, `changes`, `folds` as in the JSON
    file."""

    competition: Path
    test_only: bool
    findings: tuple[Finding, ...]
    tables: dict[str, dict[str, int]]
    changes: dict[str, int] | None
    folds: dict[str, Any] | None
    reading: dict[str, dict[str, Any]]
    facts: dict[str, list[Facts]]

    @property
    def can_start(self) -> bool:
        stops = STOPS_PREDICTING if self.test_only else STOPS_TRAINING
        return not any(finding.severity == stops for finding in self.findings)

    def rates(self) -> dict[str, float]:
        """Files a second of each kind of which there were any."""
        totals = {
            half: [sum(self.reading[f][what] for f in folders if f in self.reading) for what in ("files", "seconds")]
            for half, folders in FOLDERS.items()
        }
        return {half: files / seconds for half, (files, seconds) in totals.items() if files and seconds}

    def extrapolation(self) -> dict[str, float] | None:
        rates = self.rates()
        if rates.keys() != FULL.keys():
            return None
        seconds = sum(FULL[half] / rate for half, rate in rates.items())
        return {**FULL, **{f"{half}_per_second": rate for half, rate in rates.items()}, "seconds": seconds}

    def as_values(self) -> dict[str, Any]:
        """What the JSON file holds."""
        return {
            "format": FORMAT,
            "competition": self.competition.name,
            "can_start": self.can_start,
            "test_only": self.test_only,
            "counts": {severity: sum(f.severity == severity for f in self.findings) for severity in SEVERITIES},
            "findings": [finding.as_values() for finding in self.findings],
            "tables": self.tables,
            "changes": self.changes,
            "folds": self.folds,
            "reading": self.reading,
            "extrapolation": self.extrapolation(),
            "recordings": {folder: recording_numbers(facts) for folder, facts in self.facts.items()},
            "electrodes": {f: electrode_numbers(facts) for f, facts in self.facts.items() if f in FOLDERS[EEGS.name]},
            "share_bins": list(SHARE_BINS),
            "microvolt_bins": list(MICROVOLT_BINS),
        }


def doctor(
    competition: Path, folds: int | Path = 5, workers: int | None = None, test_only: bool = False
) -> DoctorReport:
    """Look at the tables and at every recording of a competition folder, once.

    folds: how many, made as `run` makes them, or a table of them. workers: threads that read (default: two a core).
    test_only: the test set alone, as where there is no train.csv. Faults are findings; only what nobody foresaw raises.
    """
    workers = workers or THREADS_A_CORE * len(os.sched_getaffinity(0))
    names = (TEST_TABLE, SAMPLE_SUBMISSION) if test_only else (TRAIN_TABLE, TEST_TABLE, SAMPLE_SUBMISSION)
    tables, findings = {}, []
    for name in names:
        tables[name], said = read_table(competition, name)
        findings += said
    train, test = tables.get(TRAIN_TABLE), tables[TEST_TABLE]
    said_of_folds = None
    if train is not None:
        findings += train_findings(train)
        if not any(finding.severity == STOPS_TRAINING for finding in findings):
            said_of_folds, said = look_at_folds(competition, folds)
            findings += said
    findings += findings_of_test(test, tables[SAMPLE_SUBMISSION], train)
    facts: dict[str, list[Facts]] = {}
    reading: dict[str, dict[str, Any]] = {}
    for half in HALVES:
        for folder, table in zip(FOLDERS[half.name], (train, test), strict=True):
            if test_only and folder == half.folder:
                continue
            sources, said, named = look_at_folder(competition, half, folder, table)
            started = time.perf_counter()
            facts[folder] = sorted(examine_all(sources, workers, folder), key=lambda one: one.source.id)
            reading[folder] = {
                "files": len(sources),
                "bytes": sum(one.size for one in facts[folder]),
                "seconds": time.perf_counter() - started,
                "workers": workers,
            }
            findings += [*said, *findings_of(folder, facts[folder], named, training=folder == half.folder)]
    findings += same_content((one for of in facts.values() for one in of), patients_of(train, test))
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))  # stable: tables before recordings
    numbers = {name: table_numbers(table) for name, table in tables.items() if table is not None}
    changes = None if train is None else changes_within_eegs(train)
    return DoctorReport(competition, test_only, tuple(findings), numbers, changes, said_of_folds, reading, facts)


def look_at_folds(competition: Path, folds: int | Path) -> tuple[dict[str, Any] | None, list[Finding]]:
    """The folds that `run` would make or take: by the readers that training uses, so that it refuses what they do."""
    try:
        rows = label_rows(competition)
        if isinstance(folds, int):
            source, fold = f"{folds} folds, stratified by consensus", make_folds(rows, folds)
        else:
            source, fold = folds.name, folds_from_table(rows, read_fold_table(folds))
        table = fold_table(rows.with_columns(fold=pl.Series(fold)))  # refuses a patient in two folds
    except LabelError as error:
        return None, found("labels", STOPS_TRAINING, TRAIN_TABLE, "refused by training", "mend it", cases=[str(error)])
    except FoldError as error:
        where = "folds" if isinstance(folds, int) else folds.name
        todo = "other folds: --folds, and folds or --fold-table of the run"
        return None, found("folds", STOPS_TRAINING, where, "folds that cannot be used", todo, cases=[str(error)])
    counts = [np.bincount(each).tolist() for each in (fold, table["fold"].to_numpy())]
    return {"source": source, "rows": counts[0], "patients": counts[1]}, []


def look_at_folder(
    competition: Path, half: Half, folder: str, table: pl.DataFrame | None
) -> tuple[list[Source], list[Finding], set[int]]:
    """The folder's files, what is missing or too many in it, and the ids that the table names."""
    files, strange = files_in(competition / folder)
    training = folder == half.folder
    named, starts = set(), {}
    if table is not None:
        known = table.filter(pl.col(half.column).is_not_null())
        named = {int(i) for i in known[half.column].unique()}
        if training:
            offset = OFFSETS[HALVES.index(half)]
            by_id = known.drop_nulls(offset).group_by(half.column).agg(pl.col(offset).unique().sort())
            # To whole samples and columns, as label rows do.
            starts = {int(i): tuple(int(start * half.rate) for start in found) for i, found in by_id.iter_rows()}
    sources = [Source(half, folder, i, path, starts.get(i, ())) for i, path in files.items()]
    missing, lone = sorted(named - set(files)), sorted(set(files) - named)
    is_eeg = half is EEGS
    severity = STOPS_TRAINING if training else COSTS_ROWS if is_eeg else WORTH_KNOWING
    there = (competition / folder).is_dir()
    what = "recordings that are not there" if there else "no such folder: no recording is there"
    todo = f"{RESTORE}, or take their rows out of train.csv" if training else f"{RESTORE}; {answered(is_eeg)}"
    know = (WORTH_KNOWING, folder)
    return (
        sources,
        [
            *found("missing", severity, folder, what, todo, missing),
            *(found("unnamed", *know, "recordings that no row names", "they are left alone", lone) if named else []),
            *found("stray", *know, "what is no ID.parquet", "it is left alone", cases=strange),
        ],
        named,
    )


def patients_of(train: pl.DataFrame | None, test: pl.DataFrame | None) -> dict[tuple[str, int], int]:
    """The patient of each recording, by folder and id."""
    found = {}
    for half in HALVES:
        for folder, table in zip(FOLDERS[half.name], (train, test), strict=True):
            if table is not None and "patient_id" in table.columns:
                for recording, patient in table.select(half.column, "patient_id").drop_nulls().iter_rows():
                    found[folder, int(recording)] = int(patient)
    return found
