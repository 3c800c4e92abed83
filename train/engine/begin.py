"""How a model begins: its seed, its first weights, the constants of its training rows."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.layers import convert_sync_batchnorm

from common.files import sha256_of, write_json
from common.inputs.base import Constants, constants_wanted, with_constants
from common.models.build import build_model
from common.schema import REGIONS
from train.data.constants import measure_constants
from train.engine.distributed import Distributed
from train.engine.optim import pick_precision
from train.engine.plan import RunOptions
from train.engine.pretrained import initialise
from train.engine.pseudo_labels import PseudoLabels
from train.engine.published import SELECTIONS
from train.engine.run_folder import CONFIG, FOLD, STATE, FoldModel, RunError
from train.engine.state import FoldData, TrainState
from train.experiment import Experiment

MEASURED_AT_ONCE = 64  # windows
VERSIONED = ("torch", "timm", "numpy", "polars", "scipy", "scikit-learn")


def seed_of_model(experiment: Experiment, model: FoldModel) -> int:
    first, second = (*(fold + 1 for fold in model.held_out), 0, 0)[:2]
    numbers = (experiment.training.seed, model.seed, first, second, 1)
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def training_constants(experiment: Experiment, data: FoldData) -> tuple[Constants, ...]:
    """Constants of the training rows, as many as the input asks for. Raises RunError."""
    if not constants_wanted(experiment.input):
        return ()
    batches = data.windows.batches(data.train, MEASURED_AT_ONCE, torch.device("cpu"))
    try:
        return measure_constants(experiment.input, (windows for _, windows in batches))
    except ValueError as error:
        raise RunError(f"{experiment.name}: {error}") from error


def begin(
    experiment: Experiment,
    data: FoldData,
    run: Path,
    model: FoldModel,
    distributed: Distributed,
    options: RunOptions,
    pseudo: PseudoLabels | None,
) -> TrainState:
    """A net with its first weights and measured constants; a continued one has the constants in its folder."""
    folder, seed = run / model.name, seed_of_model(experiment, model)
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    net = build_model(experiment)
    if (folder / STATE).is_file():
        known = json.loads((folder / FOLD).read_text(encoding="utf-8"))["constants"]
        constants = tuple(Constants.model_validate(values) for values in known)
        distributed.say(f"{folder.name}: continued")
    else:
        initialised = initialise(net, experiment, options.pretrained)
        constants = training_constants(experiment, data)
        distributed.say(f"{folder.name}: first weights: {initialised}")
        if distributed.is_main:
            facts = {
                "member": [folder.name, sha256_of(run / CONFIG)],
                "initialised": initialised,
                "regions": REGIONS,
                "versions": {name: version(name) for name in VERSIONED},
                "constants": [values.model_dump() for values in constants],
                "train_rows": len(data.train),
                "pseudo": None if pseudo is None else pseudo.record(),
            }
            write_json(folder / FOLD, facts)
    if distributed.device.type == "cuda":
        net = (convert_sync_batchnorm(net) if distributed.size > 1 else net).to(distributed.device)
    return TrainState(
        experiment.model_copy(update={"input": with_constants(experiment.input, constants)}),
        data,
        net.to(memory_format=torch.channels_last),
        folder,
        seed,
        f"{experiment.name} {model.name}",
        distributed,
        pick_precision(experiment.training.precision, distributed.device),
        SELECTIONS[experiment.training.selection],
        board=open_board(folder) if options.tensorboard and distributed.is_main else None,
    )


def open_board(folder: Path) -> Any:
    """A TensorBoard writer; the package may be missing."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
