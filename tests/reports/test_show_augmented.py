"""`train show --augmented`: each stage's changes are drawn, with the neighbours they need, and described in words."""

import re

import polars as pl
import torch

from train.augment.signal import SignalChanges
from train.experiment import Augment, Experiment, load_experiment
from train.plots.augmented import Example, augmented_rows, describe, draws_of, example_of
from train.plots.find import find, read_recordings, read_tables

EVERY_CHANGE = """
[input]
kind = "kaggle-image"
[[training.stages]]
augment.any_window = true
[[training.stages]]
augment.mosaic = true
[[training.stages]]
augment.mixup = {of = "signal"}
[[training.stages]]
augment.cutmix = {threshold = 0.01}
augment.mask = {chance = 1.0}
[[training.stages]]
augment.mosaic = true
[[training.stages]]
"""


def example_on_road(road, eeg_id):
    tables = read_tables(road.competition, "train")
    found = find(road.competition, tables, eeg_id, None)
    return example_of(road.competition, tables, found, read_recordings(road.competition, found)), found, tables["train"]


def test_every_stage_that_changes_something_is_drawn_with_other_eegs_of_the_consensus(road, tmp_path):
    for eeg_id in read_tables(road.competition, "train")["train"]["eeg_id"].unique().sort()[:4]:
        example, found, rows = example_on_road(road, eeg_id)
        others = rows.filter(pl.col("eeg_id") != eeg_id)
        alike = others.filter(pl.col("expert_consensus") == found.label["expert_consensus"])
        most = alike.group_by("eeg_id").agg(pl.col("total_votes").max())["total_votes"].sort(descending=True)[:3]
        assert len(example.neighbours) == 3 and example.votes.shape == (4, 6)
        assert example.votes.sum(dim=1)[: 1 + len(most)].tolist() == [found.label["total_votes"], *most]
    (tmp_path / "every.toml").write_text(EVERY_CHANGE)
    experiment = load_experiment(tmp_path / "every.toml")
    several = Example(example.recordings, ((0, 0), (800, 2), (2400, 6)), example.neighbours, example.votes)
    drawn = augmented_rows(several, [experiment])
    titles = [[drawing.title for drawing in row] for row in drawn]
    assert [row[0].split(", unaltered")[0] for row in titles] == [
        "every, stage 1", "every, stage 2 and 1 more", "every, stage 3", "every, stage 4"
    ]  # fmt: skip
    assert all(re.fullmatch(r"window from (0|4|12) s", title) for title in titles[0][1:])
    assert titles[1][1:] == ["mosaic"] * 3 and titles[2][1:] == ["mixup"] * 3
    assert set(titles[3][1:]) <= {"mask", "cutmix, mask"} and "mask" in titles[3][1]
    for row in drawn:
        assert len(row) == 4 and (row is drawn[0] or all((d.values != row[0].values).any() for d in row[1:]))
    mirrored = Augment(mirror=0.5)
    (once,) = draws_of(example, mirrored, experiment.input)  # and not thrice
    assert once.title == "mirrored"


def test_a_test_eeg_has_no_votes_to_mix(competition, tmp_path):
    tables = read_tables(competition, "test")
    found = find(competition, tables, tables["test"]["eeg_id"][0], None)
    example = example_of(competition, tables, found, read_recordings(competition, found))
    assert not example.neighbours and example.votes.tolist() == [[0] * 6]
    mixup = {"name": "mixed", "input": {"kind": "kaggle-image"}, "training": {"stages": [{"augment": {"mixup": {}}}]}}
    assert augmented_rows(example, [Experiment.model_validate(mixup)]) == []


def test_words_say_what_was_drawn():
    none = torch.zeros(1, 20, dtype=torch.bool)
    three, many = none.clone(), none.clone()
    three[0, [0, 5, 18]] = many[0, :7] = True
    changes = SignalChanges(
        torch.tensor([6]), torch.tensor([True]), three, many, torch.tensor([[1.04, 12.0]]), none, torch.tensor([[0, 9]])
    )
    assert describe(changes) == [
        "mirrored", "chains of the left side swapped", "backwards", "1.0-12.0 Hz in 7 electrodes", "without Fp1 T3 O2"
    ]  # fmt: skip
    changes = SignalChanges(
        torch.tensor([3]), torch.tensor([False]), none, none, torch.zeros(1, 2), three, torch.tensor([[100, 400]])
    )
    assert describe(changes) == ["chains of both sides swapped", "1.5 s missing in Fp1 T3 O2"]
