"""Nested CV against public and private score: does the own number foretell the leaderboard?"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common.files import write_via
from train.report.ledger import Row

PUBLIC, PRIVATE = "#1b6ca8", "#c8553d"


def plot(rows: Sequence[Row], path: Path) -> bool:
    """Draw the rows that have a nested CV and a score. Returns whether there was any; else nothing is written."""
    scores = np.array([row.scores for row in rows]).reshape(-1, 3)
    seen = np.flatnonzero(np.isfinite(scores[:, 0]) & np.isfinite(scores[:, 1:]).any(axis=1))
    if not len(seen):
        return False
    figure = Figure(figsize=(8, 6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    cv, public, private = scores[seen].T
    axes.vlines(cv, public, private, color="#bbbbbb", linewidth=1, zorder=1)  # the same submission
    axes.scatter(cv, public, s=42, color=PUBLIC, label="public score", zorder=3)
    hollow = {"facecolor": "white", "edgecolor": PRIVATE, "linewidth": 1.6}
    axes.scatter(cv, private, s=42, label="private score", zorder=3, **hollow)
    low = np.nanmin(scores[seen])
    axes.axline((low, low), slope=1, color="#888888", linewidth=1, linestyle="--", label="leaderboard = CV", zorder=0)
    for number, x, y in zip(seen + 1, cv, np.fmin(public, private), strict=True):
        axes.annotate(f"#{number}", (x, y), xytext=(0, -16), textcoords="offset points", ha="center", fontsize=9)
    axes.margins(0.15)
    axes.set_xlabel("nested CV: KL out of fold, rows with at least 10 votes (lower is better)")
    axes.set_ylabel("leaderboard: KL (lower is better)")
    axes.set_title(f"{len(seen)} of {len(rows)} publications, # as in `publish.py history`", fontsize=11)
    axes.grid(color="#eeeeee")
    axes.legend(frameon=False, loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_via(path, lambda partial: FigureCanvasAgg(figure).print_png(str(partial)))
    return True
