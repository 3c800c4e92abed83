"""Losses of label rows by their votes. Source: the seed repository's notebooks and the strongest solutions."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from common.strict import Strict

# Weight of a row with N votes: 1; ln(N + 1); min(N, 10); N to 10 votes, then slower; N / 20.
LossName = Literal["kl", "vote-log", "xloss", "modified", "vote-share"]
FULL_WEIGHT = 10  # votes up to which "xloss" and "modified" weigh a row by their number
PANEL = 20  # votes of a large panel: weight 1 by "vote-share"


class FewVotes(Strict):
    """Rows with few votes count less and less while a stage goes on."""

    below: int = Field(default=10, ge=2)  # votes
    first: float = Field(default=1.0, ge=0)  # weight of such rows at the stage's first step ...
    last: float = Field(default=0.0, ge=0)  # ... and at its last, linear in between


class LossOptions(Strict):
    loss: LossName = "kl"
    smoothing: float = Field(default=0.0, ge=0, le=10)  # votes added to every class: few votes are smoothed more
    few_votes: FewVotes | None = None


def kl_loss(logits: Tensor, target: Tensor) -> Tensor:
    """KL(target || softmax(logits)) of each row, (batch,). 0 ln 0 = 0."""
    return (torch.xlogy(target, target) - target * logits.log_softmax(dim=1)).sum(dim=1)


def soft_target(votes: Tensor, smoothing: float) -> Tensor:
    """Vote counts (batch, 6) to shares (v + s) / (N + 6 s): the fewer votes, the closer to uniform."""
    smoothed = votes + smoothing
    return smoothed / smoothed.sum(dim=1, keepdim=True)


def vote_weight(n_votes: Tensor, loss: LossName) -> Tensor:
    """Weight (batch,) of rows with n_votes (batch,) votes; not normalised, as published."""
    match loss:
        case "kl":
            return torch.ones_like(n_votes)
        case "vote-log":
            return torch.log(n_votes + 1)
        case "xloss":
            return n_votes.clamp(max=FULL_WEIGHT)
        case "modified":
            # It jumps from 10 at 10 votes to 12.6 at 11; half-way, a rounding error of N is on the right side.
            digits = torch.log10(n_votes)
            return torch.where(n_votes < FULL_WEIGHT + 0.5, n_votes, (10 + 2 * digits) * digits)
        case "vote-share":
            return n_votes / PANEL


def few_votes_weight(n_votes: Tensor, few: FewVotes, progress: float) -> Tensor:
    """Weight (batch,) after the share `progress` (0 to 1) of a stage: few.first to few.last for few votes, else 1."""
    now = few.first + (few.last - few.first) * progress
    return torch.where(n_votes < few.below - 0.5, now, 1.0).to(n_votes.dtype)  # N is whole but for rounding


def row_loss(logits: Tensor, target: Tensor, n_votes: Tensor, options: LossOptions, progress: float) -> Tensor:
    """A stage's loss of each row, (batch,). Its plain mean is minimised: the weights' sum does not divide it.

    logits, target: (batch, 6), the target's rows summing to 1; n_votes: (batch,), of a float type.
    """
    loss = kl_loss(logits, target) * vote_weight(n_votes, options.loss)
    if options.few_votes is not None:
        loss = loss * few_votes_weight(n_votes, options.few_votes, progress)
    return loss
