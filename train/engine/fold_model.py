"""One model of a run: its first weights, its stages, its scores, its predictions of the rows it never saw."""

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn
from tqdm import tqdm

from common.files import sha256_of, write_json
from common.inputs.base import Constants, constants_wanted, with_constants
from common.metric import kl_divergence, vote_shares
from common.models.build import build_model
from common.schema import MANY_VOTES, REGIONS, VOTES
from train.data.constants import measure_constants
from train.data.labels import vote_totals
from train.engine.checkpoint import (
    best_of_stage,
    load_state,
    load_weights_into,
    open_board,
    save_state,
    save_weights,
    write_log,
    write_whole,
)
from train.engine.distributed import Distributed
from train.engine.loop import ORDER, generator, predict_rows, train_epoch
from train.engine.optim import ModelOptimizer, make_optimizer, pick_precision
from train.engine.options import RunOptions
from train.engine.pretrained import initialise
from train.engine.pseudo_labels import PseudoLabels
from train.engine.published import SELECTIONS
from train.engine.run_folder import BEST, CONFIG, FOLD, LAST, OOF, STATE, FoldModel, RunError, probability_columns
from train.engine.state import Epoch, FoldData, TrainState
from train.experiment import Experiment

MEASURED_AT_ONCE = 64  # windows
SECONDS_BETWEEN_SAVES = 600.0  # within an epoch
VERSIONED = ("torch", "timm", "numpy", "polars", "scipy", "scikit-learn")

# ---- first weights


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


# ---- scores while training


def evaluate(state: TrainState, optimizer: ModelOptimizer, epoch: Epoch, started: float) -> None:
    """Score the net on the rows held out, log it, keep it when it is the best yet."""
    epoch.read_losses(state.data.label_ids)
    n_rows = sum(state.distributed.gather(epoch.rows))
    line: dict[str, Any] = {
        "stage": epoch.stage,
        "epoch": epoch.number,
        "batches": epoch.next_batch,
        "train_loss": sum(state.distributed.gather(epoch.loss)) / n_rows,
        "validation_kl": None,
        "validation_kl_many": None,
        "selected_by": None,
        "learning_rate": float(optimizer.adamw.param_groups[0]["lr"]),
        "seconds": 0.0,
    }
    if len(state.data.validation):
        kl = validation_kl(state, optimizer.scored)
        many = vote_totals(state.data.votes[state.data.validation]) >= MANY_VOTES
        line["validation_kl"] = float(kl.mean())
        line["validation_kl_many"] = float(kl[many].mean()) if many.any() else None
        line["selected_by"] = score = state.selection.score(state, optimizer.scored, epoch, kl)
        if state.selection.is_best(state, epoch, score):
            state.best = score
            if state.distributed.is_main:
                save_weights(optimizer.scored, best_of_stage(state.folder, state.first_stage(epoch.stage)))
    line["seconds"] = round(time.monotonic() - started, 2)
    write_log(state, line)


def validation_kl(state: TrainState, net: nn.Module) -> np.ndarray:
    """The KL of each row held out. Raises RunError when one is not finite."""
    data, rows = state.data, state.data.validation
    state.distributed.share_buffers(net)
    predictions = predict_rows(net, data, rows, state.experiment, state.distributed)
    kl = kl_divergence(vote_shares(data.votes[rows]), predictions)
    if not np.isfinite(kl).all():
        labels = data.label_ids[rows[~np.isfinite(kl)]].tolist()
        raise RunError(f"no finite prediction for label_id {labels[:20]}: lower the learning rate")
    return kl


# ---- stages


def train_stage(state: TrainState, net: nn.Module, optimizer: ModelOptimizer, epoch: Epoch, bar: tqdm) -> None:
    """What is left of a stage, from `epoch` on; a state is saved after every epoch and, alone, every ten minutes."""
    stage, rows, n_batches = state.stages[epoch.stage], state.rows_of(epoch.stage), state.batches_of(epoch.stage)
    while epoch.number < stage.epochs:
        started, before = time.monotonic(), epoch.next_batch
        draws = generator(state.seed, epoch.stage, epoch.number, 0, ORDER)
        samples = state.data.sampler.draw(rows, stage.augment.any_window, draws)
        for _ in train_epoch(net, state, samples, epoch, optimizer):
            bar.update(epoch.next_batch - before)
            before = epoch.next_batch
            if state.selection.scores_after(before, n_batches):
                evaluate(state, optimizer, epoch, started)
                bar.set_postfix(train=f"{state.history[-1]['train_loss']:.3f}", refresh=False)
            elif state.distributed.size == 1 and time.monotonic() - state.saved > SECONDS_BETWEEN_SAVES:
                save_state(state, optimizer, epoch)
        epoch = Epoch(epoch.stage, epoch.number + 1)
        save_state(state, optimizer, epoch)


def optimizer_of_stage(state: TrainState, number: int, before: ModelOptimizer | None) -> ModelOptimizer:
    """The optimizer that a stage begins with: the one at work, or a new one on the weights that it starts from."""
    stage = state.stages[number]
    if stage.carry_on and before is not None:
        if stage.rows != state.stages[number - 1].rows:
            state.best = float("inf")  # scores on other rows do not compare
        return before
    if stage.start == "best" and len(state.data.validation):
        state.distributed.barrier()  # the file must be there
        load_weights_into(state.model, best_of_stage(state.folder, state.first_stage(number - 1)))
    elif before is not None and before.average is not None:
        state.model.load_state_dict(before.average.module.state_dict())
    state.best = float("inf")
    return make_optimizer(state.model, stage, state.steps_from(number), state.precision)


def train_stages(state: TrainState) -> None:
    """Train a model through all stages and leave LAST, BEST (where rows are held out) and LOG in its folder.

    A state file of an interrupted run in the folder is continued.
    """
    optimizer, epoch = load_state(state) if (state.folder / STATE).is_file() else (None, Epoch(0, 0))
    net = state.distributed.wrap(state.model)
    batches = [state.batches_of(k) for k in range(len(state.stages))]
    in_stage = [stage.epochs * size for stage, size in zip(state.stages, batches, strict=True)]
    done = sum(in_stage[: epoch.stage]) + epoch.number * batches[epoch.stage] + epoch.next_batch
    quiet = not state.distributed.is_main
    with tqdm(total=sum(in_stage), initial=done, desc=state.title, unit="batch", disable=quiet) as bar:
        for number in range(epoch.stage, len(state.stages)):
            if optimizer is None or number > epoch.stage:
                optimizer, epoch = optimizer_of_stage(state, number, optimizer), Epoch(number, 0)
            train_stage(state, net, optimizer, epoch, bar)
    assert optimizer is not None
    if not all(values.isfinite().all() for values in optimizer.scored.state_dict().values()):
        raise RunError(f"{state.title}: weights are not numbers after the last step: lower learning_rate")
    if state.distributed.is_main:
        best = best_of_stage(state.folder, state.first_stage(len(state.stages) - 1))
        if best.is_file():
            best.replace(state.folder / BEST)
        save_weights(optimizer.scored, state.folder / LAST)
        for left in state.folder.glob(best_of_stage(Path(), "*").name):  # of stages before: nothing needs them now
            left.unlink()
    state.distributed.barrier()  # the files must be there


def finish(state: TrainState, rows: pl.DataFrame) -> None:
    """Out-of-fold predictions of both checkpoints, in one table; then the state goes, as the last thing."""
    folder, held_out = state.folder, state.data.validation
    if len(held_out):
        table = rows[held_out.tolist()].select(
            "label_id", "eeg_id", "spectrogram_id", "patient_id", "fold", *VOTES, "total_votes"
        )
        for checkpoint, file in (("last", LAST), ("best", BEST)):
            load_weights_into(state.model, folder / file)
            predictions = predict_rows(state.model, state.data, held_out, state.experiment, state.distributed)
            names = probability_columns(checkpoint)
            table = table.with_columns(pl.Series(name, predictions[:, k]) for k, name in enumerate(names))
        if state.distributed.is_main:
            write_whole(folder / OOF, table.write_parquet)
    if state.distributed.is_main:
        known = json.loads((folder / FOLD).read_text(encoding="utf-8"))
        written = [folder / name for name in (LAST, BEST) if (folder / name).is_file()]
        write_json(folder / FOLD, known | {"weights_sha256": {path.name: sha256_of(path) for path in written}})
        (folder / STATE).unlink(missing_ok=True)
    if state.board is not None:
        state.board.close()
    state.distributed.barrier()


def train_model(
    experiment: Experiment,
    data: FoldData,
    rows: pl.DataFrame,
    run: Path,
    model: FoldModel,
    distributed: Distributed,
    options: RunOptions,
    pseudo: PseudoLabels | None,
) -> None:
    """Train one model, or what is left of it, and write its out-of-fold predictions."""
    state = begin(experiment, data, run, model, distributed, options, pseudo)
    train_stages(state)
    finish(state, rows)
