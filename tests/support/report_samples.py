"""Reports of made-up runs, by the command a user types."""

import html
import re
import sys
from unittest.mock import patch

import numpy as np
import pandas as pd
import polars as pl
import pytest
from run_samples import BEST, LAST, make_rows, write_run
from scipy.special import rel_entr

from common.schema import VOTES
from train.__main__ import main
from train.engine.run import merge_folds
from train.engine.run_folder import read_run

EPOCHS = """stage,epoch,batches,train_loss,validation_kl,validation_kl_many,selected_by,learning_rate,seconds
0,0,9,1.44,1.38,1.20,1.38,0.003,1.5
0,1,9,1.29,1.10,1.16,1.10,0.002,1.5
1,0,9,0.95,1.20,1.25,1.20,0.001,2.0
"""


def train(*words):
    """Runs `train WORDS` in this process; gives its exit code."""
    with patch.object(sys, "argv", ["train", *map(str, words)]):
        return main()


@pytest.fixture(name="command")
def train_command(capsys):
    """Runs `train WORDS`; gives exit code, output, errors."""

    def run(*words):
        capsys.readouterr()
        return train(*words), *capsys.readouterr()

    return run


def predict(run, rows, probabilities):
    """Puts (rows, 6) into the folds' tables and oof.parquet of a run, its best epoch a little flatter; and curves."""
    flatter = 0.9 * probabilities + 0.1 / 6
    columns = [pl.Series(c, probabilities[:, k]) for k, c in enumerate(LAST)]
    columns += [pl.Series(c, flatter[:, k]) for k, c in enumerate(BEST)]
    said = rows.select("label_id").with_columns(columns)
    for member in run.glob("fold[0-9]"):
        table = pl.read_parquet(member / "oof.parquet").drop(LAST + BEST)
        joined = table.join(said, on="label_id", how="left", maintain_order="left")
        joined.write_parquet(member / "oof.parquet")
        (member / "epochs.csv").write_text(EPOCHS)
    merge_folds(run, read_run(run))


def make_runs(folder, names=("one-run", "other-run"), patients=40, seed=3, **settings):
    """Two runs whose mean is what the votes are drawn from: no way to combine them is better."""
    rows, rng = make_rows(n_patients=patients, seed=seed), np.random.default_rng(seed)
    both = rng.dirichlet(np.full(6, 0.8), (2, rows.height))
    totals = rows.select(pl.sum_horizontal(VOTES)).to_series().to_numpy()
    votes = rng.multinomial(totals, both.mean(axis=0))
    rows = rows.with_columns(pl.Series(vote, votes[:, k]) for k, vote in enumerate(VOTES))
    runs = [write_run(folder / name, rows, **settings) for name in names]
    for run, probabilities in zip(runs, both, strict=False):
        predict(run, rows, probabilities)
    return runs


# ---- the page


def words_of(page):
    """The page's text, tags as spaces."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


def section(page, anchor):
    """The HTML of a section."""
    found = re.search(rf'<(section|header) id="{anchor}">.*?</\1>', page, re.DOTALL)
    assert found, anchor
    return found.group()


def body_rows(part):
    """Cells of all table rows of a piece of the page, as text."""
    cells = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>", re.DOTALL)
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", part, re.DOTALL)
    return [[words_of(cell).strip() for cell in cells.findall(row)] for row in rows]


# ---- the same by hand


def oof_of_run(run):
    """pandas: every fold's table, by label_id."""
    parts = [pd.read_parquet(path) for path in sorted(run.glob("fold[0-9]/oof.parquet"))]
    return pd.concat(parts).sort_values("label_id").reset_index(drop=True)


def votes_of(table):
    return table[list(VOTES)].to_numpy(dtype=float)


def kl_of(votes, probabilities):
    return rel_entr(votes / votes.sum(axis=1, keepdims=True), np.clip(probabilities, 1e-15, 1 - 1e-15)).sum(axis=1)
