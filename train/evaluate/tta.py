"""What test-time augmentation (TTA) is worth: held-out rows predicted again, mirrored or shifted as in the kernel.

tta_worth() returns what JSON and the report page hold of it: run, rows (with many votes), groups (patients), draws,
and `lines`, each with name, views, kl, interval, and difference to the plain view with difference_interval: the plain
view, each further view alone, and the means of the plain one with the first, the first two, ... as the kernel takes
them when it has time for so many.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.torch import load_file
from torch import device, nn
from tqdm import tqdm

from common.inputs.base import Constants, with_constants
from common.inputs.build import build_input
from common.metric import kl_divergence, vote_shares
from common.models.build import build_model
from common.predict import pick_device, predict, seen_as
from common.schema import MANY_VOTES, PATTERNS, VOTES
from common.tta import PLAIN, View
from train.data.windows import TrainingWindows
from train.engine.loop import VALIDATION_BATCH
from train.engine.run_folder import (
    ROWS,
    FoldModel,
    RunError,
    check_model,
    finished_models,
    probability_columns,
    read_facts,
    read_oof,
    read_run,
    read_table,
)
from train.evaluate.scores import RESAMPLES, bounds, many_votes, resampled_means
from train.experiment import Experiment
from train.tables import aligned, between, number

SAME = 0.01  # between a probability predicted again and the run's own, on whatever device


def load_model(run: Path, fold_model: FoldModel, experiment: Experiment, where: device) -> tuple[nn.Module, Any]:
    """The net that predicted the fold, and its input with the fold's constants. Raises RunError."""
    check_model(run, fold_model)
    net = build_model(experiment)
    net.load_state_dict(load_file(run / fold_model.name / f"{experiment.training.checkpoint}.safetensors"))
    constants = tuple(Constants.model_validate(values) for values in read_facts(run, fold_model)["constants"])
    return net.to(where).eval(), with_constants(experiment.input, constants)


def predict_tta(
    run: Path, views: tuple[View, ...], competition: Path, store: Path | None, only_many: bool
) -> tuple[pl.DataFrame, np.ndarray]:
    """The held-out label rows of all finished folds, and what their models predict from each view, (views, rows, 6).

    Several seeds of a fold are averaged. Raises RunError, also when the plain view does not give what the run's own
    oof.parquet has.
    """
    experiment, rows, where = read_run(run), read_table(run / ROWS), pick_device()
    known = read_oof(run)
    rows = rows.filter(pl.col("label_id").is_in(known["label_id"].to_list()))
    if only_many:
        rows = rows.filter(pl.Series(many_votes(rows.select(VOTES).to_numpy())))
    if not rows.height:
        raise RunError(f"{run}: no held-out row has at least {MANY_VOTES} votes: there is nothing to score")
    fold_models = [fold_model for fold_model in finished_models(run) if len(fold_model.held_out) == 1]
    predictions, models = np.zeros((len(views), rows.height, len(PATTERNS))), np.zeros(rows.height)
    fold = rows["fold"].to_numpy()
    windows = TrainingWindows(competition, rows, experiment.input, store)
    with tqdm(total=sum(int((fold == m.held_out[0]).sum()) for m in fold_models), desc="predict", unit="row") as bar:
        for fold_model in fold_models:
            net, input_config = load_model(run, fold_model, experiment, where)
            held_out = np.flatnonzero(fold == fold_model.held_out[0])
            models[held_out] += 1
            for numbers, raw in windows.batches(held_out, VALIDATION_BATCH, where):
                for k, view in enumerate(views):
                    predictions[k, numbers] += predict(net, build_input(seen_as(raw, view), input_config))
                bar.update(len(numbers))
    predictions /= models[:, None]
    check_plain(run, rows, predictions[views.index(PLAIN)], known, experiment.training.checkpoint)
    return rows, predictions


def check_plain(run: Path, rows: pl.DataFrame, plain: np.ndarray, known: pl.DataFrame, checkpoint: str) -> None:
    """Raises RunError when the plain view is not what the run itself predicted."""
    own = rows.select("label_id").join(known, on="label_id", how="left", maintain_order="left")
    apart = np.abs(own.select(probability_columns(checkpoint)).to_numpy() - plain).max()
    if apart > SAME:
        raise RunError(
            f"{run}: predicted again, the plain view differs from its oof.parquet by up to {apart:.3f}: "
            "give the competition folder that it was trained on"
        )


def tta_worth(run: Path, views: tuple[View, ...], rows: pl.DataFrame, predictions: np.ndarray) -> dict[str, Any]:
    """Scores of the plain view (the first), of each alone and of the means, on many-vote rows."""
    many = many_votes(rows.select(VOTES).to_numpy())
    target, patient = vote_shares(rows.select(VOTES).to_numpy()[many]), rows["patient_id"].to_numpy()[many]
    chosen = [(k,) for k in range(len(views))] + [tuple(range(k)) for k in range(2, len(views) + 1)]
    kl = np.stack([kl_divergence(target, predictions[list(which)].mean(axis=0)[many]) for which in chosen])
    resampled = resampled_means(kl, patient)
    own, paired = bounds(resampled), bounds(resampled - resampled[:, :1])
    lines = [
        {
            "name": ("alone: " if len(which) == 1 and which[0] else "") + ", ".join(str(views[k]) for k in which),
            "views": [str(views[k]) for k in which],
            "kl": float(kl[place].mean()),
            "interval": own[place],
            "difference": float(kl[place].mean() - kl[0].mean()),
            "difference_interval": paired[place],
        }
        for place, which in enumerate(chosen)
    ]
    facts = {"run": run.name, "rows": int(many.sum()), "groups": len(np.unique(patient)), "draws": RESAMPLES}
    return facts | {"lines": lines}


def as_oof(rows: pl.DataFrame, predictions: np.ndarray) -> pl.DataFrame:
    """The mean over all views as a table that `python -m train blend` reads."""
    mean = predictions.mean(axis=0)
    ids = rows.select("label_id", "eeg_id", "spectrogram_id", "patient_id", "fold", *VOTES)
    return ids.with_columns(pl.Series(pattern, mean[:, k]) for k, pattern in enumerate(PATTERNS))


def as_text(worth: dict[str, Any]) -> str:
    """The lines of tta_worth() as a table."""
    lines = [["", "KL", "95 % interval", "to plain", "95 % interval"]]
    for line in worth["lines"]:
        own, paired = between(line["interval"]), between(line["difference_interval"], "+")
        lines.append([line["name"], number(line["kl"]), own, number(line["difference"], "+"), paired])
    head = f"{worth['run']}: KL on {worth['rows']} held-out rows with >= {MANY_VOTES} votes, by the TTA views averaged"
    tail = f"Intervals: {worth['draws']} draws of {worth['groups']} patients, with replacement; differences are paired."
    return "\n".join([head, *aligned(lines), tail])
