"""How an experiment is trained: its label rows, stages, losses, augmentation and optimisation, as configs.

Sources: the seed repository's notebooks (losses by votes, CutMix, mosaic, two stages) and what the strongest
solutions did to the signal (mirror, silenced and narrowed channels, shifted windows).
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.strict import Strict

Chance = Annotated[float, Field(ge=0, le=1)]

# ---- which rows


class RowSelection(Strict):
    """The label rows of a stage, by their number of votes N."""

    min_votes: int = Field(default=1, ge=1)
    max_votes: int | None = Field(default=None, ge=1)
    at_min: Literal["all", "unanimous"] = "all"  # of the rows with exactly min_votes, all or those of one mind
    at_max: Literal["all", "divided"] = "all"  # of the rows with exactly max_votes, all or the others

    @model_validator(mode="after")
    def bounds_in_order(self) -> Self:
        if self.max_votes is None and self.at_max != "all":
            raise ValueError("at_max says which rows of exactly max_votes are taken: give max_votes too")
        if self.max_votes is not None and self.max_votes < self.min_votes:
            raise ValueError(f"max_votes = {self.max_votes} is below min_votes = {self.min_votes}")
        return self


# ---- augmentation of the signal, before the model's input is made


class DropElectrodes(Strict):
    """Some electrodes are missing, as NaN."""

    chance: Chance = 0.5  # of a window
    most: int = Field(default=4, ge=1, le=19)  # 1 to so many electrodes


class NarrowBand(Strict):
    """Some electrodes pass only a part of the band."""

    chance: Chance = 0.2  # of a window
    most: int = Field(default=8, ge=1, le=19)  # 1 to so many electrodes
    low: float = Field(default=2.0, ge=0.5, le=5)  # Hz; the lower edge lies between 0.5 Hz and here
    high: float = Field(default=10.0, ge=6, le=40)  # Hz; the upper edge lies between here and 20 Hz (or here, if above)


class RandomGaps(Strict):
    """A stretch of some electrodes is missing, as NaN."""

    chance: Chance = 0.2  # of a window
    most: int = Field(default=4, ge=1, le=19)  # 1 to so many electrodes
    seconds: float = Field(default=5.0, gt=0, le=50)  # the longest stretch


class MixUp(Strict):
    """Windows blended with others of the batch, and their votes likewise: lambda from Beta(alpha, alpha)."""

    chance: Chance = 1.0  # of a batch
    alpha: float = Field(default=0.4, gt=0, le=10)
    of: Literal["signal", "image"] = "image"  # raw windows (microvolts, power), or finished model input


# ---- augmentation of the model's input


class CutMix(Strict):
    """Bands exchanged between images of the same class; their votes stay. As published, with the axis right."""

    chance: Chance = 0.4  # of a batch
    threshold: float = Field(default=0.5, gt=0, le=1)  # share of votes that makes a row one of a class
    margin: int = Field(default=50, ge=0)  # a band starts in so many steps at either end
    smallest: int = Field(default=25, ge=1)  # steps
    largest: int = Field(default=75, ge=1)
    length: int = Field(default=300, ge=1)  # steps of the axis from which bands are drawn
    second_cut: bool = False  # the same band again `length` steps later: in the image's other half
    axis: Literal["time", "frequency"] = "time"  # the published runs cut frequency where time was meant

    @model_validator(mode="after")
    def band_fits(self) -> Self:
        if not self.smallest <= self.largest <= self.length - self.margin:
            raise ValueError(
                f"bands of {self.smallest} to {self.largest} steps with margin = {self.margin} do not fit {self.length}"
            )
        return self


class XYMask(Strict):
    """Bands of time and of frequency set to 0, the mean of a standardised image."""

    chance: Chance = 0.5  # of an image
    time_masks: int = Field(default=2, ge=0)
    time_share: float = Field(default=0.1, gt=0, le=1)  # of the width, at most
    frequency_masks: int = Field(default=2, ge=0)
    frequency_share: float = Field(default=0.05, gt=0, le=1)  # of the height, at most


class Augment(Strict):
    """What is changed at random while training. Each is a chance, or a table; absent: never."""

    # the window's place
    shift: float = Field(default=0.0, ge=0, le=20)  # seconds; windows start up to so much earlier or later
    any_window: bool = False  # any of the windows that experts labelled with the row's votes, not always the same
    # the signal
    mirror: Chance = 0.0  # of exchanging the hemispheres
    swap_chains: Chance = 0.0  # of exchanging the lateral and the parasagittal chain, each side by itself
    reverse: Chance = 0.0  # of time running backwards
    drop_electrodes: DropElectrodes | None = None
    narrow_band: NarrowBand | None = None
    gaps: RandomGaps | None = None
    mixup: MixUp | None = None
    # the model's input
    cutmix: CutMix | None = None
    mosaic: bool = False  # every image four others of the batch side by side, each thinned to a quarter of its time
    mask: XYMask | None = None


# ---- stages


class FewVotes(Strict):
    """Rows with few votes count less and less while a stage goes on."""

    below: int = Field(default=10, ge=2)  # votes
    first: float = Field(default=1.0, ge=0)  # weight of such rows at the stage's first step ...
    last: float = Field(default=0.0, ge=0)  # ... and at its last, linear in between


# Weight of a row with N votes: 1; ln(N + 1); min(N, 10); N to 10 votes, then slower; N / 20.
LossName = Literal["kl", "vote-log", "xloss", "modified", "vote-share"]


class Stage(Strict):
    """One stretch of training; a later stage starts from the weights of the one before."""

    epochs: int = Field(default=6, ge=1)
    rows: RowSelection = RowSelection()
    augment: Augment = Augment()
    loss: LossName = "kl"
    smoothing: float = Field(default=0.0, ge=0, le=10)  # votes added to every class: few votes are smoothed more
    few_votes: FewVotes | None = None
    pseudo: Chance = 0.0  # share of pseudo labels in the targets of rows below pseudo_below votes
    pseudo_below: int = Field(default=10, ge=2)
    batch_size: int = Field(default=32, ge=1)
    accumulate: int = Field(default=1, ge=1)  # batches for one step of the optimiser
    learning_rate: float = Field(default=1e-3, gt=0)  # the schedule's peak
    weight_decay: float = Field(default=1e-2, ge=0)
    # Of one-cycle, cosine and constant each rises in the `warm_up` share of the steps from learning_rate /
    # div_factor; the first two fall to that / final_div_factor. "never-stepped" is the published runs' bug.
    schedule: Literal["one-cycle", "cosine", "constant", "never-stepped"] = "one-cycle"
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.1
    div_factor: float = Field(default=25.0, ge=1)
    final_div_factor: float = Field(default=100.0, gt=0)
    clip_norm: float | None = Field(default=None, gt=0)  # largest norm of the gradient
    ema: float | None = Field(default=None, gt=0, lt=1)  # decay of averaged weights, which are then scored and kept
    carry_on: bool = False  # optimiser and schedule of the stage before go on, and span both
    start: Literal["last", "best"] = "last"  # which weights of the stage before


OPTIMISER_KEYS = (
    *("learning_rate", "weight_decay", "schedule", "warm_up", "div_factor", "final_div_factor", "clip_norm", "ema"),
)


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
    # How "best" is chosen: by the mean over rows after each epoch; or with the published faults: twice an
    # epoch, by the mean of batch means, on mosaics after a mosaic epoch, and forgetting the best once.
    selection: Literal["fixed", "as-published"] = "fixed"
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (Stage(),)

    @model_validator(mode="after")
    def rates_end_below_the_peak(self) -> Self:
        for number, stage in enumerate(self.stages):
            if stage.div_factor * stage.final_div_factor < 1:
                raise ValueError(
                    f"stages.{number}: learning_rate / (div_factor * final_div_factor) is the last rate: with "
                    f"{stage.div_factor} * {stage.final_div_factor} it would be above the peak"
                )
        return self

    @model_validator(mode="after")
    def stages_follow_each_other(self) -> Self:
        first = self.stages[0]
        if first.carry_on or first.start != "last":
            raise ValueError("stages.0: carry_on and start speak of the stage before; the first has none")
        for number, (before, stage) in enumerate(zip(self.stages, self.stages[1:], strict=False), start=1):
            for key in OPTIMISER_KEYS if stage.carry_on else ():
                if getattr(stage, key) != getattr(before, key):
                    raise ValueError(
                        f"stages.{number}: carry_on: the optimiser of the stage before goes on with {key} = "
                        f"{getattr(before, key)}; repeat it here, or leave carry_on out"
                    )
            if stage.carry_on and stage.start != "last":
                raise ValueError(f"stages.{number}: carry_on goes on from the last weights: leave start out")
        if self.selection == "as-published" and any(stage.accumulate > 1 for stage in self.stages):
            raise ValueError("selection = 'as-published' counts batches: accumulate must be 1")
        return self


Bug = Literal["schedule", "cutmix-axis", "selection", "stat-constants", "middle-window"]


class Published(Strict):
    """What others reported of this experiment, for the table of experiments. Nothing is trained by it."""

    source: str
    cv: float | None = None  # KL, out of fold, best checkpoint: optimistic
    rows: str = "all label rows"  # which `cv` was read on
    leaderboard: float | None = None  # public, if not said otherwise in `note`
    note: str = ""
    # Faults of the published run that this config mends; `run --as-published` brings them back.
    bugs: tuple[Bug, ...] = ()
