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
from common.inputs.base import needs_spectrogram
from common.predict import find_devices, good_at_half
from common.schema import SUBMISSION_COLUMNS, VOTES
from common.tta import PLAIN
from common.weights import MANIFEST_FILE, ModelFolds, WeightsError, load_weights, named
from infer.budget import Budget
from infer.ensemble import Ensemble, loaded_folds
from infer.recordings import RowRecordings, read_row
from infer.report import SubmissionReport
from infer.runner import Runner
from infer.test_table import rows_to_answer
from infer.timeout import with_timeout

LOADING_SECONDS = 1200.0  # a weights folder that takes longer is left out: reading a gigabyte takes half a minute


def load_model(folder: Path, forgiving: bool) -> ModelFolds:
    """On the CPU. Raises WeightsError, also where the disk hangs."""
    try:
        return with_timeout(lambda: load_weights(folder, torch.device("cpu"), forgiving), LOADING_SECONDS)
    except TimeoutError as error:
        raise WeightsError(f"{folder.name}: not loaded within {LOADING_SECONDS:g} s") from error


def load_models(
    folders: list[Path], blend: Blend, forgiving: bool, report: SubmissionReport
) -> tuple[list[ModelFolds], dict[str, float]]:
    """The models the blend wants, on the CPU, and their weights. Raises WeightsError or BlendError when strict."""
    models: list[ModelFolds] = []
    for folder in folders:
        try:
            loaded = load_model(folder, forgiving)
        except Exception as error:  # a damaged folder, an unknown backbone, a disk error: this model is out, by name
            if not forgiving:
                raise
            report.dropped.append(named(folder.name, error))
            continue
        report.dropped += loaded.dropped
        name = loaded.experiment.name
        if forgiving and any(model.experiment.name == name for model in models):
            report.dropped.append(f"{folder.name}: a second copy of {name}")
            continue
        models.append(loaded)
        report.manifests[name] = sha256_of(folder / MANIFEST_FILE)
    weights, problems = model_weights(blend, [model.experiment.name for model in models], forgiving)
    report.dropped += problems
    models = [model for model in models if model.experiment.name in weights]
    report.models = {m.experiment.name: {"weight": weights[m.experiment.name], "nets": len(m.models)} for m in models}
    return models, weights


def usable_devices(report: SubmissionReport) -> list[torch.device]:
    devices, unusable = find_devices()
    for reason in unusable:
        report.warn(f"{reason}{'' if devices[0].type == 'cuda' else '; the CPU is used'}")
    for device in devices:
        precision = "float16" if good_at_half(device) else "float32"
        on_gpu = device.type == "cuda"
        report.devices.append(f"{device} ({torch.cuda.get_device_name(device)}, {precision})" if on_gpu else "cpu")
    return devices


def row_reader(
    competition: Path, table: pl.DataFrame, models: list[ModelFolds], blend: Blend, forgiving: bool
) -> Callable[[int], RowRecordings]:
    """Reads the recordings of an EEG, with the spectrogram of its first row."""
    pairs = table.unique("eeg_id", keep="first").select("eeg_id", "spectrogram_id")
    spectrogram_of = dict(pairs.iter_rows())
    wanted = any(needs_spectrogram(model.experiment.input) for model in models)

    def read(eeg_id: int) -> RowRecordings:
        try:
            return read_row(competition, eeg_id, spectrogram_of[eeg_id], wanted, blend.read_seconds)
        except Exception as error:  # one recording's, in a way that nobody foresaw
            if not forgiving:
                raise
            return RowRecordings(eeg_id, unreadable=[named("recordings", error)])

    return read


def write_submission(path: Path, table: pl.DataFrame, predicted: dict[int, np.ndarray], prior: np.ndarray) -> None:
    """One row per row of test.csv, in its order; the prior where nothing was predicted.

    With all digits, as rows of 5 decimals do not sum to 1 closely enough.
    """
    values = np.array([predicted.get(eeg_id, prior) for eeg_id in table["eeg_id"]]).reshape(-1, len(VOTES))
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
    """Write `out` for the test.csv of `competition` with the models in `weights`. Raises CompetitionError, WeightsError
    or BlendError.

    Recordings never raise: a model whose recording cannot be read is left out of that row's blend, and a row that no
    model can answer gets the blend's prior; each is named and counted in the report. Forgiving (the hidden re-run),
    damaged folds and missing models are left out by name too. When the time of the blend file runs short, TTA views,
    seeds, folds and models are left out by name.

    report: filled in as things happen, for who must know them also where this raises. early: `out` is there, with
    the prior in every row, before the first model runs, and is replaced as predictions arrive. clock: in seconds.
    """
    report = report or SubmissionReport()
    budget = Budget(blend.hours * 3600, clock)
    rows, prior = rows_to_answer(competition, forgiving), np.array(blend.prior)
    if rows.warning:
        report.warn(rows.warning)
    ids = rows.table["eeg_id"].unique(maintain_order=True).to_list()
    report.rows, report.eegs, report.ids_of = rows.table.height, len(ids), rows.ids_of
    report.views = [str(view) for view in (PLAIN, *blend.views)]
    if early and forgiving:
        write_submission(out, rows.table, {}, prior)  # already now: loading weights may fail in ways not foreseen
    devices = usable_devices(report)
    models, shares = load_models(weights, blend, forgiving, report)
    runner = Runner(Ensemble(loaded_folds(models), devices, budget, report.warn, forgiving), shares, blend, report)
    runner.costs["loading"] = budget.elapsed()

    def save() -> None:
        if not early:
            return
        try:
            write_submission(out, rows.table, runner.predicted, prior)
        except OSError as error:
            if not forgiving:
                raise
            report.warn(f"answers could not be written, those before stand: {error.strerror}")

    save()
    runner.run(ids, row_reader(competition, rows.table, models, blend, forgiving), save)
    write_submission(out, rows.table, runner.predicted, prior)
    return report
