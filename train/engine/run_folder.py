"""A run folder: RUNS/<experiment name>/.

config.json               the experiment
rows.parquet              its label rows, each with its fold
folds.csv                 patient_id, fold: the same folds for other runs (--fold-table)
lock                      held by the command that writes here
oof.parquet               label_id, eeg_id, fold, votes and six probabilities of all finished folds
fold0/                    one model: held out fold 0, first seed. Further seeds: fold0-seed1/; trained on all rows:
                          full/; held out two folds, for pseudo labels: fold0and1/. In each of them
  fold.json               whose it is, checksums, where the first weights and pseudo labels came from, versions,
                          constants of the training rows
  epochs.csv              losses and rates of each epoch
  last.safetensors        after the last epoch
  best.safetensors        of the epoch that scored best on the fold: chosen on it, so its score is optimistic
  oof.parquet             label_id, eeg_id, fold, votes and the probabilities of both
  state.pt                to continue an interrupted run; gone when the model is finished

Runs of earlier versions of the kit are read and continued, finished or not; only those made by `--as-published` are
not: their config has schedule = "never-stepped", which is "constant" now.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from common.errors import KitError, other_regions
from common.files import sha256_of
from common.schema import FORMER_REGIONS, PATTERNS, REGIONS
from train.experiment import Experiment, parse_experiment

CONFIG, FOLD, ROWS, OOF, FOLD_TABLE = "config.json", "fold.json", "rows.parquet", "oof.parquet", "folds.csv"
LOCK = "lock"  # held by the command that writes to the folder
LAST, BEST, STATE, LOG = "last.safetensors", "best.safetensors", "state.pt", "epochs.csv"


class RunError(KitError):
    """A run that cannot start or go on, or its folder does not fit what was asked. The message says what to do."""


@dataclass(frozen=True, order=True)
class FoldModel:
    """One trained model of a run: which folds it never saw (none: the full fit), and which seed."""

    held_out: tuple[int, ...]
    seed: int = 0

    @property
    def name(self) -> str:
        data = "fold" + "and".join(map(str, self.held_out)) if self.held_out else "full"
        return f"{data}-seed{self.seed}" if self.seed else data

    @property
    def exported(self) -> bool:
        """Models that saw neither of two folds only make pseudo labels."""
        return len(self.held_out) < 2


MODEL_NAME = re.compile(r"(?:full|fold(\d+)(?:and(\d+))?)(?:-seed(\d+))?")


def model_of(name: str) -> FoldModel | None:
    """The model whose folder has this name, if it is one's."""
    if not (found := MODEL_NAME.fullmatch(name)):
        return None
    held_out = tuple(int(fold) for fold in found.groups()[:2] if fold is not None)
    return FoldModel(held_out, int(found.group(3) or 0))


def read_table(path: Path) -> pl.DataFrame:
    """A parquet table. Raises RunError when it cannot be read."""
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(
            f"{path}: not a readable parquet file ({reason}); of a run: remove its folder, and --resume trains it again"
        ) from error


def probability_columns(checkpoint: str) -> list[str]:
    """Names of the six probabilities of a checkpoint in a fold's oof.parquet: seizure_last ..."""
    return [f"{pattern}_{checkpoint}" for pattern in PATTERNS]


def read_config(run: Path) -> Experiment:
    """The experiment of a run folder. Raises RunError and ConfigError."""
    try:
        return parse_experiment(json.loads((run / CONFIG).read_bytes()), str(run / CONFIG))
    except ValueError as error:
        raise RunError(f"{run / CONFIG} is damaged ({error}): train this run again") from error


def read_run(run: Path) -> Experiment:
    """The experiment of a run folder with at least one finished model. Raises RunError."""
    if not (run / CONFIG).is_file() or not finished_models(run):
        raise RunError(f"{run}: no {CONFIG} and no finished model here; give a folder that `python -m train run` wrote")
    return read_config(run)


def is_finished(run: Path, model: FoldModel) -> bool:
    """The last file that training writes is there, and the state, which goes after it, is not."""
    folder = run / model.name
    return (folder / (OOF if model.held_out else LAST)).is_file() and not (folder / STATE).is_file()


def read_facts(run: Path, model: FoldModel) -> dict[str, Any]:
    """What training noted of a model: where its first weights came from, versions, constants, checksums."""
    return json.loads((run / model.name / FOLD).read_text(encoding="utf-8"))


def check_regions(folder: Path, facts: dict[str, Any]) -> None:
    """Raises RunError when a model saw the regions in another order: older versions of the kit."""
    if (regions := tuple(facts.get("regions", FORMER_REGIONS))) != REGIONS:
        raise RunError(f"{folder}: {other_regions(regions)}")


def check_model(run: Path, model: FoldModel) -> None:
    """Raises RunError when a finished model is not this run's, or its weights are not those that training left."""
    folder, remedy = run / model.name, "remove its folder and train it again with --resume"
    try:
        facts = read_facts(run, model)
        belongs, weights = facts["member"], facts["weights_sha256"]
    except (OSError, ValueError, LookupError) as error:
        raise RunError(f"{folder / FOLD} cannot be read ({error}): {remedy}") from error
    check_regions(folder, facts)
    if belongs != [model.name, sha256_of(run / CONFIG)]:
        raise RunError(f"{folder} is {belongs[0]} of another run: {remedy}")
    for file, sha256 in weights.items():
        if not (folder / file).is_file():
            raise RunError(f"{folder / file} missing: {remedy}")
        if sha256_of(folder / file) != sha256:
            raise RunError(f"{folder / file} is not what training wrote: damaged or swapped; {remedy}")


def finished_models(run: Path) -> list[FoldModel]:
    folders = run.iterdir() if run.is_dir() else ()
    models = (model_of(folder.name) for folder in folders)
    return sorted(model for model in models if model and is_finished(run, model))


def read_oof(run: Path) -> pl.DataFrame:
    """Out-of-fold predictions of both checkpoints for the label rows of all finished folds, the mean over a
    fold's seeds. Raises RunError, also for predictions of other rows than those a fold held out."""
    folds: dict[int, list[pl.DataFrame]] = {}
    rows = read_table(run / ROWS)
    for model in finished_models(run):
        if len(model.held_out) == 1:
            part = read_table(run / model.name / OOF)
            if not part["label_id"].equals(rows.filter(fold=model.held_out[0])["label_id"]):
                raise RunError(
                    f"{run / model.name / OOF} is not of the rows of fold {model.held_out[0]}: train it again"
                )
            folds.setdefault(model.held_out[0], []).append(part)
    if not folds:
        raise RunError(
            f"{run}: no fold is finished; `python -m train run ... --resume` goes on (a full fit has no score)"
        )
    names = [*probability_columns("last"), *probability_columns("best")]
    means = []
    for parts in folds.values():
        mean = sum(part.select(names).to_numpy() for part in parts) / len(parts)
        means.append(parts[0].with_columns(pl.Series(name, mean[:, k]) for k, name in enumerate(names)))
    return pl.concat(means)
