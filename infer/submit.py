"""test.csv -> submission.csv: every row gets an answer, each eeg_id is computed once."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch

from common.blend import Blend, model_weights
from common.files import sha256_of, write_via
from common.inputs import needs_spectrogram
from common.predict import find_devices, good_at_half
from common.schema import SUBMISSION_COLUMNS, VOTES
from common.tta import PLAIN
from common.weights import MANIFEST_FILE, ModelFolds, WeightsError, load_weights, named
from infer.budget import Budget
from infer.ensemble import Ensemble, members_of
from infer.in_time import in_time
from infer.report import SubmissionReport
from infer.rows import rows_to_answer
from infer.run import Run
from infer.samples import Sample, read_sample

LOADING_SECONDS = 1200.0  # a weights folder that takes longer is out: reading a gigabyte takes half a minute


def load_in_time(folder: Path, forgiving: bool) -> ModelFolds:
    """On the CPU. Raises WeightsError, also where the disk hangs."""
    try:
        return in_time(lambda: load_weights(folder, torch.device("cpu"), forgiving), LOADING_SECONDS)
    except TimeoutError as error:
        raise WeightsError(f"{folder.name}: not loaded within {LOADING_SECONDS:g} s") from error


def load_models(
    folders: list[Path], blend: Blend, forgiving: bool, report: SubmissionReport
) -> tuple[list[ModelFolds], dict[str, float]]:
    """The models the blend wants, on the CPU, and their weights. Raises WeightsError or BlendError when strict."""
    folds: list[ModelFolds] = []
    for folder in folders:
        try:
            loaded = load_in_time(folder, forgiving)
        except Exception as error:  # a damaged folder, an unknown backbone, a disk error: this model is out, by name
            if not forgiving:
                raise
            report.dropped.append(named(folder.name, error))
            continue
        report.dropped += loaded.dropped
        if forgiving and any(model.experiment.name == loaded.experiment.name for model in folds):
            report.dropped.append(f"{folder.name}: a second copy of {loaded.experiment.name}")
        else:
            folds.append(loaded)
            report.manifests[loaded.experiment.name] = sha256_of(folder / MANIFEST_FILE)
    weights, problems = model_weights(blend, [model.experiment.name for model in folds], forgiving)
    report.dropped += problems
    folds = [model for model in folds if model.experiment.name in weights]
    report.models = {m.experiment.name: {"weight": weights[m.experiment.name], "nets": len(m.models)} for m in folds}
    return folds, weights


def describe(device: torch.device) -> str:
    if device.type == "cpu":
        return "cpu"
    precision = "float16" if good_at_half(device) else "float32"
    return f"{device} ({torch.cuda.get_device_name(device)}, {precision})"


def write_submission(path: Path, table: pl.DataFrame, answers: dict[int, np.ndarray]) -> None:
    """One row per row of test.csv, in its order, with all digits (5 decimals fail the sum test)."""
    values = np.array([answers[eeg_id] for eeg_id in table["eeg_id"]]).reshape(-1, len(VOTES))
    columns = [table["eeg_id"], *(pl.Series(vote, values[:, k]) for k, vote in enumerate(VOTES))]
    text = pl.DataFrame(columns).select(SUBMISSION_COLUMNS).write_csv()

    def write(temporary: Path) -> None:  # by Python: polars may write half a file to a full disk and not say so
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    write_via(path, write)


def submit(
    competition: Path,
    weights: list[Path],
    blend: Blend,
    out: Path,
    forgiving: bool = False,
    report: SubmissionReport | None = None,
    early: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> SubmissionReport:
    """Write `out` for the test.csv of `competition` with the models in `weights`.

    Raises CompetitionError, WeightsError or BlendError. Recordings never raise: a spectrogram model
    without its spectrogram, an EEG model without its EEG are left out of that row's blend, and a row
    no model can answer gets the blend's prior; each is named and counted in the report. Forgiving
    (the hidden re-run) also leaves out damaged folds and missing models, by name. When the time of the blend file
    runs short, views, seeds, folds and models are left out, by name.

    report: filled in as things happen, for who must know them also where this raises. early: `out` is there, with
    the prior in every row, before the first model runs, and is replaced as answers arrive. clock: in seconds.
    """
    report = report or SubmissionReport()
    budget = Budget(blend.hours * 3600, clock)
    rows = rows_to_answer(competition, forgiving)
    table, report.ids_of = rows.table, rows.ids_of
    if rows.surprise:
        report.warn(rows.surprise)
    pairs = table.unique("eeg_id", keep="first", maintain_order=True)
    spectrogram_of = dict(zip(pairs["eeg_id"].to_list(), pairs["spectrogram_id"].to_list(), strict=True))
    ids = list(spectrogram_of)
    report.rows, report.eegs, report.views = table.height, len(ids), [str(view) for view in (PLAIN, *blend.views)]
    answers = dict.fromkeys(ids, np.array(blend.prior))
    if early and forgiving:
        write_submission(out, table, answers)  # already now: loading weights may fail in ways not foreseen
    devices, surprises = find_devices()
    for surprise in surprises:
        report.warn(f"{surprise}{'' if devices[0].type == 'cuda' else '; the CPU is used'}")
    report.devices = [describe(device) for device in devices]
    folds, shares = load_models(weights, blend, forgiving, report)
    ensemble = Ensemble(members_of(folds), devices, report.warn, forgiving, clock)
    run = Run(ensemble, shares, blend, budget, report, forgiving)
    run.costs["loading"] = budget.elapsed()
    wanted = any(needs_spectrogram(model.experiment.input) for model in folds)

    def read(eeg_id: int) -> Sample:
        try:
            return read_sample(competition, eeg_id, spectrogram_of[eeg_id], wanted, blend.read_seconds)
        except Exception as error:  # one recording's, in a way that nobody foresaw
            if not forgiving:
                raise
            return Sample(eeg_id, None, None, unreadable=(named("recordings", error),))

    def progress() -> None:
        answers.update(run.answered)
        if early:
            try:
                write_submission(out, table, answers)
            except OSError as error:
                if not forgiving:
                    raise
                report.warn(f"answers could not be written, those before stand: {error.strerror}")

    progress()
    run.go_through(ids, read, progress)
    if run.waiting and not budget.is_over():
        report.warn(f"{len(run.waiting)} EEGs were not read in time and are read once more")
        run.go_through(list(run.waiting), read, progress)
    run.finish(ids)
    write_submission(out, table, answers)
    return report
