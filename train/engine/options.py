"""What a run is told beside its experiment, as options of `python -m train run`. Nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from common.command_line import Count, Help

Store = Annotated[Path | None, Help("where the stored recordings are, or are put (default: COMPETITION/store)")]


@Parameter(name="*")  # each field is an option of its own
@dataclass(frozen=True)
class RunOptions:
    """None of these changes what one of the run's models becomes."""

    folds: Annotated[str, Help("all; some, as 0,1; full: one model of all rows; pairs: models for --pseudo")] = "all"
    seeds: Annotated[Count, Help("models of each")] = 1
    resume: Annotated[bool, Help("continue OUT/<config name>, or add folds and seeds to it")] = False
    pretrained: Annotated[Path | None, Help("backbone weights (safetensors, state dict) instead of timm's hub")] = None
    store: Store = None
    store_on_gpu: Annotated[bool, Help("copy the recordings to the GPU whole: no reading while training")] = False
    fold_table: Annotated[Path | None, Help("patient_id, fold (csv or parquet): other folds")] = None
    pseudo: Annotated[Path | None, Help("another run, whose models of --folds pairs make pseudo labels")] = None
    tensorboard: Annotated[bool, Help("also write TensorBoard's files to the run folder")] = False
    spread: Annotated[
        Literal["batches", "folds"], Help("under torchrun: share each batch, or share out the models")
    ] = "batches"
