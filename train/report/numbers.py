"""The numbers of a report, as plain values."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.metric import vote_shares
from common.schema import CONSENSUS, PATTERNS
from train.blend.diagnostics import calibration_curve, calibration_error
from train.data.labels import vote_totals
from train.evaluate.scores import VOTE_BINS, interval, one_per_eeg, resampled_means
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


@dataclass(frozen=True)
class Score:
    """A mean KL (or a difference of two) and its 95 % interval from resampling patients; NaN where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True)
class Part:
    """Scores of all entries, in their order, on some of the rows."""

    label: str
    rows: int
    patients: int
    scores: list[Score]
    pattern: str | None = None


def scores_on(entries: Sequence[Entry], patient: np.ndarray, chosen: np.ndarray) -> list[Score]:
    """Each entry's score on the chosen rows."""
    if not chosen.any():
        return [Score(float("nan")) for _ in entries]
    kl = np.stack([entry.kl[chosen] for entry in entries])
    if len(np.unique(patient[chosen])) < FEWEST_PATIENTS:
        return [Score(float(mean)) for mean in kl.mean(axis=1)]
    low, high = interval(resampled_means(kl, patient[chosen]))
    return [Score(*map(float, values)) for values in zip(kl.mean(axis=1), low, high, strict=True)]


def differences(data: ReportData, reference: Entry, others: Sequence[Entry]) -> list[Score]:
    """Each other entry's score less the reference's, on the same draws of patients."""
    kl = np.stack([entry.kl[data.scored] - reference.kl[data.scored] for entry in others])
    low, high = interval(resampled_means(kl, data.patient[data.scored]))
    return [Score(*map(float, values)) for values in zip(kl.mean(axis=1), low, high, strict=True)]


def part_of(data: ReportData, label: str, chosen: np.ndarray, pattern: str | None = None) -> Part:
    patients = len(np.unique(data.patient[chosen]))
    return Part(label, int(chosen.sum()), patients, scores_on(data.entries, data.patient, chosen), pattern)


def by_class(data: ReportData) -> list[Part]:
    """Scored rows by consensus: the pattern with most votes, of equals the first."""
    consensus = data.votes.argmax(axis=1)
    return [
        part_of(data, LABELS[pattern], data.scored & (consensus == k), pattern) for k, pattern in enumerate(PATTERNS)
    ]


def by_votes(data: ReportData) -> list[Part]:
    """All rows by their number of votes; bins that hold no row are left out."""
    totals = vote_totals(data.votes)
    parts = []
    for low, high in VOTE_BINS:
        chosen = (totals >= low) & (totals <= (high or totals.max()))
        if chosen.any():
            parts.append(part_of(data, f"{low} or more" if high is None else f"{low} to {high}", chosen))
    return parts


def by_fold(data: ReportData) -> list[Part]:
    fold = data.rows["fold"].to_numpy()
    return [part_of(data, f"Fold {k}", data.scored & (fold == k)) for k in np.unique(fold)]


def by_patient(data: ReportData, entry: Entry) -> list[dict[str, Any]]:
    """Each patient's mean over the scored rows of the entry and of the prior, the worst first; commonest consensus."""
    scored, prior = data.scored, data.of_kind("prior")
    assert prior is not None
    patients, of_row, rows = np.unique(data.patient[scored], return_inverse=True, return_counts=True)
    means, priors = (np.bincount(of_row, each.kl[scored]) / rows for each in (entry, prior))
    consensus, eegs = data.votes[scored].argmax(axis=1), data.rows["eeg_id"].to_numpy()[scored]
    lines = []
    for k in np.argsort(-means, kind="stable"):
        here = of_row == k
        commonest = Counter(consensus[here].tolist()).most_common(1)[0][0]
        lines.append(
            {
                "patient": int(patients[k]),
                "rows": int(rows[k]),
                "eegs": len(np.unique(eegs[here])),
                "pattern": PATTERNS[commonest],
                "kl": float(means[k]),
                "prior": float(priors[k]),
            }
        )
    return lines


def share_of_worst(lines: Sequence[dict[str, Any]], tenth: float = 0.1) -> float:
    """Which share of the summed KL the worst tenth of the patients (by their sum) has."""
    sums = np.sort([line["kl"] * line["rows"] for line in lines])[::-1]
    return float(sums[: max(1, round(len(sums) * tenth))].sum() / max(sums.sum(), 1e-300))


def confusion(data: ReportData, entry: Entry) -> np.ndarray:
    """Counts (6, 6) of scored rows: consensus downwards, the most probable pattern to the right."""
    consensus = data.votes[data.scored].argmax(axis=1)
    counts = np.zeros((len(PATTERNS), len(PATTERNS)), dtype=np.int64)
    np.add.at(counts, (consensus, entry.probabilities[data.scored].argmax(axis=1)), 1)
    return counts


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


def worst_and_best(data: ReportData, entry: Entry, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the recordings with the highest and the lowest KL, one row an EEG, no EEG in both.

    Of each EEG the row with most votes stands for it, if it is among the scored rows. Equals by label_id.
    """
    candidates = np.flatnonzero(one_per_eeg(data.rows) & data.scored)
    order = candidates[np.argsort(-entry.kl[candidates], kind="stable")]
    half = (len(order) + 1) // 2
    return order[: min(count, half)], order[::-1][: min(count, len(order) - half)]


def hidden_test_like(data: ReportData) -> np.ndarray:
    """One row an EEG among the scored ones: what the hidden test is most like."""
    return one_per_eeg(data.rows) & data.scored
