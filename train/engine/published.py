"""All that brings back the faults of the published runs; nothing else in training knows of them.

A config states the corrected recipe, and in [published] which faults the run behind the published figures had.
`run --as-published` changes them back: most are other values of plain options. How the published runs chose their
best weights is a Selection of its own: they scored the fold twice an epoch by the plain mean of batch means, in mosaic
epochs on mosaics of the validation images, and in the first epoch after mosaics every score counted as the best so far.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from common.inputs.build import build_input
from common.metric import kl_divergence, vote_shares
from common.predict import predict
from common.strict import ConfigError
from train.augment.mixing import mix_images
from train.data.labels import select_rows
from train.engine.loop import generator
from train.engine.state import Epoch, Selection, TrainState
from train.experiment import Bug, Experiment, parse_experiment

SUFFIX = "-as-published"
BATCH = 32
MOSAICS = 99  # what is drawn, beside those of train.engine.loop

# ---- the config


def bring_back(bug: Bug, values: dict[str, Any]) -> bool:
    """Change a config's values to those of a published fault; False where there is nothing to change."""
    training, image = values["training"], values["input"]
    stages = training["stages"]
    match bug:
        case "schedule":  # the one-cycle was made and never stepped: rate and first beta stayed where it had set them
            changed = stages
            for stage in stages:
                stage |= {"schedule": "constant", "warm_up": 0.0, "beta": 0.85}
        case "cutmix-axis":  # bands of frequency were exchanged where time was meant
            changed = [stage["augment"]["cutmix"] for stage in stages if stage["augment"]["cutmix"]]
            for cutmix in changed:
                cutmix["axis"] = "frequency"
        case "selection":  # the best of many looks at the fold was kept, scored and, in two stages, trained on
            changed = stages
            training |= {"selection": "as-published", "checkpoint": "best"}
            for stage in stages[1:]:
                stage["start"] = "last" if stage["carry_on"] else "best"
        case "stat-constants":  # constants of features before the logarithm standardised the panels after it
            changed = [key for key in ("standardise", "standardise_features") if image.get(key) == "training"]
            image |= dict.fromkeys(changed, "stat")
        case "middle-window":  # half-way between the first and the last of a row's windows, where few experts looked
            changed = [training]
            training["window"] = "middle"
    return bool(changed)


def as_published(experiment: Experiment) -> Experiment:
    """The experiment NAME-as-published, with the faults that its config lists.

    Raises ConfigError when it lists none, or one that it has nothing to do with.
    """
    published = experiment.published
    if not published or not published.bugs:
        raise ConfigError(
            f"{experiment.name}: its [published] lists no bugs, so it has no other flavour; train it as it is"
        )
    values = experiment.model_dump()
    values["name"] += SUFFIX
    for bug in published.bugs:
        if not bring_back(bug, values):
            raise ConfigError(f"{experiment.name}: published.bugs names {bug!r}, which nothing in this config corrects")
    values["published"]["bugs"] = ()  # this flavour corrects none
    return parse_experiment(values, values["name"])


# ---- which weights were the best


class PublishedSelection(Selection):
    passes = 4  # two scores an epoch, each after the honest one

    def scores_after(self, batches: int, n_batches: int) -> bool:
        """The published loop never met an epoch of one batch; that is scored at its end."""
        every = max(1, n_batches // 2 - 1)
        return (batches > 1 and (batches - 1) % every == 0) or batches == n_batches == 1

    def is_best(self, state: TrainState, epoch: Epoch, score: float) -> bool:
        """In the whole first epoch after mosaics, each score replaced the best one."""
        after_mosaics = epoch.stage > 0 and epoch.number == 0 and state.stages[epoch.stage - 1].augment.mosaic
        return score < state.best or after_mosaics

    def score(self, state: TrainState, model: nn.Module, epoch: Epoch, kl: np.ndarray) -> float:
        """Mean over batches of 32 of each batch's mean KL, on the held-out rows that the stage would take."""
        data, stage, rows = state.data, state.stages[epoch.stage], state.data.validation
        own = select_rows(data.votes[rows], stage.rows)
        rows = rows[own] if own.any() else rows
        device = next(model.parameters()).device
        draws = generator(state.seed, epoch.stage, epoch.number, epoch.next_batch, MOSAICS)
        mosaic = stage.augment.model_copy(update={"cutmix": None, "mixup": None, "mask": None})
        means = []
        model.eval()
        for chosen, windows in data.windows.batches(rows, BATCH, device):
            target = torch.from_numpy(vote_shares(data.votes[chosen])).float().to(device)
            inputs = build_input(windows, state.experiment.input)
            inputs, target, _ = mix_images(inputs, target, torch.ones(len(chosen), device=device), mosaic, draws)
            known = target.double().cpu().numpy()
            known /= known.sum(axis=1, keepdims=True)
            means.append(kl_divergence(known, predict(model, inputs)).mean())
        return float(np.mean(means))


SELECTIONS = {"fixed": Selection(), "as-published": PublishedSelection()}  # by training.selection
