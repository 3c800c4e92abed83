"""How the runs of a report were made: configs and curves."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from train.engine.run_folder import LAST, LOG, FoldModel, RunError, finished_models, read_facts
from train.evaluate.runs import LABELS
from train.experiment import Experiment
from train.experiments.words import published_words, recipe_words
from train.report.charts import curves

PANELS = (
    ("validation_kl_many", "KL, 10 or more votes"),
    ("validation_kl", "KL, all rows"),
    ("train_loss", "training loss"),
)


def read_csv(path: Path, remedy: str, **options: Any) -> pl.DataFrame:
    """A table. Raises RunError."""
    try:
        return pl.read_csv(path, **options)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"{path}: cannot be read ({reason}); {remedy}") from error


# ---- training


def read_history(run: Path, fold_model: FoldModel) -> list[dict[str, Any]]:
    """epochs.csv as lines; none where it is missing. Raises RunError."""
    path = run / fold_model.name / LOG
    remedy = "remove its folder and train it again"
    return read_csv(path, remedy, infer_schema_length=None).to_dicts() if path.is_file() else []


def training_of(name: str, run: Path) -> dict[str, Any]:
    """Curves of every finished model of a run, and how long it took."""
    histories = {
        fold_model.name: rows for fold_model in finished_models(run) if (rows := read_history(run, fold_model))
    }
    charts = [(title, curves(histories, column, title, f"{title} of {name}")) for column, title in PANELS]
    return {
        "name": name,
        "fold_models": list(histories),
        "charts": [drawn for _, drawn in charts if drawn is not None],
        "seconds": sum(row["seconds"] or 0 for rows in histories.values() for row in rows),
        "stages": max((row["stage"] + 1 for rows in histories.values() for row in rows), default=0),
    }


# ---- configs


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys, as TOML would write them."""
    if isinstance(values, dict) and values:
        pairs = values.items()
    elif isinstance(values, list | tuple) and values and isinstance(values[0], dict):
        pairs = ((str(k + 1), value) for k, value in enumerate(values))
    else:
        return {prefix.removesuffix("."): values}
    return {key: value for name, part in pairs for key, value in flat(part, f"{prefix}{name}.").items()}


def differences_from_defaults(experiment: Experiment) -> dict[str, str]:
    """What a config says: dotted keys that differ from the defaults, and the kinds, as TOML writes values."""
    values = experiment.model_dump(mode="json", exclude_defaults=True, exclude={"name", "published"})
    for part in ("input", "model"):
        kind = {"kind": getattr(experiment, part).kind}
        values[part] = kind | values.get(part, {})
    return {key: json.dumps(value) for key, value in flat(dict(sorted(values.items()))).items()}


def facts_of(run: Path, fold_model: FoldModel) -> dict[str, Any]:
    """fold.json; empty where it is missing or damaged."""
    try:
        return read_facts(run, fold_model)
    except (OSError, ValueError):
        return {}


def run_details(name: str, run: Path, experiment: Experiment) -> dict[str, Any]:
    """Config, seeds, versions and dates of a run."""
    fold_models = finished_models(run)
    facts = [facts_of(run, fold_model) for fold_model in fold_models]
    versions = sorted({tuple(fact["versions"].items()) for fact in facts if fact.get("versions")})
    weights = [path for fold_model in fold_models if (path := run / fold_model.name / LAST).is_file()]
    latest = max((path.stat().st_mtime for path in weights), default=None)
    return {
        "name": name,
        "config": differences_from_defaults(experiment),
        "words": recipe_words(experiment),
        "published": published_words(experiment.published)[:2],
        "models": ", ".join(fold_model.name for fold_model in fold_models),
        "seed": experiment.training.seed,
        "seeds": sorted({fold_model.seed for fold_model in fold_models}),
        "folds": experiment.training.folds,
        "labels": LABELS[experiment.training.labels],
        "checkpoint": experiment.training.checkpoint,
        "initialised": sorted({fact["initialised"] for fact in facts if fact.get("initialised")}),
        "pseudo": any(fact.get("pseudo") for fact in facts),
        "versions": [", ".join(f"{package} {number}" for package, number in pairs) for pairs in versions],
        "finished": datetime.fromtimestamp(latest, UTC).strftime("%Y-%m-%d %H:%M UTC") if latest else None,
    }
