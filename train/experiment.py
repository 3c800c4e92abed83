"""An experiment: a recipe, and how it is trained, as a config.

Written as TOML in train/configs, where a file says what differs from the defaults here and why. The options of
augmentation, losses and the optimizer stand beside what they configure.

Sources: the seed repository's notebooks (losses by votes, CutMix, mosaic, two stages) and what the strongest
solutions did to the signal (mirror, silenced and narrowed channels, shifted windows).
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from common.blend import Published
from common.inputs.base import needs_eeg
from common.recipe import Recipe, parse_recipe
from common.strict import ConfigError, Strict
from train.augment.mixing import OF_IMAGES, MixingAugment
from train.augment.signal import OF_EEG, Chance, SignalAugment
from train.data.row_selection import RowSelection
from train.engine.losses import LossOptions
from train.engine.optim import OptimizerOptions


class Augment(MixingAugment, SignalAugment):
    """What is changed at random while training. Each is a chance, or a table; absent: never."""


class Stage(LossOptions, OptimizerOptions):
    """One stretch of training; a later stage starts from the weights of the one before."""

    epochs: int = Field(default=6, ge=1)
    rows: RowSelection = RowSelection()
    augment: Augment = Augment()
    pseudo: Chance = 0.0  # share of pseudo labels in the targets of rows below pseudo_below votes
    pseudo_below: int = Field(default=10, ge=2)
    batch_size: int = Field(default=32, ge=1)
    accumulate: int = Field(default=1, ge=1)  # batches for one step of the optimizer
    carry_on: bool = False  # optimizer and schedule of the stage before go on, and span both
    start: Literal["last", "best"] = "last"  # which weights of the stage before


class Training(Strict):
    # Label rows: one for each vote vector of an EEG, one for each EEG, one for each window. Or rows by votes of which
    # every epoch takes one labelled window of each EEG, or of each stretch of equal votes, with that window's votes.
    labels: Literal["votes", "eeg", "window", "one-per-eeg", "one-per-stretch"] = "votes"
    # Where a row's window lies: the labelled one nearest to the middle of its windows, or that middle, as published.
    window: Literal["labelled", "middle"] = "labelled"
    folds: int = Field(default=5, ge=2)
    seed: int = Field(default=42, ge=0, lt=2**31)
    # "auto": what the device does well: bfloat16 from Ampere on, float16 on older GPUs, float32 on the CPU.
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    # "last" is honest; "best" is chosen on the fold that scores it, and every table labels it so.
    checkpoint: Literal["last", "best"] = "last"
    # How "best" is chosen: by the mean over rows after each epoch, or as train/engine/published.py says.
    selection: Literal["fixed", "as-published"] = "fixed"
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (Stage(),)

    @model_validator(mode="after")
    def stages_follow_each_other(self) -> Self:
        first = self.stages[0]
        if first.carry_on or first.start != "last":
            raise ValueError("stages.0: carry_on and start speak of the stage before; the first has none")
        for number, (before, stage) in enumerate(zip(self.stages, self.stages[1:], strict=False), start=1):
            for key in OptimizerOptions.model_fields if stage.carry_on else ():
                if getattr(stage, key) != getattr(before, key):
                    raise ValueError(
                        f"stages.{number}: carry_on: the optimizer of the stage before goes on with {key} = "
                        f"{getattr(before, key)}; repeat it here, or leave carry_on out"
                    )
            if stage.carry_on and stage.start != "last":
                raise ValueError(f"stages.{number}: carry_on goes on from the last weights: leave start out")
        if self.selection == "as-published" and any(stage.accumulate > 1 for stage in self.stages):
            raise ValueError("selection = 'as-published' counts batches: accumulate must be 1")
        return self


Bug = Literal["schedule", "cutmix-axis", "selection", "stat-constants", "middle-window"]


class PublishedRun(Published):
    # Faults of the published run that this config corrects; `run --as-published` brings them back.
    bugs: tuple[Bug, ...] = ()


class Experiment(Recipe):
    training: Training = Training()
    published: PublishedRun | None = None

    @model_validator(mode="after")
    def augmentation_fits_input(self) -> Self:
        for number, stage in enumerate(self.training.stages):
            used = {name for name, value in stage.augment if value}
            if self.input.form == "sequence" and (lost := used & set(OF_IMAGES)):
                raise ValueError(f"stages.{number}: augment.{min(lost)} changes images, the input is a sequence")
            if not needs_eeg(self.input) and (lost := used & set(OF_EEG)):
                raise ValueError(f"stages.{number}: augment.{min(lost)} changes the EEG, which the input does not see")
        return self

    @property
    def recipe(self) -> Recipe:
        """What travels with the weights."""
        return Recipe(name=self.name, input=self.input, model=self.model)


def parse_experiment(values: dict[str, Any], source: str) -> Experiment:
    """Checked values to an Experiment. Raises ConfigError; `source` names them in its message."""
    return parse_recipe(values, source, Experiment)


def load_experiment(path: Path) -> Experiment:
    """An experiment from its TOML file, named after it. Raises ConfigError."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path.name}: {error}") from error
    if "name" in values:
        raise ConfigError(f"{path.name}: the name is the file's; remove the key 'name'")
    return parse_experiment({"name": path.stem, **values}, path.name)
