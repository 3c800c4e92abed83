"""Votes exchanged between patients leave nothing to learn: the same training ends at the prior on the hidden test."""

import json
import os
import shutil

import numpy as np
import polars as pl
import pytest
from conftest import together

from common.blend import Blend
from common.metric import kl_divergence
from common.schema import CONSENSUS, MANY_VOTES, VOTES
from train.data.labels import label_rows, prior_shares

pytestmark = pytest.mark.slow
PATIENTS, SEED = "32", "5"
CONFIG = """
[input]
kind = "kaggle-image"
standardise = "image"
columns = 32
[model]
kind = "spectrogram-cnn"
backbone = "test_efficientnet"
pretrained = false
drop_path = 0.0
[training]
folds = 2
[[training.stages]]
epochs = 6
batch_size = 8
learning_rate = 3e-3
augment.mirror = 0.5
"""


def exchange_votes(table):
    """Every patient gets another one's votes, row by row, from the first again when they are fewer."""
    patients = table["patient_id"].unique(maintain_order=True).to_list()
    of_patient = {patient: table.filter(patient_id=patient).select(VOTES).rows() for patient in patients}
    givers = dict(zip(patients, np.roll(patients, len(patients) // 2), strict=True))
    taken, votes = dict.fromkeys(patients, 0), []
    for patient in table["patient_id"]:
        given = of_patient[givers[patient]]
        votes.append(given[taken[patient] % len(given)])
        taken[patient] += 1
    values = np.array(votes)
    consensus = pl.Series("expert_consensus", [CONSENSUS[k] for k in values.argmax(axis=1)])
    return table.with_columns(consensus, *(pl.Series(vote, values[:, k]) for k, vote in enumerate(VOTES)))


@pytest.fixture(scope="module")
def hidden_kl(tmp_path_factory):
    """KL on the hidden test: of models trained on the true votes, on exchanged ones, and of the prior."""
    folder = tmp_path_factory.mktemp("leaks")
    together(("-m", "train", "simulate", folder / "true", "--patients", PATIENTS, "--seed", SEED))
    (folder / "exchanged").mkdir()
    for path in (folder / "true").iterdir():
        if path.name != "train.csv":
            os.symlink(path, folder / "exchanged" / path.name)
    exchange_votes(pl.read_csv(folder / "true/train.csv")).write_csv(folder / "exchanged/train.csv")
    (folder / "small.toml").write_text(CONFIG)
    prior = prior_shares(label_rows(folder / "true").select(VOTES).to_numpy(), MANY_VOTES)
    (folder / "blend.json").write_text(Blend(models={}, prior=tuple(prior)).model_dump_json())
    which = ("true", "exchanged")
    trained = ("-m", "train", "run", folder / "small.toml")
    for votes in which:  # one after the other: they share a store
        together(
            (*trained, "--competition", folder / votes, "--store", folder / "store", "--out", folder / f"runs-{votes}")
        )
    together(*(("-m", "train", "export", folder / f"runs-{v}/small", "--out", folder / f"weights-{v}") for v in which))
    submit = ("-m", "infer", "submit", "--competition", folder / "true", "--blend", folder / "blend.json")
    together(*((*submit, "--weights", folder / f"weights-{v}", "--out", folder / f"{v}.csv") for v in which))
    solution = pl.read_csv(folder / "true/truth/solution.csv").sort("eeg_id")
    shares = solution.select(VOTES).to_numpy()
    found = {"prior": float(kl_divergence(shares, np.tile(prior, (len(shares), 1))).mean())}
    for votes in which:
        answer = pl.read_csv(folder / f"{votes}.csv").sort("eeg_id")
        assert answer["eeg_id"].equals(solution["eeg_id"])
        found[votes] = float(kl_divergence(shares, answer.select(VOTES).to_numpy()).mean())
    shutil.rmtree(folder / "store")
    print(json.dumps(found))
    return found


def test_training_on_true_votes_beats_the_prior(hidden_kl):
    assert hidden_kl["true"] < hidden_kl["prior"] - 0.1


def test_training_on_exchanged_votes_ends_at_the_prior(hidden_kl):  # never below it; above it by the noise it learnt
    assert -0.05 < hidden_kl["exchanged"] - hidden_kl["prior"] < 0.25
