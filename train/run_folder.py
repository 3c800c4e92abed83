"""The folder of a run: one experiment on one competition.

RUNS/<name>/config.json     the experiment
RUNS/<name>/rows.parquet    label rows with their fold
RUNS/<name>/fold0/          last.safetensors, best.safetensors, epochs.csv, fold.json, oof.parquet
RUNS/<name>/oof.parquet     out-of-fold predictions of the finished folds, of the config's checkpoint
"""

import json
from pathlib import Path
from typing import Any

import polars as pl

from common.config import Experiment, parse_experiment
from common.errors import KitError
from common.files import write_via
from common.schema import PATTERNS

CONFIG, FOLD, ROWS, OOF = "config.json", "fold.json", "rows.parquet", "oof.parquet"
LAST, BEST, STATE, LOG = "last.safetensors", "best.safetensors", "state.pt", "epochs.csv"


class RunError(KitError):
    """A run folder that does not fit what was asked. The message says what to do."""


def write_json(path: Path, values: dict[str, Any]) -> None:
    write_via(path, lambda temporary: temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8"))


def read_table(path: Path) -> pl.DataFrame:
    """A parquet table. Raises RunError when it cannot be read."""
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise RunError(f"{path}: not a readable parquet file ({str(error).strip().splitlines()[0]})") from error


def fold_folder(run: Path, fold: int) -> Path:
    return run / f"fold{fold}"


def probability_columns(checkpoint: str) -> list[str]:
    """Names of the six probabilities of a checkpoint in a fold's oof.parquet: seizure_last ..."""
    return [f"{pattern}_{checkpoint}" for pattern in PATTERNS]


def read_run(run: Path) -> Experiment:
    """The experiment of a run folder with at least one finished fold. Raises RunError."""
    if not (run / CONFIG).is_file() or not (run / OOF).is_file():
        raise RunError(f"{run}: no {CONFIG} and {OOF} here; give a folder that `python -m train run` finished")
    try:
        return parse_experiment(json.loads((run / CONFIG).read_bytes()), str(run / CONFIG))
    except ValueError as error:
        raise RunError(f"{run / CONFIG} is damaged ({error}): train this run again") from error


def finished_folds(run: Path) -> list[int]:
    return sorted(int(part.parent.name.removeprefix("fold")) for part in run.glob(f"fold*/{OOF}"))
