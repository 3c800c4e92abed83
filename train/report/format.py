"""Values of a report as words: the filters of its template."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from train.report.load import Entry, ReportData
from train.report.numbers import Score

DASH, MINUS, NARROW = "\u2013", "\u2212", "\u202f"  # nothing there; of numbers; between thousands
NONE = float("nan")


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """A dash for what there is none of."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}".replace("-", MINUS)  # no -0.000


def between(score: Score, digits: int = 3, sign: str = "") -> str:
    if math.isnan(score.low):
        return DASH
    return f"{number(score.low, digits, sign)} to {number(score.high, digits, sign)}"


def count(value: float) -> str:
    """Whole, thousands apart; votes of an EEG with several windows are shares of votes."""
    whole = abs(value - round(value)) < 1e-6
    return f"{round(value):,}".replace(",", NARROW) if whole else f"{value:.1f}"


def score(bounds: Sequence[float] | None) -> Score:
    """An interval of the blend file, which may be null."""
    return Score(NONE, *(bounds or (NONE, NONE)))


def candidate_score(candidate: Mapping[str, Any]) -> Score:
    return Score(candidate["nested_kl"], *(candidate["interval"] or (NONE, NONE)))


def triple(values: Sequence[float]) -> Score:
    return Score(*values)


def verdict(difference: Score) -> str:
    """Of a difference: lower is better."""
    if math.isnan(difference.low):
        return "too few patients to say"
    return "better" if difference.high < 0 else "worse" if difference.low > 0 else "no clear difference"


def others_of(scores: Sequence[Score], data: ReportData, main: Entry) -> list[float]:
    """The scores of all models but the main one."""
    models = [entry for entry in data.models() if entry is not main]
    return [score.value for entry, score in zip(data.entries, scores, strict=True) if entry in models]


def cell(text: str) -> str:
    """A number that came as text, or a dash."""
    return number(float(text), 4) if text.replace(".", "", 1).isdigit() else text or DASH


FILTERS = {
    each.__name__: each
    for each in (*(number, between, count, score, candidate_score, triple, verdict, others_of, cell),)
}
