"""test.csv -> submission.csv: every row gets an answer, each eeg_id is computed once."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from tqdm import tqdm

from common.blend import Blend, combine, model_weights
from common.features import Windows, build_input
from common.files import write_via
from common.inputs import needs_eeg, needs_spectrogram
from common.predict import pick_device, predict
from common.records import Recording, RecordingError, central, read_ahead, read_eeg, read_spectrogram
from common.schema import (
    PATTERNS,
    SPECTROGRAM_COLUMNS,
    SUBMISSION_COLUMNS,
    TEST_EEGS,
    TEST_SPECTROGRAMS,
    VOTES,
    WINDOW_SAMPLES,
)
from common.spectrogram import rebuild_spectrogram
from common.weights import ModelFolds, WeightsError, load_weights
from infer.validate import read_test_table

BATCH_SIZE = 16


@dataclass(frozen=True)
class Sample:
    """The raw windows of one EEG, None where nothing could be read, and what had to be done for them."""

    eeg_id: int
    eeg: np.ndarray | None  # (20, 10000) microvolts
    spectrogram: np.ndarray | None  # (4, 100, 300) power
    unreadable: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    rebuilt: str | None = None  # why the spectrogram's centre was rebuilt from the EEG


@dataclass
class SubmissionReport:
    """What happened, for people and for report.json."""

    rows: int = 0
    eegs: int = 0
    device: str = ""
    seconds: float = 0.0
    models: dict[str, dict[str, float]] = field(default_factory=dict)  # name -> weight, folds
    dropped: list[str] = field(default_factory=list)  # folds and models left out, forgiving mode only
    fallbacks: list[dict[str, str]] = field(default_factory=list)  # eeg_id, answer, why
    rebuilt_spectrograms: list[dict[str, str]] = field(default_factory=list)  # eeg_id, why
    repaired: list[dict[str, str]] = field(default_factory=list)  # eeg_id, what
    class_means: dict[str, float] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The report in a few lines; every kind of surprise is counted, the first few are named."""
        summary = [f"{self.rows} rows, {self.eegs} EEGs in {self.seconds:.1f} s on {self.device}"]
        summary += [f"model {name}: weight {m['weight']:.3f}, {m['folds']} folds" for name, m in self.models.items()]
        summary += [f"DROPPED {what}" for what in self.dropped]
        if self.eegs and sum(entry["answer"] == "prior" for entry in self.fallbacks) == self.eegs:
            summary.append("WARNING: not one EEG could be predicted, every row is the prior")
        kinds = (("fallback", self.fallbacks), ("rebuilt spectrogram", self.rebuilt_spectrograms))
        for kind, entries in (*kinds, ("repaired recording", self.repaired)):
            summary.append(f"{kind}s: {len(entries)}")
            summary += ["  " + ", ".join(entry.values()) for entry in entries[:5]]
            summary += [f"  ... and {len(entries) - 5} more in the report"] if len(entries) > 5 else []
        return summary


def central_findings(recording: Recording, length: int) -> tuple[str, ...]:
    """The recording's findings and, in a test set where all are of one length, that it was too long."""
    n_time = recording.values.shape[-1]
    return recording.findings + ((f"{n_time} long: the central {length} used",) if n_time > length else ())


def read_sample(competition: Path, eeg_id: int, spectrogram_id: int, spectrogram_wanted: bool) -> Sample:
    """Both recordings of a row, cut to the central 50 s and 10 minutes, repaired or given up by name.

    The EEG is always read: a spectrogram may have to be rebuilt from it.
    """
    unreadable, repaired = [], []
    eeg = spectrogram = rebuilt = None
    try:
        recording = read_eeg(competition / TEST_EEGS / f"{eeg_id}.parquet")
        eeg = central(recording.values, WINDOW_SAMPLES)
        if not np.isfinite(eeg).any():
            eeg = None
            raise RecordingError(f"{eeg_id}.parquet: nothing finite in its central 50 s")
        repaired += [f"EEG: {finding}" for finding in central_findings(recording, WINDOW_SAMPLES)]
    except RecordingError as error:
        unreadable.append(f"EEG {error}")
    if not spectrogram_wanted:
        return Sample(eeg_id, eeg, None, tuple(unreadable), tuple(repaired))
    try:
        recording = read_spectrogram(competition / TEST_SPECTROGRAMS / f"{spectrogram_id}.parquet")
        spectrogram = central(recording.values, SPECTROGRAM_COLUMNS)
        repaired += [f"spectrogram: {finding}" for finding in central_findings(recording, SPECTROGRAM_COLUMNS)]
        if not np.isfinite(spectrogram).any(axis=(1, 2)).all():
            rebuilt = f"spectrogram {spectrogram_id}.parquet: a region without one finite value"
    except RecordingError as error:
        rebuilt = f"spectrogram {error}"
    if rebuilt is not None:
        if eeg is None:
            unreadable.append(f"{rebuilt}, and no EEG to rebuild it from")
            rebuilt = None
        else:
            known = None if spectrogram is None else torch.from_numpy(spectrogram)
            spectrogram = rebuild_spectrogram(known, torch.from_numpy(eeg)).numpy()
            if not np.isfinite(spectrogram).any():
                spectrogram = rebuilt = None
                unreadable.append(f"spectrogram {spectrogram_id}.parquet: missing, and the EEG's gaps leave no column")
    return Sample(eeg_id, eeg, spectrogram, tuple(unreadable), tuple(repaired), rebuilt)


def raw_windows(samples: list[Sample], config: Any, device: torch.device) -> tuple[list[int], Windows]:
    """Rows whose recordings the input can be made of, and those recordings."""
    eegs, spectrograms = needs_eeg(config), needs_spectrogram(config)
    rows = [
        row
        for row, sample in enumerate(samples)
        if not (eegs and sample.eeg is None) and not (spectrograms and sample.spectrogram is None)
    ]

    def stacked(name: str) -> Tensor | None:
        return torch.from_numpy(np.stack([getattr(samples[row], name) for row in rows])).to(device) if rows else None

    return rows, Windows(stacked("eeg") if eegs else None, stacked("spectrogram") if spectrograms else None)


def predict_batch(samples: list[Sample], folds: list[ModelFolds], device: torch.device) -> dict[str, np.ndarray]:
    """Mean over the folds of each model, (batch, 6); NaN where its input could not be read.

    Each distinct input is built once and shown to all folds of all models that want it.
    """
    by_input: dict[Any, list[tuple[int, int]]] = {}
    for number, model in enumerate(folds):
        for fold, seen in enumerate(model.inputs):
            by_input.setdefault(seen, []).append((number, fold))
    shape = (len(samples), len(PATTERNS))
    predictions = [np.full((len(model.models), *shape), np.nan) for model in folds]
    for config, wanted in by_input.items():
        rows, windows = raw_windows(samples, config, device)
        if not rows:
            continue
        inputs = build_input(windows, config)
        for number, fold in wanted:
            predictions[number][fold, rows] = predict(folds[number].models[fold], inputs)
    return {model.experiment.name: each.mean(axis=0) for model, each in zip(folds, predictions, strict=True)}


def load_models(
    folders: list[Path], blend: Blend, device: torch.device, forgiving: bool, report: SubmissionReport
) -> tuple[list[ModelFolds], dict[str, float]]:
    """The models the blend wants and their weights. Raises WeightsError or BlendError when strict."""
    folds: list[ModelFolds] = []
    for folder in folders:
        try:
            loaded = load_weights(folder, device, forgiving)
        except WeightsError as error:
            if not forgiving:
                raise
            report.dropped.append(str(error))
            continue
        report.dropped += loaded.dropped
        if forgiving and any(model.experiment.name == loaded.experiment.name for model in folds):
            report.dropped.append(f"{folder.name}: a second copy of {loaded.experiment.name}")
        else:
            folds.append(loaded)
    weights, problems = model_weights(blend, [model.experiment.name for model in folds], forgiving)
    report.dropped += problems
    folds = [model for model in folds if model.experiment.name in weights]
    report.models = {m.experiment.name: {"weight": weights[m.experiment.name], "folds": len(m.models)} for m in folds}
    return folds, weights


def note_sample(sample: Sample, answers: dict[str, np.ndarray], row: int, report: SubmissionReport) -> None:
    """Count and name whatever was unusual about one EEG."""
    eeg_id = str(sample.eeg_id)
    report.repaired += [{"eeg_id": eeg_id, "what": what} for what in sample.repaired]
    if sample.rebuilt:
        report.rebuilt_spectrograms.append({"eeg_id": eeg_id, "why": sample.rebuilt})
    silent = [name for name, values in answers.items() if not np.isfinite(values[row]).all()]
    if not answers:
        report.fallbacks.append({"eeg_id": eeg_id, "answer": "prior", "why": "no model left"})
    elif silent:
        answer = "prior" if len(silent) == len(answers) else f"blend without {', '.join(silent)}"
        why = "; ".join(sample.unreadable) or f"{', '.join(silent)} gave no finite answer"
        report.fallbacks.append({"eeg_id": eeg_id, "answer": answer, "why": why})


def write_submission(path: Path, table: pl.DataFrame, answers: dict[int, np.ndarray]) -> None:
    """One row per row of test.csv, in its order, with all digits (5 decimals fail the sum test)."""
    values = np.array([answers[eeg_id] for eeg_id in table["eeg_id"]]).reshape(-1, len(VOTES))
    columns = [table["eeg_id"], *(pl.Series(vote, values[:, k]) for k, vote in enumerate(VOTES))]
    write_via(path, pl.DataFrame(columns).select(SUBMISSION_COLUMNS).write_csv)


def submit(
    competition: Path, weights: list[Path], blend: Blend, out: Path, forgiving: bool = False
) -> SubmissionReport:
    """Write `out` for the test.csv of `competition` with the models in `weights`.

    Raises CompetitionError, WeightsError or BlendError. Recordings never raise: a spectrogram model
    without its spectrogram, an EEG model without its EEG are left out of that row's blend, and a row
    no model can answer gets the blend's prior; each is named and counted in the report. Forgiving
    (the hidden re-run) also leaves out damaged folds and missing models, by name.
    """
    started = time.monotonic()
    device = pick_device()
    report = SubmissionReport(device=str(device))
    table = read_test_table(competition)
    folds, shares = load_models(weights, blend, device, forgiving, report)
    pairs = table.unique("eeg_id", keep="first", maintain_order=True)
    ids = list(zip(pairs["eeg_id"].to_list(), pairs["spectrogram_id"].to_list(), strict=True))
    answers: dict[int, np.ndarray] = {}
    batch: list[Sample] = []
    wanted = any(needs_spectrogram(model.experiment.input) for model in folds)
    samples = read_ahead(lambda pair: read_sample(competition, *pair, wanted), ids, ahead=2 * BATCH_SIZE)
    for sample in tqdm(samples, total=len(ids), desc="predict", unit="EEG", mininterval=5):
        batch.append(sample)
        if len(batch) == BATCH_SIZE or len(answers) + len(batch) == len(ids):
            predictions = predict_batch(batch, folds, device)
            mixed = combine(predictions, shares, blend.prior, len(batch))
            for row, one in enumerate(batch):
                note_sample(one, predictions, row, report)
                answers[one.eeg_id] = mixed[row]
            batch = []
    write_submission(out, table, answers)
    report.rows, report.eegs, report.seconds = table.height, len(ids), round(time.monotonic() - started, 2)
    if answers:
        means = np.mean(list(answers.values()), axis=0)
        report.class_means = {pattern: round(float(mean), 6) for pattern, mean in zip(PATTERNS, means, strict=True)}
    return report


def write_report(path: Path, report: SubmissionReport) -> None:
    text = json.dumps(asdict(report), indent=1) + "\n"
    write_via(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
