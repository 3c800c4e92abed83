"""What moves the weights: optimizer, schedule, precision, averaged weights."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from common.strict import Strict

EMA_POWER = 3 / 4  # of the warm-up of averaged weights: a decay of 0.999 is reached after 10,000 steps
PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}


class OptimizerOptions(Strict):
    learning_rate: float = Field(default=1e-3, gt=0)  # the schedule's peak
    weight_decay: float = Field(default=1e-2, ge=0)
    beta: float = Field(default=0.9, ge=0, lt=1)  # AdamW's first; one-cycle moves it from 0.95 down to 0.85 and back
    # Each rises in the `warm_up` share of the steps from learning_rate / div_factor; the first two fall to that /
    # final_div_factor.
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.1
    div_factor: float = Field(default=25.0, ge=1)
    final_div_factor: float = Field(default=100.0, gt=0)
    clip_norm: float | None = Field(default=None, gt=0)  # largest norm of the gradient
    ema: float | None = Field(default=None, gt=0, lt=1)  # decay of averaged weights, which are then scored and kept

    @model_validator(mode="after")
    def rate_ends_below_the_peak(self) -> Self:
        if self.div_factor * self.final_div_factor < 1:
            raise ValueError(
                "learning_rate / (div_factor * final_div_factor) is the last rate: with "
                f"{self.div_factor} * {self.final_div_factor} it would be above the peak"
            )
        return self


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


def make_schedule(adamw: Optimizer, options: OptimizerOptions, steps: int) -> LRScheduler:
    """The learning rate over `steps` steps of the optimizer. One-cycle moves Adam's first beta, too."""
    warm_up = options.warm_up * steps
    if warm_up <= 1:  # no way up in less than a step
        warm_up = 0.0
    if options.schedule == "one-cycle":
        return OneCycleLR(
            adamw,
            max_lr=options.learning_rate,
            total_steps=steps,
            pct_start=warm_up / steps,
            div_factor=options.div_factor,
            final_div_factor=options.final_div_factor,
        )
    first = 1 / options.div_factor
    last = 1.0 if options.schedule == "constant" else first / options.final_div_factor

    def share_of_peak(step: int) -> float:
        if step < warm_up:
            return first + (1 - first) * step / warm_up
        progress = (step - warm_up) / max(1.0, steps - 1 - warm_up)
        return last + (1 - last) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2

    return LambdaLR(adamw, share_of_peak)


@dataclass
class ModelOptimizer:
    """What moves the weights of `model` in one stage, or in several that carry on."""

    model: nn.Module
    adamw: Optimizer
    schedule: LRScheduler
    scaler: torch.amp.GradScaler
    average: Any  # timm's ModelEmaV3, or None
    clip_norm: float | None
    updates: int = 0

    def step(self) -> None:
        """Move the weights by the gradients that backward passes of scaled losses left."""
        if self.clip_norm is not None:
            self.scaler.unscale_(self.adamw)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.scaler.step(self.adamw)
        self.scaler.update()
        self.adamw.zero_grad(set_to_none=True)
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
            "optimiser": self.adamw.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "updates": self.updates,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.adamw.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"]:  # empty where precision was another: a run may go on on another GPU
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.updates = state["updates"]


def make_optimizer(
    model: nn.Module, options: OptimizerOptions, steps: int, precision: torch.dtype | None
) -> ModelOptimizer:
    """AdamW with its schedule over `steps` steps, and gradient scaling for float16."""
    adamw = torch.optim.AdamW(
        model.parameters(),
        lr=options.learning_rate,
        betas=(options.beta, 0.999),
        weight_decay=options.weight_decay,
    )
    average = None
    if options.ema is not None:
        from timm.utils import ModelEmaV3  # here: timm takes seconds to import, and every config imports this module

        average = ModelEmaV3(model, decay=options.ema, use_warmup=True, warmup_power=EMA_POWER)
    return ModelOptimizer(
        model,
        adamw,
        make_schedule(adamw, options, steps),
        torch.amp.GradScaler(next(model.parameters()).device.type, enabled=precision is torch.float16),
        average,
        options.clip_norm,
    )
