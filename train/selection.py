"""How the published runs chose their best weights, faults included (`selection = "as-published"`).

They scored the fold twice an epoch by the plain mean of batch means, in mosaic epochs on mosaics of the
validation images, and in the first epoch after mosaics every score counted as the best so far.
"""

import numpy as np
import torch
from torch import nn

from common.config import Experiment
from common.features import build_input
from common.metric import kl_divergence, vote_shares
from common.predict import predict
from common.training import Stage
from train.data.labels import select_rows
from train.loop import Epoch, FoldData, generator
from train.mixing import mix_images

PUBLISHED_BATCH = 32
MOSAICS = 99  # what is drawn, beside those of train.loop


def evaluates_after(batches: int, n_batches: int) -> bool:
    """Whether the published loop scored the fold after so many batches of an epoch of n_batches.

    It never met an epoch of one batch; that is scored at its end.
    """
    every = max(1, n_batches // 2 - 1)
    return (batches > 1 and (batches - 1) % every == 0) or batches == n_batches == 1


def forgets_best(stages: tuple[Stage, ...], epoch: Epoch) -> bool:
    """In the whole first epoch after mosaics, each score replaced the best one."""
    return epoch.stage > 0 and epoch.number == 0 and stages[epoch.stage - 1].augment.mosaic


def published_loss(model: nn.Module, data: FoldData, experiment: Experiment, epoch: Epoch, seed: int) -> float:
    """Mean over batches of 32 of each batch's mean KL, on the held-out rows that the stage would take."""
    stage = experiment.training.stages[epoch.stage]
    rows = data.validation
    own = select_rows(data.votes[rows], stage.rows)
    rows = rows[own] if own.any() else rows
    device = next(model.parameters()).device
    draws = generator(seed, epoch.stage, epoch.number, epoch.next_batch, MOSAICS)
    mosaic = stage.augment.model_copy(update={"cutmix": None, "mixup": None, "mask": None})
    means = []
    model.eval()
    for chosen, windows in data.windows.batches(rows, PUBLISHED_BATCH, device):
        target = torch.from_numpy(vote_shares(data.votes[chosen])).float().to(device)
        inputs = build_input(windows, experiment.input)
        n_votes = torch.ones(len(chosen), device=device)
        inputs, target, _ = mix_images(inputs, target, n_votes, mosaic, draws)
        known = target.double().cpu().numpy()
        known /= known.sum(axis=1, keepdims=True)
        means.append(kl_divergence(known, predict(model, inputs)).mean())
    return float(np.mean(means))
