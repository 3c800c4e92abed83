"""Time: what is given up first, what is predicted, and that a run ends in the time allowed, by a clock of our own."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

import infer.net
import infer.runner
from common.schema import VOTES
from common.tta import PLAIN, View
from infer.budget import Batch, Budget, Pass, steps_to_give_up
from infer.submit import submit
from infer.validate import validate

MIRROR, LATER = View(mirror=True), View(shift=4)


def passes(model, folds, seeds=(0,), views=(PLAIN,)):
    return [Pass(model, fold, seed, view) for fold in folds for seed in seeds for view in views]


def test_what_is_given_up_first():
    """TTA views from the last, then seeds, then folds, each of all models at once, then models in the order given."""
    views = (PLAIN, MIRROR, LATER)
    strong = passes("strong", [0, 1, None], seeds=(0, 1), views=views)
    weak = passes("weak", [0, 1, 2], views=views)
    left, steps = set(strong + weak), steps_to_give_up(strong + weak, (MIRROR, LATER), ("weak", "strong"))
    assert list(steps) == ["view +4 s", "view mirror", "seed 1", "fold 2", "fold 1", "fold 0", "model weak"]
    for what, gone in steps.items():
        assert gone <= left and gone
        left -= gone
        assert {one.model for one in left} >= {"strong"}
        assert ("weak" in {one.model for one in left}) == (what != "model weak")
    assert left == {Pass("strong", None, 0, PLAIN)}  # the net that was trained on all rows
    assert {one.model for one in steps["view mirror"]} == {"strong", "weak"}
    assert steps["fold 0"] == {Pass("strong", 0, 0, PLAIN)}  # of the weak one it is the last that is left
    assert steps["model weak"] == {Pass("weak", 0, 0, PLAIN)}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_predictions_rest_on_batches_after_the_first():
    clock = Clock()
    budget = Budget(1000, clock)
    budget.note(Batch(1, 40.0, {"a": 40.0}))
    assert not budget.is_measured()  # it may only have been warming up
    budget = Budget(1000, clock)
    clock.now += 90
    budget.note(Batch(1, 90.0, {"a": 60.0, "b": 30.0}))
    assert budget.is_measured()  # 90 s are more than warming up takes
    assert budget.predicted({"a", "b"}, 10) == pytest.approx(90 + 10 * 90)
    for _ in range(2):
        clock.now += 10
        budget.note(Batch(2, 10.0, {"a": 6.0, "b": 2.0}))
    assert budget.predicted({"a", "b"}, 4) == pytest.approx(110 + 4 * 5)  # 5 s an EEG, 8 of 10 in parts
    assert budget.predicted({"a"}, 4) == pytest.approx(110 + 4 * 3 * 10 / 8)
    assert budget.predicted({"a", "never seen"}, 0) == pytest.approx(110)
    assert not budget.is_over()
    clock.now = 2000.0
    assert budget.is_over()


@pytest.fixture(scope="module")
def seeded(road, tmp_path_factory):
    """The road's weights, the image model with a second seed of fold 0 (the wave model's fold files would not fit)."""
    folder = shutil.copytree(road.weights, tmp_path_factory.mktemp("seeded") / "weights")
    image = folder / "hms-tiny-image"
    shutil.copyfile(image / "fold1.safetensors", image / "fold0-seed1.safetensors")
    manifest = json.loads((image / "manifest.json").read_text())
    again = {**manifest["folds"][1], "file": "fold0-seed1.safetensors", "fold": 0, "seed": 1}
    manifest["folds"].append(again)
    (image / "manifest.json").write_text(json.dumps(manifest))
    return sorted(folder.iterdir())


def timed_submit(road, weights, out, monkeypatch, seconds, views=(MIRROR,), drop=("tiny-image",), each=10.0):
    """submit() on a clock that goes on `each` seconds for every window that a net looks at, and stands else."""
    clock, real = Clock(), infer.net.predict

    def predict(model, inputs, half=False):
        clock.now += each * len(inputs)
        return real(model, inputs, half)

    monkeypatch.setattr(infer.net, "predict", predict)
    monkeypatch.setattr(infer.runner, "BATCH_SIZE", 2)
    blend = road.blend.model_copy(update={"views": views, "drop": drop, "hours": seconds / 3600})
    report = submit(road.competition, weights, blend, out, clock=clock)
    monkeypatch.setattr(infer.net, "predict", real)
    assert validate(out, road.competition) == 9
    return report, pl.read_csv(out).select(VOTES).to_numpy(), clock.now - 1000.0


@pytest.fixture(scope="module")
def whole(road, seeded, tmp_path_factory):
    """What is predicted when there is time for everything."""
    with pytest.MonkeyPatch.context() as patch:
        return timed_submit(road, seeded, tmp_path_factory.mktemp("whole") / "out.csv", patch, 1e4)[1]


# 9 EEGs; an EEG costs 5 nets x 2 views x 10 s = 100 s. The first batch holds 1 EEG, and is more than warming up.
ALLOWED = {
    900.0: ([], 900.0),
    899.0: (["view mirror"], 100 + 8 * 50),
    450.0: (["view mirror", "seed 1"], 100 + 8 * 40),
    300.0: (["view mirror", "seed 1", "fold 1"], 100 + 8 * 20),
    190.0: (["view mirror", "seed 1", "fold 1", "model tiny-image"], 100 + 8 * 10),
}


@pytest.mark.parametrize("seconds", ALLOWED)
def test_what_would_take_too_long_is_left_out_and_named(road, seeded, whole, tmp_path, monkeypatch, seconds):
    expected, spent = ALLOWED[seconds]
    report, answers, took = timed_submit(road, seeded, tmp_path / "out.csv", monkeypatch, seconds)
    assert [entry.split(" after 1 EEGs: ")[0] for entry in report.dropped] == expected
    assert took == spent <= seconds and report.seconds["total"] == pytest.approx(spent)
    for entry in report.dropped:
        assert entry.endswith(f"{seconds / 3600:.3g} h allowed")
    np.testing.assert_array_equal(answers[0], whole[0])  # answered before anything was left out
    assert bool(expected) == (np.abs(answers[1:] - whole[1:]).max() > 1e-4)
    assert report.fallbacks == []  # a model given up is said once, not for every EEG


def test_what_is_left_answers_as_it_would_alone(road, seeded, tmp_path, monkeypatch):
    """190 s: one fold of the wave model, seen plainly."""
    _, answers, _ = timed_submit(road, seeded, tmp_path / "out.csv", monkeypatch, 190.0)
    alone = shutil.copytree(seeded[1], tmp_path / "hms-tiny-wave")
    manifest = json.loads((alone / "manifest.json").read_text())
    manifest["folds"] = manifest["folds"][:1]
    (alone / "manifest.json").write_text(json.dumps(manifest))
    blend = road.blend.model_copy(update={"models": {"tiny-wave": 1.0}})
    submit(road.competition, [alone], blend, tmp_path / "alone.csv")
    expected = pl.read_csv(tmp_path / "alone.csv").select(VOTES).to_numpy()
    np.testing.assert_allclose(answers[1:], expected[1:], rtol=0, atol=1e-12)


def test_the_blend_file_says_which_model_goes_first(road, seeded, tmp_path, monkeypatch):
    report, _, _ = timed_submit(road, seeded, tmp_path / "out.csv", monkeypatch, 190.0, drop=())
    assert report.dropped[-1].startswith("model tiny-wave after")  # .4 against .6; ALLOWED has it the other way round


def test_when_even_one_net_takes_too_long_the_rest_gets_the_prior(road, seeded, tmp_path, monkeypatch):
    report, answers, took = timed_submit(road, seeded, tmp_path / "out.csv", monkeypatch, 130.0)
    assert len(report.dropped) == 4 and took == 140.0  # the batch under way when the time is over is its last
    prior = np.isclose(answers, np.array(road.blend.prior), rtol=0, atol=1e-12).all(axis=1)
    assert prior.tolist() == [False] * 5 + [True] * 4
    late = [entry for entry in report.fallbacks if entry["why"] == "no time left"]
    assert len(late) == 4 and "no time left for 4 EEGs" in report.warnings[0]


def test_no_time_at_all(road, seeded, tmp_path, monkeypatch):
    """Not one net runs once the time is over: the batch under way is answered by those that have run."""
    report, answers, took = timed_submit(road, seeded, tmp_path / "out.csv", monkeypatch, 5.0)
    assert took == 10.0 and len(report.fallbacks) == 9  # 1 without the wave model, 8 with the prior
    assert [entry["answer"] for entry in report.fallbacks].count("prior") == 8
    assert {entry["why"] for entry in report.fallbacks} == {"no time left"}
    np.testing.assert_allclose(answers[1:], np.tile(road.blend.prior, (8, 1)), rtol=0, atol=1e-12)
    assert np.abs(answers[0] - road.blend.prior).max() > 1e-6


def test_time_spent_waiting_for_recordings_counts(road, tmp_path, monkeypatch):
    clock, read = Clock(), infer.submit.read_row

    def slow_read(*given):
        clock.now += 100.0
        return read(*given)

    monkeypatch.setattr(infer.submit, "read_row", slow_read)
    monkeypatch.setattr(infer.runner, "BATCH_SIZE", 2)
    monkeypatch.setattr(infer.runner, "read_ahead", lambda read, ids, ahead: (read(one) for one in ids))
    blend = road.blend.model_copy(update={"hours": 550.0 / 3600})
    report = submit(road.competition, road.datasets, blend, tmp_path / "out.csv", clock=clock)
    assert [entry.split(" after")[0] for entry in report.dropped] == ["fold 1", "model tiny-wave"]
    assert sum(entry["why"] == "no time left" for entry in report.fallbacks) == 4  # two read too late, two not at all
    assert report.seconds["stages"]["reading"] >= 600
