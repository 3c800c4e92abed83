"""What moves the weights: optimiser, schedule, precision, averaged weights."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from common.training import Stage

EMA_POWER = 3 / 4  # of the warm-up of averaged weights: a decay of 0.999 is reached after 10,000 steps
PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}


def pick_precision(wanted: str, device: torch.device) -> torch.dtype | None:
    """The type that products of a net are computed in, None for float32 throughout.

    "auto": bfloat16 where the GPU computes in it (Ampere and later), float16 on older ones, which only
    imitate bfloat16, and float32 on the CPU, where half precision is an order of magnitude slower.
    """
    if wanted != "auto":
        return PRECISIONS[wanted]
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def make_schedule(optimiser: Optimizer, stage: Stage, steps: int) -> LRScheduler:
    """The learning rate over `steps` steps of the optimiser. One-cycle moves Adam's first beta, too."""
    warm_up = stage.warm_up * steps
    if warm_up <= 1 or stage.schedule == "never-stepped":  # no way up in less than a step, or without steps
        warm_up = 0.0
    if stage.schedule in ("one-cycle", "never-stepped"):
        return OneCycleLR(
            optimiser,
            max_lr=stage.learning_rate,
            total_steps=steps,
            pct_start=warm_up / steps,
            div_factor=stage.div_factor,
            final_div_factor=stage.final_div_factor,
        )
    first = 1 / stage.div_factor
    last = 1.0 if stage.schedule == "constant" else first / stage.final_div_factor

    def share_of_peak(step: int) -> float:
        if step < warm_up:
            return first + (1 - first) * step / warm_up
        progress = (step - warm_up) / max(1.0, steps - 1 - warm_up)
        return last + (1 - last) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2

    return LambdaLR(optimiser, share_of_peak)


@dataclass
class Optimisation:
    """What moves the weights of `model` in one stage, or in several that carry on."""

    model: nn.Module
    optimiser: Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler
    average: ModelEmaV3 | None
    stepped: bool  # False: the published runs made their schedule and never used it
    clip_norm: float | None
    updates: int = 0

    def step(self) -> None:
        """Move the weights by the gradients that backward passes of scaled losses left."""
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self.stepped:
            self.schedule.step()
        self.updates += 1
        if self.average is not None:
            self.average.update(self.model, step=self.updates)

    @property
    def scored(self) -> nn.Module:
        """The net that is scored and kept: the averaged one where there is one."""
        return self.model if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        return {
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "updates": self.updates,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"]:  # empty where precision was another: a run may go on on another GPU
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.updates = state["updates"]


def make_optimisation(model: nn.Module, stage: Stage, steps: int, precision: torch.dtype | None) -> Optimisation:
    """AdamW with the stage's schedule over `steps` steps, and gradient scaling for float16."""
    device = next(model.parameters()).device
    optimiser = torch.optim.AdamW(model.parameters(), lr=stage.learning_rate, weight_decay=stage.weight_decay)
    average = None
    if stage.ema is not None:
        average = ModelEmaV3(model, decay=stage.ema, use_warmup=True, warmup_power=EMA_POWER)
    return Optimisation(
        model,
        optimiser,
        make_schedule(optimiser, stage, steps),
        torch.amp.GradScaler(device.type, enabled=precision is torch.float16),
        average,
        stepped=stage.schedule != "never-stepped",
        clip_norm=stage.clip_norm,
    )
