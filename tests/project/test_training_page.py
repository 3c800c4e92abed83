"""docs/training.md: every snippet is a config that loads, and what it says of the losses is what they are."""

import re
import tomllib
from pathlib import Path

import pytest
import torch

from train.engine.losses import vote_weight
from train.experiment import parse_experiment

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```toml\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_every_snippet_is_a_config(snippet):
    experiment = parse_experiment({"name": "snippet", **tomllib.loads(snippet)}, "docs/training.md")
    assert experiment.training.stages


def test_the_table_of_losses_is_right():
    names = re.findall(r"(?m)^\| `([a-z-]+)` \|", PAGE.partition("## Losses")[2])
    q = 1.3010299956639813  # log10 20
    expected = {"kl": 1, "vote-log": 3.044522437723423, "xloss": 10, "modified": (10 + 2 * q) * q, "vote-share": 1}
    at_20 = {name: vote_weight(torch.tensor([20.0]), name).item() for name in expected}
    assert at_20 == pytest.approx(expected, rel=1e-6) and names[: len(expected)] == list(expected)
