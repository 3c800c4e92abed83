"""Values of a report as words: the filters of its template."""

import math
from collections.abc import Sequence

from train.report.numbers import Score

DASH, MINUS, NARROW = "\u2013", "\u2212", "\u202f"  # nothing there; of numbers; between thousands


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """A dash for what there is none of."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}".replace("-", MINUS)  # no -0.000


def between(bounds: Sequence[float] | None, digits: int = 3, sign: str = "") -> str:
    """An interval (low, high), or that of a Score; a dash where there is none."""
    if bounds is None or math.isnan(bounds[-1]):
        return DASH
    return " to ".join(number(bound, digits, sign) for bound in bounds[-2:])


def count(value: float) -> str:
    """Whole, thousands apart; votes of an EEG with several windows are shares of votes."""
    whole = abs(value - round(value)) < 1e-6
    return f"{round(value):,}".replace(",", NARROW) if whole else f"{value:.1f}"


def verdict(difference: Score) -> str:
    """Of a difference: lower is better."""
    if math.isnan(difference.low):
        return "too few patients to say"
    return "better" if difference.high < 0 else "worse" if difference.low > 0 else "no clear difference"


def cell(text: str) -> str:
    """A number that came as text, or a dash."""
    return number(float(text), 4) if text.replace(".", "", 1).isdigit() else text or DASH


FILTERS = {each.__name__: each for each in (number, between, count, verdict, cell)}
