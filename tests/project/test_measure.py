"""What configs cost: the arithmetic from steps to hours, and the measuring of small ones."""

import json
import re
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from eeg_samples import real
from torch import nn

from common.command_line import parse
from common.schema import VOTES
from train.cli import app
from train.data.labels import label_rows
from train.data.row_selection import RowSelection
from train.engine import loop
from train.experiment import Experiment, load_experiment
from train.experiments import cost, measure
from train.experiments.cost import Cost, KitError, as_text, as_values, measure_costs, rows_of
from train.experiments.measure import Measurement, StepTime, kept_bytes, measure_experiment

CPU = torch.device("cpu")
SMALL = """
[input]
kind = "kaggle-image"
standardise = "training"
columns = 64
[model]
kind = "spectrogram-cnn"
backbone = "test_efficientnet"
pretrained = false
[[training.stages]]
epochs = 2
batch_size = 4
augment = {mosaic = true}
[[training.stages]]
epochs = 3
batch_size = 2
accumulate = 3
ema = 0.9
rows = {min_votes = 10}
"""


def two_stages(**training):
    first = {"epochs": 2, "batch_size": 8, "rows": {"max_votes": 4, "at_max": "divided"}}
    second = {"epochs": 3, "batch_size": 4, "rows": {"min_votes": 4, "at_min": "unanimous"}}
    return Experiment(name="two-stages", training={"stages": [first, second]} | training)


def fake(*seconds, rows=8, predict_seconds=0.0):
    """Measured: a stage's step of `rows` rows takes so many seconds."""
    times = tuple(StepTime(rows, s, 0.25, 1e6) for s in seconds)
    return Measurement("a clock", 7, 4_000_000, 3 * 10**9, 5 * 10**9, times, predict_seconds)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def measured(small):
    return measure_experiment(load_experiment(small), 2, None, CPU)


# ---- the competition's rows


@pytest.mark.parametrize(
    "selection, rows",
    [
        (RowSelection(), 20_183),
        (RowSelection(max_votes=4, at_max="divided"), 12_394),
        (RowSelection(min_votes=4, at_min="unanimous"), 7_789),
        (RowSelection(min_votes=10), 6_350),
    ],
)
def test_numbers_of_rows(selection, rows):
    assert rows_of(selection, "votes") == pytest.approx(rows)
    assert rows_of(selection, "window") == pytest.approx(106_800 * rows / 20_183)


def test_table_of_votes_is_that_of_the_real_table():
    votes = label_rows(real("real/train.csv").parent).select(VOTES).to_numpy()
    n, unanimous = votes.sum(axis=1), (votes > 0).sum(axis=1) == 1
    found = {k: (int((n == k).sum()), int(((n == k) & unanimous).sum())) for k in np.unique(n).tolist()}
    assert found == cost.LABEL_ROWS


# ---- hours


@pytest.mark.parametrize(("folds", "share"), [(5, 4), (2, 1)])
def test_hours_by_hand(folds, share):
    """12,394 rows, 2 epochs, 8 rows in .5 s; then 7,789 rows, 3 epochs, 8 rows in 2 s: each row in all folds but one.

    The held-out rows are predicted after each of the 5 epochs, and twice in the end.
    """
    found = Cost(two_stages(folds=folds), fake(0.5, 2.0, predict_seconds=0.01))
    assert found.stage_hours == pytest.approx([share * 2 * 12_394 / 8 * 0.5 / 3600, share * 3 * 7_789 / 8 * 2 / 3600])
    assert found.validation_hours == pytest.approx((2 + 3 + 2) * 20_183 * 0.01 / 3600)
    assert found.hours == pytest.approx(sum(found.stage_hours) + found.validation_hours)


def test_table_shows_the_longest_stage_and_labels_the_hours():
    published = {"source": "someone", "cv": 0.4142, "rows": "some rows"}
    experiment = Experiment(**two_stages().model_dump(exclude={"published"}), published=published)
    costs = [Cost(experiment, fake(0.5, 2.0, predict_seconds=0.0))]
    line = as_text(costs, in_markdown=True).splitlines()[2]
    shown = [cell.strip() for cell in line.strip("| ").split("|")]
    wanted = ["two-stages", "4 M", "8", "2", "4", "25%", "3.0 GB", "5.0 GB", "8.2", "0.4142", "some rows"]
    assert shown == wanted
    for text in (as_text(costs), as_text(costs, in_markdown=True)):
        assert "extrapolated from 7 steps on a clock" in text and "20,183" in text
    assert as_values(costs)["two-stages"]["hours"] == pytest.approx(1.7214 + 6.4908, abs=1e-3)


# ---- measuring


def test_measured_numbers_fit_each_other(measured):
    assert [step.rows for step in measured.times] == [4, 2 * 3]
    for step in measured.times:
        assert step.seconds > 0 and 0 < step.outside < 1
        assert step.rows_per_second * step.seconds == pytest.approx(step.rows)
    assert measured.predict_seconds > 0
    assert 50_000 < measured.parameters < 200_000
    assert measured.peak_bytes > measured.step_bytes > 20 * measured.parameters


def test_engine_takes_the_steps_that_are_measured(small, measured, monkeypatch):
    taken, seen = [], []
    step, batch = measure.ModelOptimizer.step, loop.train_batch
    monkeypatch.setattr(measure.ModelOptimizer, "step", lambda tools: (taken.append(tools), step(tools)))
    monkeypatch.setattr(loop, "train_batch", lambda *given: (seen.append(given[1].size), batch(*given))[1])
    other = measure_experiment(load_experiment(small), 2, 5, CPU)
    assert len(taken) == (1 + 2) + (1 + 2)  # of each stage one that counts activations, and two measured
    assert seen == [5] * (3 + 1 + 2 * 3)  # the other batch size; three batches a step in the second stage
    assert [step.rows for step in other.times] == [5, 15]
    # The step's bytes are those of the config's own batch, but for what does not grow with the batch.
    assert other.step_bytes == pytest.approx(measured.step_bytes, rel=0.05)


@pytest.mark.parametrize("slowed, outside", [("build_input", True), ("row_loss", False)])
def test_time_before_the_net_is_outside_it(slowed, outside, monkeypatch):
    function, now = getattr(loop, slowed), [0.0]

    def slow(*given):
        now[0] += 0.5
        return function(*given)

    net = {"kind": "spectrogram-cnn", "backbone": "test_efficientnet", "pretrained": False}
    experiment = Experiment(name="one-stage", model=net, training={"stages": [{"batch_size": 2}]})
    monkeypatch.setattr(loop, slowed, slow)
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(measure, "time_prediction", lambda *_: 0.1)
    [step] = measure_experiment(experiment, 2, None, CPU).times
    assert (step.seconds, step.outside) == (0.5, float(outside))


def test_bytes_kept_for_the_backward_pass():
    """Linear layers keep their inputs, a ReLU its output, which is the next one's input; weights are not counted."""
    net = nn.Sequential(nn.Linear(10, 300), nn.ReLU(), nn.Linear(300, 7))
    assert kept_bytes(net, lambda: net(torch.randn(5, 10)).sum().backward()) == 4 * 5 * (10 + 300)
    assert all(weights.grad is not None for weights in net.parameters())


def test_noise_is_of_what_the_input_sees():
    sequence = Experiment(name="waves", input={"kind": "bipolar-sequence"}, model={"kind": "wave-net"})
    for experiment, seen, unseen in ((Experiment(name="x"), "spectrogram", "eeg"), (sequence, "eeg", "spectrogram")):
        noise = measure.NoiseWindows(experiment.input, CPU)
        found = list(noise.batches(np.arange(70) % measure.NOISE_WINDOWS, 32, CPU))
        assert [len(part) for part, _ in found] == [32, 32, 6] and getattr(noise, unseen) is None
        assert torch.equal(getattr(found[2][1], seen), getattr(found[0][1], seen)[:6])  # the rows start again


# ---- failures


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("can't allocate memory\nmore"), "can't allocate memory: give a smaller --batch-size"),
        (RuntimeError("another fault\nmore"), "another fault"),
        (BrokenProcessPool(), "its process was ended, most likely for want of memory: give a smaller --batch-size"),
    ],
)
def test_a_config_that_dies_is_named_and_the_others_go_on(small, error, told, monkeypatch, capsys):
    other = small.with_name("other.toml")
    other.write_text(SMALL)

    def die_on_other(path, *_):
        if path == other:
            raise error
        return fake(1.0, 1.0)

    monkeypatch.setattr(cost, "in_own_process", die_on_other)
    with pytest.raises(KitError, match=r"^1 of 3 configs were not measured: other$"):
        parse(app, ["measure", str(small), str(other), str(small), "--markdown"])()
    printed = capsys.readouterr()
    assert printed.err.splitlines()[1] == f"[2/3] other: not measured: {told}"
    assert [line.split(" | ")[0] for line in printed.out.splitlines()[2:4]] == ["| small"] * 2


def test_a_config_that_cannot_be_is_named_before_anything_is_measured(small, monkeypatch):
    wrong = small.with_name("wrong.toml")
    wrong.write_text('[model]\nkind = "wave-net"\n')
    monkeypatch.setattr(cost, "in_own_process", lambda *_: pytest.fail("measured"))
    with pytest.raises(cost.KitError, match=r"wrong\.toml"):
        measure_costs([small, wrong], 1, None)


# ---- the command


@pytest.mark.parametrize("apart", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_command(apart, small, tmp_path, monkeypatch, capsys):
    if not apart:
        monkeypatch.setattr(cost, "in_own_process", cost.measure_file)
    written = tmp_path / "new" / "costs.json"
    parse(app, ["measure", str(small), "--steps", "1", "--batch-size", "2", "--json", str(written)])()
    told = capsys.readouterr()
    assert re.fullmatch(r"\[1/1\] small: [\d.e-]+ h\n", told.err)
    heads, line = told.out.splitlines()[:2]
    assert heads.startswith("config") and line.startswith("small")
    assert "extrapolated from 1 step on a CPU" in told.out
    values = json.loads(written.read_text())
    assert list(values) == ["small"] and values["small"]["hours"] > 0
    assert [step["rows"] for step in values["small"]["times"]] == [2, 6]
