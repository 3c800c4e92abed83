"""The numbers of a report, as plain values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from common.metric import vote_shares
from common.schema import CONSENSUS, PATTERNS
from train.blend.diagnostics import calibration_curve, calibration_error
from train.evaluate.scores import by_class, by_fold, by_votes, interval, one_per_eeg, resampled_means
from train.report.load import Entry, ReportData

SHOWN_PATIENTS = 8  # in the table of the worst
FEWEST_PATIENTS = 5  # below, resampling them says nothing
LABELS = dict(zip(PATTERNS, CONSENSUS, strict=True))
LONG = {
    "seizure": "seizure",
    "lpd": "lateralized periodic discharges",
    "gpd": "generalized periodic discharges",
    "lrda": "lateralized rhythmic delta activity",
    "grda": "generalized rhythmic delta activity",
    "other": "anything else",
}


class Score(NamedTuple):
    """A mean KL (or a difference of two) and its 95 % interval from resampling patients; NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Part:
    """Scores on some of the rows: of the headline's entry, of the other models, of the prior."""

    label: str
    rows: int
    patients: int
    main: Score
    others: list[float]
    prior: float


def scores_of(kl: np.ndarray, patient: np.ndarray) -> list[Score]:
    """The mean of each line of `kl` (predictions, rows), with its interval where there are patients enough."""
    if kl.shape[1] == 0:
        return [Score(math.nan)] * len(kl)
    if len(np.unique(patient)) < FEWEST_PATIENTS:
        return [Score(float(mean)) for mean in kl.mean(axis=1)]
    low, high = interval(resampled_means(kl, patient))
    return [Score(*map(float, values)) for values in zip(kl.mean(axis=1), low, high, strict=True)]


def scores_on(data: ReportData, chosen: np.ndarray) -> list[Score]:
    """Each entry's score on the chosen rows."""
    return scores_of(np.stack([entry.kl[chosen] for entry in data.entries]), data.patient[chosen])


def differences(data: ReportData, reference: Entry, others: Sequence[Entry]) -> list[Score]:
    """Each other entry's score less the reference's, on the same draws of patients."""
    kl = np.stack([entry.kl[data.scored] - reference.kl[data.scored] for entry in others])
    return scores_of(kl, data.patient[data.scored])


def part_of(data: ReportData, label: str, chosen: np.ndarray) -> Part:
    """The part of the chosen rows."""
    main, models, scores = data.headline(), data.models(), scores_on(data, chosen)
    return Part(
        label,
        rows=int(chosen.sum()),
        patients=len(np.unique(data.patient[chosen])),
        main=scores[data.entries.index(main)],
        others=[s.value for e, s in zip(data.entries, scores, strict=True) if e in models and e is not main],
        prior=scores[data.entries.index(data.prior)].value,
    )


def parts_by_class(data: ReportData) -> list[Part]:
    """Scored rows by consensus; the labels are PATTERNS."""
    return [part_of(data, pattern, data.scored & chosen) for pattern, chosen in by_class(data.votes).items()]


def parts_by_votes(data: ReportData) -> list[Part]:
    """All rows by their number of votes."""
    return [part_of(data, label, chosen) for label, chosen in by_votes(data.votes).items()]


def parts_by_fold(data: ReportData) -> list[Part]:
    """Scored rows by fold."""
    folds = by_fold(data.rows["fold"].to_numpy())
    return [part_of(data, f"Fold {k}", data.scored & chosen) for k, chosen in folds.items()]


def by_patient(data: ReportData, entry: Entry) -> list[dict[str, Any]]:
    """Each patient's mean over the scored rows of the entry and of the prior, the worst first; commonest consensus."""
    values = {"patient": data.patient, "place": data.votes.argmax(axis=1), "kl": entry.kl, "prior": data.prior.kl}
    table = pl.DataFrame(values).filter(pl.Series(data.scored)).group_by("patient")
    lines = table.agg(pl.col("kl", "prior").mean(), pl.col("place").mode().min(), rows=pl.len())
    names = pl.col("place").replace_strict(dict(enumerate(PATTERNS)))
    return lines.sort("kl", "patient", descending=[True, False]).with_columns(pattern=names).to_dicts()


def share_of_worst(lines: Sequence[dict[str, Any]], tenth: float = 0.1) -> float:
    """Which share of the summed KL the worst tenth of the patients (by their sum) has."""
    sums = np.sort([line["kl"] * line["rows"] for line in lines])[::-1]
    return float(sums[: max(1, round(len(sums) * tenth))].sum() / max(sums.sum(), 1e-300))


def confusion(data: ReportData, entry: Entry) -> np.ndarray:
    """Counts (6, 6) of scored rows: consensus downwards, the most probable pattern to the right."""
    consensus, named = (values[data.scored].argmax(axis=1) for values in (data.votes, entry.probabilities))
    n = len(PATTERNS)
    return np.bincount(n * consensus + named, minlength=n * n).reshape(n, n)


def reliability(data: ReportData, entry: Entry) -> dict[str, dict[str, Any]]:
    """By pattern: the curve of ten bins of probability, its ECE, mean probability and mean share of votes."""
    target, probabilities = vote_shares(data.votes[data.scored]), entry.probabilities[data.scored]
    return {
        pattern: {
            "curve": calibration_curve(target[:, k], probabilities[:, k]),
            "error": calibration_error(target[:, k], probabilities[:, k]),
            "predicted": float(probabilities[:, k].mean()),
            "observed": float(target[:, k].mean()),
        }
        for k, pattern in enumerate(PATTERNS)
    }


def hidden_test_like(data: ReportData) -> np.ndarray:
    """One row an EEG among the scored ones: what the hidden test is most like."""
    return one_per_eeg(data.rows) & data.scored


def worst_and_best(data: ReportData, entry: Entry, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the recordings with the highest and the lowest KL, one row an EEG, no EEG in both.

    Of each EEG the row with most votes stands for it, if it is among the scored rows. Equals by label_id.
    """
    candidates = np.flatnonzero(hidden_test_like(data))
    order = candidates[np.argsort(-entry.kl[candidates], kind="stable")]
    half = (len(order) + 1) // 2
    return order[: min(count, half)], order[::-1][: min(count, len(order) - half)]
