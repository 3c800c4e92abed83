"""What moves the weights, step by step, beside closed forms and hand-made averages."""

import math
from copy import deepcopy
from unittest import mock

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from training_stage import RATE, same_weights, small, stage

from common.metric import kl_divergence, vote_shares
from common.schema import PATTERNS, VOTES
from train.engine import loop
from train.engine.optim import ModelOptimizer, make_optimizer, pick_precision
from train.engine.published import as_published
from train.engine.run import RunOptions, run_experiment
from train.engine.state import count_steps
from train.experiment import Experiment, Stage

CPU = torch.device("cpu")
STILL = {"drop_channel": 0.0, "dropout": 0.0}
FROZEN = {"learning_rate": 1e-30, "weight_decay": 0.0}


def falling(first, last, share):
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def rates_and_betas(stage_, steps):
    """Learning rate and Adam's first beta of every step, as the optimiser uses them."""
    model, found = nn.Linear(2, 1), []
    tools = make_optimizer(model, stage_, steps, None)
    for _ in range(steps):
        model(torch.ones(1, 2)).sum().backward()
        group = tools.adamw.param_groups[0]
        found.append((group["lr"], group["betas"][0]))
        tools.step()
    return np.array(found).T


# ---- schedules


def test_the_seeds_intended_cycle_falls_from_1e_3_to_1e_4():
    rates, betas = rates_and_betas(Stage(warm_up=0.0, final_div_factor=0.4), 400)
    np.testing.assert_allclose(rates, [falling(1e-3, 1e-4, (k + 1) / 400) for k in range(400)], rtol=1e-9)
    np.testing.assert_allclose(rates[[99, 199, 299, 399]], [8.68e-4, 5.5e-4, 2.32e-4, 1e-4], rtol=1e-3)
    np.testing.assert_allclose(betas, [falling(0.85, 0.95, (k + 1) / 400) for k in range(400)], rtol=1e-9)


def test_a_cycle_that_is_never_stepped_is_the_constant_that_stands_for_it():
    experiment = Experiment(name="b2", published={"source": "seed", "bugs": ["schedule"]})
    rates, betas = rates_and_betas(as_published(experiment).training.stages[0], 300)
    steps = count_steps(16_604, Stage())  # six epochs of the seed's first fold
    assert steps == 6 * 519
    as_made = make_optimizer(nn.Linear(2, 1), Stage(warm_up=0.0, final_div_factor=0.4), steps, None).adamw
    group = as_made.param_groups[0]
    np.testing.assert_allclose(rates, group["lr"], rtol=1e-6)
    np.testing.assert_allclose(betas, group["betas"][0], rtol=1e-6)


@pytest.mark.parametrize("warm_up", [0.0, 0.02, 0.25])  # 0.02: less than a step, which is none
def test_every_rate_of_cosine_and_constant_and_one_cycle(warm_up):
    up, steps = 10.0 if warm_up == 0.25 else 0.0, 40
    options = {"learning_rate": 2e-3, "warm_up": warm_up, "div_factor": 10.0, "final_div_factor": 50.0}
    lowest, end = 2e-4, 4e-6
    rising = [lowest + (2e-3 - lowest) * k / 10 for k in range(10)] if up else []
    rates, betas = rates_and_betas(Stage(schedule="constant", **options), steps)
    np.testing.assert_allclose(rates, [*rising, *[2e-3] * (steps - len(rising))], rtol=1e-12)
    assert set(betas) == {0.9}
    rates, _ = rates_and_betas(Stage(schedule="cosine", **options), steps)
    down = [falling(2e-3, end, (k - up) / (39 - up)) for k in range(len(rising), steps)]
    np.testing.assert_allclose(rates, [*rising, *down], rtol=1e-9)
    assert rates.max() == 2e-3 and rates[-1] == pytest.approx(end)
    rates, betas = rates_and_betas(Stage(schedule="one-cycle", **options), steps)
    cycle = [
        falling(lowest, 2e-3, k / 9) if k < 9 and up else falling(2e-3, end, (k + 1 - up) / (40 - up))
        for k in range(40)
    ]
    np.testing.assert_allclose(rates, cycle, rtol=1e-9)


def test_a_stage_that_carries_on_is_on_the_same_schedule(noise, tmp_path, monkeypatch):
    rates, counts = [], []

    class Recording(torch.optim.AdamW):
        def step(self, *arguments, **options):
            rates.append(self.param_groups[0]["lr"])
            result = super().step(*arguments, **options)
            counts.append(int(next(iter(self.state.values()))["step"]))
            return result

    monkeypatch.setattr(torch.optim, "AdamW", Recording)
    cosine = {"schedule": "cosine"}
    stages = [stage(**cosine), stage(batch_size=2, carry_on=True, **cosine), stage(batch_size=8, accumulate=4)]
    run_experiment(small(stages=stages), noise, tmp_path, RunOptions(folds="0"))
    assert counts == [1, 2, 3, 4, 5, 6, 1]  # two batches of four and four of two, one optimiser; then a new one
    np.testing.assert_allclose(rates[:6], [falling(RATE, RATE / 2500, k / 5) for k in range(6)], rtol=1e-9)


# ---- a step


def plain(model, clip_norm, scaler):
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    return ModelOptimizer(model, optimiser, LambdaLR(optimiser, lambda _: 1.0), scaler, None, clip_norm)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "scaled"])
def test_gradients_are_clipped_as_they_are_not_as_they_are_scaled(half):
    for clip_norm, expected in ((0.5, [0.3, 0.4]), (9.0, [3.0, 4.0]), (None, [3.0, 4.0])):
        model = nn.Linear(2, 1, bias=False)
        before = model.weight.detach().clone()
        tools = plain(model, clip_norm, torch.amp.GradScaler("cpu", enabled=half))
        tools.scaler.scale(model(torch.tensor([[3.0, 4.0]])).sum()).backward()
        tools.step()
        torch.testing.assert_close((before - model.weight.detach())[0], torch.tensor(expected))
        assert model.weight.grad is None


def test_batches_of_a_step_are_worth_one_large_batch(noise, tmp_path):
    halves = stage(epochs=2, batch_size=4, accumulate=2)
    for name, values in (("one", stage(epochs=2, batch_size=8)), ("two", halves)):
        run_experiment(small(model=STILL, stages=[values]), noise, tmp_path / name, RunOptions(folds="0"))
    one, two = (load_file(tmp_path / name / "tiny-wave/fold0/last.safetensors") for name in ("one", "two"))
    for name in one:
        if not name.endswith("score.2.bias"):  # no gradient but rounding errors, which AdamW makes steps of
            torch.testing.assert_close(one[name], two[name], rtol=0, atol=2e-6)
    logs = [pl.read_csv(tmp_path / name / "tiny-wave/fold0/epochs.csv") for name in ("one", "two")]
    np.testing.assert_allclose(*(log["train_loss"] for log in logs), rtol=1e-5)


# ---- averaged weights


def test_averaged_weights_are_those_by_hand():
    model, rng = nn.Linear(3, 1), torch.Generator().manual_seed(0)
    tools = make_optimizer(model, Stage(ema=0.6, learning_rate=0.1), 6, None)
    assert tools.scored is not model
    average = None
    for step in range(6):
        model(torch.randn(4, 3, generator=rng)).square().sum().backward()
        tools.step()
        decay = min(0.6, 1 - (1 + step) ** -0.75)  # 0, 0.405, 0.561, 0.6 ...
        now = model.weight.detach().double()
        average = now if average is None else decay * average + (1 - decay) * now
        torch.testing.assert_close(tools.scored.weight.double(), average, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(tools.scored.weight, model.weight)


def test_averaged_weights_are_scored_kept_and_started_from(noise, tmp_path):
    def folder(name, *stages):
        run_experiment(small(stages=stages), noise, tmp_path / name, RunOptions(folds="0"))
        return tmp_path / name / "tiny-wave/fold0"

    averaged = stage(epochs=2, learning_rate=3e-2, ema=0.9)
    alone, plain_ = folder("alone", averaged), folder("plain", averaged | {"ema": None})
    assert not same_weights(alone / "last.safetensors", plain_ / "last.safetensors")
    table, log = pl.read_parquet(alone / "oof.parquet"), pl.read_csv(alone / "epochs.csv")
    probabilities = table.select(f"{pattern}_last" for pattern in PATTERNS).to_numpy()
    scored = kl_divergence(vote_shares(table.select(VOTES).to_numpy()), probabilities).mean()
    assert log["validation_kl"][1] == pytest.approx(scored, rel=1e-6)
    for start in ("last", "best"):
        then = folder(start, averaged, stage(start=start, **FROZEN))  # weights stay what they begin with
        assert same_weights(then / "last.safetensors", alone / f"{start}.safetensors")


def test_a_state_brings_back_all_that_moves_the_weights():
    model, again = nn.Linear(3, 1), nn.Linear(3, 1)
    tools, other = (make_optimizer(net, Stage(ema=0.6, learning_rate=0.1), 8, None) for net in (model, again))
    for step in range(6):
        model(torch.full((1, 3), 1.0 + step)).square().sum().backward()
        tools.step()
        if step == 2:
            other.load_state(deepcopy(tools.state()))
            again.load_state_dict(model.state_dict())
        elif step > 2:
            again(torch.full((1, 3), 1.0 + step)).square().sum().backward()
            other.step()
    assert torch.equal(model.weight, again.weight) and torch.equal(tools.scored.weight, other.scored.weight)
    assert not torch.equal(model.weight, tools.scored.weight)


# ---- precision


def test_precision_is_what_the_device_does_well(monkeypatch):
    card = torch.device("cuda", 0)
    for capability, expected in (((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)  # T4, A100, H200
        assert pick_precision("auto", card) is expected
        assert pick_precision("fp32", card) is None and pick_precision("fp16", card) is torch.float16
    assert pick_precision("auto", CPU) is None and pick_precision("bf16", CPU) is torch.bfloat16


def test_a_state_of_another_precision_goes_on():
    """As where a run that began in bfloat16 is continued on an older card."""
    states = {}
    for precision in (torch.bfloat16, torch.float16):
        tools = make_optimizer(nn.Linear(2, 1), Stage(), 4, precision)
        states[precision] = tools.state()
        assert bool(states[precision]["scaler"]) == (precision is torch.float16)
    for precision in states:
        for state in states.values():
            make_optimizer(nn.Linear(2, 1), Stage(), 4, precision).load_state(state)


def test_a_stages_progress_goes_from_its_first_batch_to_its_last(noise, tmp_path, monkeypatch):
    """What few_votes goes by: 0 to 1, of each stage."""
    row_loss = mock.Mock(side_effect=loop.row_loss)
    monkeypatch.setattr(loop, "row_loss", row_loss)
    stages = [stage(epochs=2), stage(batch_size=8, carry_on=True, warm_up=0.0)]
    run_experiment(small(stages=stages), noise, tmp_path, RunOptions(folds="0"))
    np.testing.assert_allclose([call.args[-1] for call in row_loss.call_args_list], [0, 1 / 3, 2 / 3, 1, 0])
