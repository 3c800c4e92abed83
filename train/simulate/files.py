"""Write a simulated competition: the same files as the real one, and a folder with the truth about them."""

import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from common.errors import KitError
from common.schema import (
    CONSENSUS,
    SAMPLE_SUBMISSION,
    SUBMISSION_COLUMNS,
    TEST_EEGS,
    TEST_SPECTROGRAMS,
    TEST_TABLE,
    TRAIN_EEGS,
    TRAIN_SPECTROGRAMS,
    TRAIN_TABLE,
    VOTES,
)
from train.simulate.patient import Row, random_generator, record_patient
from train.simulate.plan import PatientPlan, draw_ids, plan_patients
from train.simulate.processes import ONE_THREAD, environment

FORMAT = 2  # to be raised when the same patients and seed give other files
TRUTH, RECORD = "truth", "simulation.json"
FEWEST_PATIENTS = 4  # one of them hidden, three to train and validate on
MOST_WORKERS = 8
TRAIN_COLUMNS = (
    *("eeg_id", "eeg_sub_id", "eeg_label_offset_seconds"),
    *("spectrogram_id", "spectrogram_sub_id", "spectrogram_label_offset_seconds"),
    *("label_id", "patient_id", "expert_consensus", *VOTES),
)


def simulate_competition(directory: Path, patients: int, seed: int, workers: int | None = None) -> None:
    """Write a competition of simulated patients with known truth into a directory.

    The files depend on patients and seed only, not on the number of workers (default: the cores, at most 8).
    A quarter of the patients is the hidden test; its answer is truth/solution.csv. A directory that holds
    this very simulation is left as it is. Raises KitError for fewer than 4 patients, FileExistsError for
    a directory with anything else in it. Nothing is left behind by a simulation that fails.
    """
    directory = Path(directory).resolve()
    record = {"format": FORMAT, "patients": patients, "seed": seed}
    if seed < 0:
        raise KitError(f"seed {seed} is negative; give a whole number from 0")
    if patients < FEWEST_PATIENTS:
        raise KitError(f"{patients} patients cannot be split and validated; ask for {FEWEST_PATIENTS} or more")
    if already_there(directory, record):
        print(f"{directory} already holds the simulation {record}: nothing to do", file=sys.stderr)
        return
    plans = plan_patients(patients, seed)
    partial_directory = directory.with_name(f".{directory.name}.partial-{os.getpid()}")
    try:
        for folder in (TRAIN_EEGS, TEST_EEGS, TRAIN_SPECTROGRAMS, TEST_SPECTROGRAMS, TRUTH):
            (partial_directory / folder).mkdir(parents=True)
        rows: dict[bool, list[Row]] = {True: [], False: []}
        recorded = record_patients(plans, partial_directory, seed, workers)
        for plan, of_patient in zip(plans, recorded, strict=True):
            rows[plan.hidden] += of_patient
        write_train_tables(partial_directory, rows[False], random_generator(seed, patients))
        write_test_tables(partial_directory, rows[True])
        (partial_directory / TRUTH / RECORD).write_text(json.dumps(record) + "\n")
        os.replace(partial_directory, directory)
    finally:
        shutil.rmtree(partial_directory, ignore_errors=True)  # gone already when all went well


def already_there(directory: Path, record: dict[str, int]) -> bool:
    """Whether a directory holds the simulation of this record; FileExistsError if it holds anything else."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    found = directory / TRUTH / RECORD
    if not found.is_file():
        raise FileExistsError(f"{directory} exists and is no simulation; name a new or an empty directory")
    if json.loads(found.read_text()) != record:
        raise FileExistsError(
            f"{directory} holds the simulation {found.read_text().strip()}, asked for was "
            f"{json.dumps(record)}; name another directory or remove this one"
        )
    return True


def record_patients(
    plans: Sequence[PatientPlan], directory: Path, seed: int, workers: int | None
) -> Iterator[list[Row]]:
    """Simulate the patients in processes of one thread each; yields their rows in the order of the plans."""
    workers = workers or min(os.cpu_count() or 1, MOST_WORKERS)
    spawn = multiprocessing.get_context("spawn")  # forked copies of polars and torch can lock up
    with environment(ONE_THREAD), ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        results = pool.map(partial(record_patient, directory=directory, seed=seed), plans)
        yield from tqdm(results, total=len(plans), desc="simulating patients", unit="patient")


def write_train_tables(directory: Path, rows: Sequence[Row], rng: np.random.Generator) -> None:
    """train.csv and, beside it, the distribution that each row's votes were drawn from."""
    rows = sorted(rows, key=lambda row: (row.fields["spectrogram_id"], row.fields["spectrogram_sub_id"]))
    label_ids = draw_ids(len(rows), 100_000_000, 2**32, rng)
    table = [
        row.fields
        | {"label_id": label_id, "expert_consensus": CONSENSUS[int(np.argmax(row.votes))]}
        | dict(zip(VOTES, row.votes, strict=True))
        for label_id, row in zip(label_ids, rows, strict=True)
    ]
    pl.DataFrame(table).select(TRAIN_COLUMNS).write_csv(directory / TRAIN_TABLE)
    truth = [
        {"label_id": label_id, "eeg_id": row.fields["eeg_id"]} | dict(zip(VOTES, row.p, strict=True))
        for label_id, row in zip(label_ids, rows, strict=True)
    ]
    pl.DataFrame(truth).write_csv(directory / TRUTH / "train_probabilities.csv")


def write_test_tables(directory: Path, rows: Sequence[Row]) -> None:
    """test.csv, sample_submission.csv, and the answers: shares of votes, and what they were drawn from."""
    rows = sorted(rows, key=lambda row: row.fields["eeg_id"])
    table = pl.DataFrame([row.fields for row in rows])
    table.select("spectrogram_id", "eeg_id", "patient_id").write_csv(directory / TEST_TABLE)
    eeg_ids = table["eeg_id"]

    def write(values: np.ndarray, path: Path) -> None:  # values: (rows, 6)
        columns = dict(zip(SUBMISSION_COLUMNS, (eeg_ids, *values.T), strict=True))
        pl.DataFrame(columns).write_csv(path)

    votes = np.array([row.votes for row in rows])
    write(np.full(votes.shape, 1 / len(VOTES)), directory / SAMPLE_SUBMISSION)
    write(votes / votes.sum(axis=1, keepdims=True), directory / TRUTH / "solution.csv")
    write(np.array([row.p for row in rows]), directory / TRUTH / "probabilities.csv")
