"""Nested CV against public and private score: does the house's own number foretell the leaderboard?"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.files import write_via
from publishing.ledger import Row, number, scores_of

PUBLIC, PRIVATE = "#1b6ca8", "#c8553d"
MARGIN = 0.01  # KL around the outermost points at least: a single one is not blown up
LABEL_WIDTH, LINE = 0.045, 11  # of a label: its share of the picture's width, its height in points


def label(axes, cv: np.ndarray, lowest: np.ndarray) -> None:
    """The publications' numbers below their lower score, further below where neighbours' labels are already."""
    width = LABEL_WIDTH * np.ptp(axes.get_xlim())
    taken: list[float] = []  # by line: the right end of its last label
    for at in np.argsort(cv, kind="stable"):
        if not np.isfinite(cv[at] + lowest[at]):
            continue
        line = next((line for line, end in enumerate(taken) if cv[at] - width / 2 >= end), len(taken))
        taken[line : line + 1] = [cv[at] + width / 2]
        offset, place = (0, -LINE * (line + 1) - 5), (cv[at], lowest[at])
        axes.annotate(f"#{at + 1}", place, xytext=offset, textcoords="offset points", ha="center", fontsize=9)


def plot(rows: Sequence[Row], path: Path) -> bool:
    """Draw the rows that have a nested CV and a score. Returns whether there was any; else nothing is written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values = np.array([[number(text) for text in scores_of(row)] for row in rows]).reshape(-1, 3)
    seen = np.isfinite(values[:, 0]) & np.isfinite(values[:, 1:]).any(axis=1)
    if not seen.any():
        return False
    cv, public, private = values.T
    figure = Figure(figsize=(8, 6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for x, low, high in zip(cv, public, private, strict=True):
        axes.plot([x, x], [low, high], color="#bbbbbb", linewidth=1, zorder=1)  # the same submission
    axes.scatter(cv, public, s=42, color=PUBLIC, label="public score", zorder=3)
    axes.scatter(
        cv, private, s=42, facecolor="white", edgecolor=PRIVATE, linewidth=1.6, label="private score", zorder=3
    )
    shown = values[seen]
    low, high = np.nanmin(shown), np.nanmax(shown)
    axes.axline((low, low), slope=1, color="#888888", linewidth=1, linestyle="--", label="leaderboard = CV", zorder=0)
    x, y = shown[:, 0], shown[:, 1:][np.isfinite(shown[:, 1:])]
    (left, right), (bottom, top) = (max(0.1 * float(np.ptp(a)), MARGIN) * np.array([-1, 1]) for a in (x, y))
    axes.set_xlim(x.min() + left, x.max() + right)
    axes.set_ylim(y.min() + 1.5 * bottom, y.max() + top)
    label(axes, cv, np.fmin(public, private))
    axes.set_xlabel("nested CV: KL out of fold, rows with at least 10 votes (lower is better)")
    axes.set_ylabel("leaderboard: KL (lower is better)")
    counted = f"{int(seen.sum())} publication{'' if seen.sum() == 1 else 's'}"
    axes.set_title(f"{counted}, # as in `publish.py history`", fontsize=11)
    axes.grid(color="#eeeeee")
    axes.legend(frameon=False, loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_via(path, lambda temporary: FigureCanvasAgg(figure).print_png(str(temporary)))
    return True
