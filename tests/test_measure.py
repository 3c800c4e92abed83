"""What configs cost: the arithmetic from steps to hours, and the measuring of small ones."""

import dataclasses
import json
import os
import time

import numpy as np
import pytest
import torch
from eeg_samples import real
from torch import nn

from common.schema import VOTES
from train import cost, measure
from train.__main__ import parser
from train.cost import Cost, as_markdown, as_text, as_values, measure_costs, rows_of, training_hours, validation_hours
from train.data.row_selection import RowSelection
from train.engine import loop
from train.engine.state import TrainingError
from train.experiment import Experiment, load_experiment
from train.labels import label_rows
from train.measure import MeasureError, Measurement, SavedBytes, StepTime, measure_experiment

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
    times = tuple(StepTime((stage,), rows, s, 0.25) for stage, s in enumerate(seconds))
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


def test_table_of_votes_holds_what_is_known():
    assert sum(rows for rows, _ in cost.LABEL_ROWS.values()) == 20_183
    assert all(0 <= unanimous <= rows for rows, unanimous in cost.LABEL_ROWS.values())
    assert cost.LABEL_ROWS[1][0] == cost.LABEL_ROWS[1][1]  # one vote cannot disagree


@pytest.mark.parametrize(
    "selection, rows",
    [
        (RowSelection(), 20_183),
        (RowSelection(max_votes=4, at_max="divided"), 12_394),
        (RowSelection(min_votes=4, at_min="unanimous"), 7_789),
        (RowSelection(min_votes=10), 6_350),
        (RowSelection(max_votes=3), 11_798),
        (RowSelection(min_votes=4, max_votes=4), 748),
    ],
)
def test_numbers_of_rows(selection, rows):
    assert rows_of(selection, "votes") == pytest.approx(rows)


def test_other_kinds_of_rows_keep_the_shares():
    assert rows_of(RowSelection(), "eeg") == pytest.approx(17_089)
    assert rows_of(RowSelection(min_votes=10), "window") == pytest.approx(106_800 * 6_350 / 20_183)


def test_table_of_votes_is_that_of_the_real_table():
    votes = label_rows(real("real/train.csv").parent).select(VOTES).to_numpy()
    n, unanimous = votes.sum(axis=1), (votes > 0).sum(axis=1) == 1
    found = {k: (int((n == k).sum()), int(((n == k) & unanimous).sum())) for k in np.unique(n).tolist()}
    assert found == cost.LABEL_ROWS


# ---- hours


def test_hours_by_hand():
    """12,394 rows, 2 epochs, four fifths in each of five folds: 8 rows in .5 s; then 7,789 rows, 3 epochs, 8 in 2 s."""
    hours = training_hours(two_stages().training, fake(0.5, 2.0))
    assert hours == pytest.approx([5 * 2 * 12_394 * 4 / 5 / 8 * 0.5 / 3600, 5 * 3 * 7_789 * 4 / 5 / 8 * 2.0 / 3600])
    assert hours == pytest.approx([1.7214, 6.4908], abs=1e-4)


def test_held_out_rows_are_predicted_after_each_epoch_and_twice_in_the_end():
    training = two_stages().training
    assert validation_hours(training, 0.01) == pytest.approx((2 + 3 + 2) * 20_183 * 0.01 / 3600)
    published = two_stages(selection="as-published").training
    assert validation_hours(published, 0.01) == pytest.approx((4 * (2 + 3) + 2) * 20_183 * 0.01 / 3600)


def test_fewer_folds_train_on_fewer_rows():
    experiment = two_stages(folds=2)
    whole = Cost(experiment, fake(1.0, 1.0, predict_seconds=0.1))
    rows = 2 * 12_394 + 3 * 7_789  # each fold on one half, two folds
    assert whole.hours == pytest.approx((rows / 8 + 7 * 20_183 * 0.1) / 3600)


def test_stages_of_one_kind_share_their_step():
    shared = dataclasses.replace(fake(), times=(StepTime((0, 1), 4, 1.0, 0.5),))
    hours = training_hours(two_stages().training, shared)
    assert hours[0] / hours[1] == pytest.approx(2 * 12_394 / (3 * 7_789))


def test_table_shows_the_longest_stage_and_labels_the_hours():
    published = {"source": "someone", "cv": 0.4142, "rows": "some rows"}
    experiment = Experiment(**two_stages().model_dump(exclude={"published"}), published=published)
    costs = [Cost(experiment, fake(0.5, 2.0, predict_seconds=0.0))]
    line = as_markdown(costs).splitlines()[2]
    shown = [cell.strip() for cell in line.strip("| ").split("|")]
    wanted = ["two-stages", "4 M", "8", "2", "4", "25%", "3.0 GB", "5.0 GB", "8.2", "0.4142", "some rows"]
    assert shown == wanted
    for text in (as_text(costs), as_markdown(costs)):
        assert "extrapolated from 7 steps on a clock" in text and "20,183" in text
    assert as_values(costs)["two-stages"]["hours"] == pytest.approx(1.7214 + 6.4908, abs=1e-3)


# ---- measuring


def test_measured_numbers_fit_each_other(measured):
    assert [step.stages for step in measured.times] == [(0,), (1,)]  # a mosaic costs time, so they are two kinds
    assert [step.rows for step in measured.times] == [4, 2 * 3]
    for step in measured.times:
        assert step.seconds > 0 and 0 < step.outside < 1
        assert step.rows_per_second * step.seconds == pytest.approx(step.rows)
    assert measured.predict_seconds > 0
    assert 50_000 < measured.parameters < 200_000
    assert measured.peak_bytes > measured.step_bytes > 20 * measured.parameters


def test_engine_takes_the_steps_that_are_measured(small, monkeypatch):
    taken, seen = [], []
    step, batch = measure.ModelOptimizer.step, loop.train_batch
    monkeypatch.setattr(measure.ModelOptimizer, "step", lambda tools: (taken.append(tools), step(tools)))
    monkeypatch.setattr(loop, "train_batch", lambda *given: (seen.append(given[1].size), batch(*given))[1])
    measured = measure_experiment(load_experiment(small), 2, 5, CPU)
    assert len(taken) == (1 + 2) + (1 + 2)  # of each kind one that counts activations, and two measured
    assert seen == [5] * (3 + 1 + 2 * 3)  # the other batch size; three batches a step in the second stage
    assert [step.rows for step in measured.times] == [5, 15]


@pytest.mark.parametrize("slowed, outside", [("build_input", True), ("row_loss", False)])
def test_time_before_the_net_is_outside_it(slowed, outside, monkeypatch):
    function = getattr(loop, slowed)

    def slow(*given):
        time.sleep(0.5)
        return function(*given)

    net = {"kind": "spectrogram-cnn", "backbone": "test_efficientnet", "pretrained": False}
    experiment = Experiment(name="one-stage", model=net, training={"stages": [{"batch_size": 2}]})
    monkeypatch.setattr(loop, slowed, slow)
    [step] = measure_experiment(experiment, 1, None, CPU).times
    assert step.seconds > 0.5
    assert (step.outside * step.seconds > 0.5) == outside == ((1 - step.outside) * step.seconds < 0.5)


def test_stages_of_the_same_work_are_measured_once():
    experiment = two_stages()
    assert measure.step_kinds(experiment) == [(0,), (1,)]
    assert measure.step_kinds(measure.with_batch_size(experiment, 4)) == [(0, 1)]


def test_bytes_kept_for_the_backward_pass():
    """Linear layers keep their inputs, a ReLU its output, which is the next one's input; weights are not counted."""
    net = nn.Sequential(nn.Linear(10, 300), nn.ReLU(), nn.Linear(300, 7))
    saved = SavedBytes(net)
    with torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda tensor: tensor):
        net(torch.randn(5, 10)).sum().backward()
    assert saved.bytes == 4 * 5 * (10 + 300)
    assert all(weights.grad is not None for weights in net.parameters())


def test_step_bytes_are_those_of_the_configs_own_batch(small):
    """A smaller measured batch gives the same answer, but for what does not grow with the batch."""
    experiment = load_experiment(small)
    own, other = (measure_experiment(experiment, 1, batch, CPU).step_bytes for batch in (None, 16))
    assert own == pytest.approx(other, rel=0.05)


def test_noise_is_of_what_the_input_sees():
    sequence = Experiment(name="waves", input={"kind": "bipolar-sequence"}, model={"kind": "wave-net"})
    for experiment, image in ((Experiment(name="image"), True), (sequence, False)):
        windows = measure.NoiseWindows(experiment.input, CPU)
        assert (windows.eeg is None, windows.spectrogram is None) == (image, not image)
        rows = np.arange(70) % measure.NOISE_WINDOWS
        found = list(windows.batches(rows, 32, CPU))
        assert [len(part) for part, _ in found] == [32, 32, 6]
        kind = found[2][1].spectrogram if image else found[2][1].eeg
        first = found[0][1].spectrogram if image else found[0][1].eeg
        assert torch.equal(kind, first[:6])  # the rows start again


# ---- failures


def test_a_config_that_dies_is_named_and_the_others_go_on(small, monkeypatch, capsys):
    other = small.with_name("other.toml")
    other.write_text(SMALL)

    def die_on_other(function, path, *arguments):
        if path == other:
            raise TrainingError("stage 0: a batch of 4 does not fit in the memory of cuda")
        return fake(1.0, 1.0)

    monkeypatch.setattr(cost, "in_own_process", die_on_other)
    costs, failed = measure_costs([small, other, small], 1, None)
    assert [c.experiment.name for c in costs] == ["small", "small"] and failed == ["other"]
    told = capsys.readouterr().err.splitlines()
    assert told[1] == "[2/3] other: not measured: stage 0: a batch of 4 does not fit in the memory of cuda"


def test_out_of_memory_in_a_step_says_what_training_says(small, monkeypatch):
    def too_much(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "train_batch", too_much)
    with pytest.raises(TrainingError, match=r"a batch of 4 does not fit .* set batch_size = 2"):
        cost.measure_file(small, 1, None)


def test_out_of_memory_elsewhere_is_told_too(small, monkeypatch):
    def too_much(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nmore lines")

    monkeypatch.setattr(measure, "predict_rows", too_much)
    with pytest.raises(MeasureError, match=r"can't allocate memory: give a smaller --batch-size$"):
        cost.measure_file(small, 1, None)


def test_an_ended_process_is_told():
    with pytest.raises(MeasureError, match="want of memory: give a smaller --batch-size"):
        cost.in_own_process(os._exit, 137)


def test_a_config_that_cannot_be_is_named_before_anything_is_measured(small, monkeypatch):
    wrong = small.with_name("wrong.toml")
    wrong.write_text('[model]\nkind = "wave-net"\n')
    monkeypatch.setattr(cost, "in_own_process", lambda *_: pytest.fail("measured"))
    with pytest.raises(cost.KitError, match=r"wrong\.toml"):
        measure_costs([small, wrong], 1, None)


# ---- the command


def run_command(*words):
    arguments = parser().parse_args(["measure", *map(str, words)])
    arguments.run(arguments)


def test_command(small, tmp_path, capsys):
    written = tmp_path / "new" / "costs.json"
    run_command(small, "--steps", 1, "--batch-size", 2, "--json", written)
    told = capsys.readouterr()
    assert told.err.startswith("[1/1] small: stage 0: ")
    heads, line = told.out.splitlines()[:2]
    assert heads.startswith("config") and line.startswith("small")
    assert "extrapolated from 1 step on a CPU" in told.out
    values = json.loads(written.read_text())
    assert list(values) == ["small"] and values["small"]["hours"] > 0
    assert [step["rows"] for step in values["small"]["times"]] == [2, 6]


def test_command_fails_behind_the_table_of_what_could_be_measured(small, monkeypatch, capsys):
    monkeypatch.setattr(cost, "in_own_process", lambda function, path, *_: function(path))
    unknown = small.with_name("unknown.toml")
    unknown.write_text(SMALL.replace("test_efficientnet", "no_such_net"))
    really = cost.measure_file
    monkeypatch.setattr(cost, "measure_file", lambda path: fake(1.0, 1.0) if path == small else really(path, 1, 2))
    with pytest.raises(MeasureError, match=r"^1 of 2 configs were not measured: unknown$"):
        run_command(unknown, small, "--markdown")
    told = capsys.readouterr()
    assert "[1/2] unknown: not measured: " in told.err and "no_such_net" in told.err
    assert told.out.splitlines()[2].startswith("| small | 4 M |")
