"""Charts of a report as SVG. Their colours are in the page's style sheet, for light and dark."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

STEPS = (1, 2, 2.5, 5, 10)
WIDTH, HEIGHT = 340, 230  # of a small chart; about its size in CSS pixels, so that its letters keep theirs
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 38  # around its axes


@dataclass(frozen=True)
class Axis:
    """A linear scale with round ticks. Positions are shares of its length."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def around(cls, values: Iterable[float], ticks: int = 5, zero: bool = False) -> "Axis":
        """From a tick at or below the least to one at or above the largest; NaN does not count."""
        known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(known + [0.0] * zero), max(known + [0.0] * zero)
        high = max(high, low + abs(high) * 1e-3, low + 1e-9)
        marks = tuple(round(float(tick), 10) for tick in MaxNLocator(ticks, steps=STEPS).tick_values(low, high))
        return cls(marks[0], marks[-1], marks)

    def at(self, value: float) -> float:
        """Its share of the axis, kept inside."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def percent(self, value: float) -> str:
        """For a style: 12.34%."""
        return f"{100 * self.at(value):.2f}%"


def x_of(axis: Axis, value: float) -> float:
    return round(LEFT + axis.at(value) * (WIDTH - LEFT - RIGHT), 1)


def y_of(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.at(value) * (HEIGHT - TOP - BOTTOM), 1)


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def text(x: float, y: float, words: str, style: str = "", anchor: str = "middle") -> str:
    return f'<text class="{style}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


def circle(x: float, y: float, radius: float, style: str, tip: str = "") -> str:
    return f'<circle class="{style}" cx="{x}" cy="{y}" r="{radius:.1f}"><title>{escape(tip)}</title></circle>'


def path(points: Sequence[tuple[float, float]], style: str, tip: str = "") -> str:
    corners = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline class="{style}" points="{corners}"><title>{escape(tip)}</title></polyline>'


def diagonal(axis: Axis) -> str:
    return line(x_of(axis, axis.low), y_of(axis, axis.low), x_of(axis, axis.high), y_of(axis, axis.high), "diagonal")


def svg(parts: Iterable[str], what: str, height: int = HEIGHT) -> Markup:
    """A chart of these parts. what: for screen readers."""
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(what)}">'
    return Markup(head + "".join(parts) + "</svg>")


def chart(x: Axis, y: Axis, marks: Sequence[str], x_title: str, y_title: str, what: str) -> Markup:
    """Axes, grid and marks."""
    parts = []
    for value in y.ticks:
        height = y_of(y, value)
        parts.append(line(LEFT, height, WIDTH - RIGHT, height, "grid"))
        parts.append(text(LEFT - 6, height + 3.5, f"{value:g}", "tick", "end"))
    for value in x.ticks:
        parts.append(text(x_of(x, value), HEIGHT - BOTTOM + 14, f"{value:g}", "tick"))
    parts += marks
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_title, "axis-title"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="axis-title" transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_title)}</text>"
    )
    return svg(parts, what)


# ---- training curves


def curves(histories: dict[str, list[dict[str, Any]]], column: str, y_title: str, what: str) -> Markup | None:
    """A line for each model over its epochs; broken lines where a stage begins. None where nothing was logged."""
    known = {name: [row[column] for row in rows] for name, rows in histories.items()}
    known = {name: values for name, values in known.items() if any(value is not None for value in values)}
    if not known:
        return None
    longest = max(map(len, known.values()))
    x = Axis.around([1, longest], ticks=6)
    if longest <= 8:  # every epoch has its tick
        margin = 0.5 if longest == 1 else 0
        x = Axis(1 - margin, longest + margin, tuple(range(1, longest + 1)))
    y = Axis.around(value for values in known.values() for value in values if value is not None)
    marks = stage_marks(max(histories.values(), key=len), x)
    for number, (name, values) in enumerate(known.items()):
        points = [(x_of(x, k), y_of(y, value)) for k, value in enumerate(values, start=1) if value is not None]
        marks.append(path(points, f"curve f{number % 6}", name))
        marks.append(circle(*points[-1], 3, f"end f{number % 6}", f"{name}: {values[-1]:.4g} at the end"))
        if column.startswith("validation"):
            rows = histories[name]
            best = min(range(len(rows)), key=lambda k: rows[k]["selected_by"])
            if best < len(rows) - 1:
                marks.append(circle(*points[best], 4.5, f"best f{number % 6}", f"{name}: best epoch, {best + 1}"))
    epochs = [[(row["stage"], row["epoch"]) for row in rows] for rows in histories.values()]
    once = all(len(set(each)) == len(each) for each in epochs)  # published selection validates twice an epoch
    return chart(x, y, marks, "epoch" if once else "validation, two an epoch", y_title, what)


def stage_marks(rows: Sequence[dict[str, Any]], x: Axis) -> list[str]:
    """Broken lines where a stage begins."""
    marks = []
    for k, (before, row) in enumerate(pairwise(rows), start=1):
        if row["stage"] != before["stage"]:
            place = x_of(x, k + 0.5)
            marks.append(line(place, TOP, place, HEIGHT - BOTTOM, "stage"))
            marks.append(text(place + 4, TOP + 9, f"stage {row['stage'] + 1}", "tick", "start"))
    return marks


# ---- patients


CROWD = 150  # patients; more of them are drawn as points


def patient_dot(row: dict[str, Any], x: float, y: float, patients: int) -> str:
    """One patient, in the colour of the commonest consensus."""
    tip = f"patient {row['patient']}: KL {row['kl']:.3f}, prior {row['prior']:.3f}, {row['rows']} rows"
    if patients > CROWD:
        return circle(x, y, 1.5, f"dot crowd p-{row['pattern']}", tip)
    return circle(x, y, 2.2 + 0.6 * min(math.sqrt(row["rows"]), 6), f"dot p-{row['pattern']}", tip)


def patients_against_prior(lines: Sequence[dict[str, Any]]) -> Markup:
    """Each patient's score over what the prior scores there; above the diagonal the prior is better."""
    both = [row["kl"] for row in lines] + [row["prior"] for row in lines]
    axis = Axis.around(both, zero=True)
    marks = [diagonal(axis)]
    marks += [patient_dot(row, x_of(axis, row["prior"]), y_of(axis, row["kl"]), len(lines)) for row in lines]
    marks.append(text(x_of(axis, axis.low) + 6, TOP + 12, "prior better", "note", "start"))
    marks.append(text(WIDTH - RIGHT - 4, HEIGHT - BOTTOM - 8, "model better", "note", "end"))
    return chart(axis, axis, marks, "KL of the class prior", "KL of the model", "Patients: model against prior")


# ---- reliability


def reliability_chart(pattern: str, curve: Sequence[dict[str, float]]) -> Markup:
    """Observed share of votes over predicted probability; a dot's area is how many predictions it stands for, the
    columns below are their histogram."""
    axis = Axis(0, 1, (0, 0.25, 0.5, 0.75, 1))
    marks = [diagonal(axis)]
    total = sum(part["probabilities"] for part in curve)
    for part in curve:
        left, right = x_of(axis, part["low"]) + 1, x_of(axis, part["high"]) - 1
        top = y_of(axis, 0.3 * part["probabilities"] / total)
        marks.append(
            f'<rect class="p-{pattern} histogram" x="{left}" y="{top}" width="{right - left:.1f}" '
            f'height="{y_of(axis, 0) - top:.1f}"/>'
        )
    points = [(x_of(axis, part["predicted"]), y_of(axis, part["observed"])) for part in curve]
    marks.append(path(points, f"curve p-{pattern}"))
    for point, part in zip(points, curve, strict=True):
        tip = f"predicted {part['predicted']:.3f}, observed {part['observed']:.3f}, {part['probabilities']} predictions"
        marks.append(circle(*point, 2.5 + 7 * math.sqrt(part["probabilities"] / total), f"dot p-{pattern}", tip))
    return chart(axis, axis, marks, "predicted", "observed", f"Reliability of {pattern}")
