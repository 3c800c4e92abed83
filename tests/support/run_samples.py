"""Run folders with random predictions, as `python -m train run` would leave them."""

import numpy as np
import polars as pl
import pytest

from common.schema import PATTERNS, VOTES
from train.experiment import Experiment

LAST, BEST = ([f"{pattern}_{which}" for pattern in PATTERNS] for which in ("last", "best"))


def make_rows(n_patients=9, seed=0, folds=3, most=18):
    """Label rows of patients with one to three EEGs, each with one to three vote vectors; ids in no order."""
    rng, lines, even = np.random.default_rng(seed), [], np.full(6, 1 / 6)
    for patient in range(n_patients):
        for eeg in range(rng.integers(1, 4)):
            ids = 100 * patient + eeg, patient, patient % folds
            lines += [(*ids, *rng.multinomial(rng.integers(1, most), even)) for _ in range(rng.integers(1, 4))]
    schema = ["eeg_id", "patient_id", "fold", *VOTES]
    rows = pl.DataFrame(lines, schema=schema, orient="row")
    return rows.with_columns(label_id=pl.Series(rng.permutation(rows.height)), spectrogram_id=pl.col("eeg_id"))


def write_run(
    folder, rows, seed=0, name=None, finished=None, member="fold{}", experiment=None, predictions=None, **training
):
    """Only the files that scores are read from. predictions: of the last and the best epoch; else drawn at random."""
    folder.mkdir(parents=True, exist_ok=True)
    experiment = experiment or Experiment(name=name or folder.name, training={"folds": 3, **training})
    n_folds = experiment.training.folds
    (folder / "config.json").write_text(experiment.model_dump_json())
    rows.write_parquet(folder / "rows.parquet")
    if predictions is None:
        predictions = np.random.default_rng(seed).dirichlet(np.ones(6), (2, rows.height))
    table = rows.with_columns(
        pl.Series(column, values[:, k])
        for columns, values in zip((LAST, BEST), predictions, strict=True)
        for k, column in enumerate(columns)
    )
    for k in finished or range(n_folds):
        part = folder / member.format(k)
        part.mkdir()
        (part / "last.safetensors").touch()
        table.filter(pl.col("fold") == k).write_parquet(part / "oof.parquet")
    table.filter(pl.col("fold").is_in(finished or range(n_folds))).write_parquet(folder / "oof.parquet")
    return folder


@pytest.fixture(name="runs")
def two_runs(tmp_path):
    """Two runs of the same rows."""
    rows = make_rows()
    return [write_run(tmp_path / name, rows, seed) for seed, name in enumerate(("one", "other"))]


def oof_of(run):
    return pl.concat([pl.read_parquet(run / f"fold{k}/oof.parquet") for k in range(3)])
