"""What every kind of model input brings, in one file of its own: its config, its maker, what it is made from, its words
in the table of experiments, and its axes for pictures."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from common.strict import Strict

Size = tuple[Annotated[int, Field(ge=8, le=2048)], Annotated[int, Field(ge=8, le=2048)]]  # height, width
Join = Literal["beside", "below", "channels"]  # of images: along time, along frequency, or in depth
Side = Literal["beside", "below"]


@dataclass(frozen=True)
class Windows:
    """A batch of raw windows, NaN where missing. What a model does not look at may be None.

    eeg: (batch, 20, 10000) microvolts; spectrogram: (batch, 4, 100, 300) power.
    """

    eeg: Tensor | None
    spectrogram: Tensor | None


class Constants(Strict):
    """Fixed mean and deviation of log power."""

    mean: float
    deviation: float = Field(gt=0)


# ---- axes, for pictures


@dataclass(frozen=True)
class Maps:
    """Maps or waves of one size that stand in an image row by row, `across` in a row; across = 0: each is a channel.

    hertz: of the rows they are made with, lowest first; empty for waves. seconds: of their left and right edge, in the
    recording's window; of folded waves, in a row.
    """

    names: tuple[str, ...]
    hertz: tuple[float, ...]
    seconds: tuple[float, float]
    size: tuple[int, int]  # rows and columns of each
    across: int = 1
    copies: int = 1  # channels that show the same
    note: str = ""  # what else there is to say of the rows


@dataclass(frozen=True)
class ImageAxes:
    """An image of parts that are joined and then resized."""

    parts: tuple["Maps | ImageAxes", ...]
    join: Join
    resize: Size | None


@dataclass(frozen=True)
class SequenceAxes:
    """Signals (channels, time); with quality, behind them the missing, the flat and the clipped share of each."""

    names: tuple[str, ...]
    sfreq: int
    microvolts: float  # that are 1
    quality: bool


# ---- the base of all kinds


class Input(Strict):
    """A kind of model input. A new one is a file with a class like this, and a line in common/inputs/config.py."""

    form: ClassVar[Literal["image", "sequence"]] = "image"
    source: ClassVar[Literal["eeg", "spectrogram"]] = "eeg"  # what of Windows it is made from

    @property
    def singles(self) -> tuple["Input", ...]:
        """The inputs that it is joined from; of one that is not joined, itself."""
        return (self,)

    @property
    def wants_constants(self) -> bool:
        """Whether it is standardised by constants of the training rows that are yet to be measured."""
        return False

    def with_constants(self, measured: Iterator[Constants]) -> "Input":
        """This config with the next of `measured` for each single input that wants constants."""
        return self

    def statistics(self, window: Windows) -> tuple[float, float] | None:
        """Mean and deviation of one window, of which its constants are means; None when nothing is finite."""
        raise NotImplementedError(f"{type(self).__name__} has no constants to measure")

    def given(self, windows: Windows) -> Tensor:
        """What it is made from. Raises ValueError when the windows lack it."""
        raw = windows.eeg if self.source == "eeg" else windows.spectrogram
        if raw is None:
            name = "EEG" if self.source == "eeg" else self.source
            raise ValueError(f"{type(self).__name__} needs the {name}")
        return raw

    @abstractmethod
    def make(self, windows: Windows) -> Tensor:
        """The input of a group of windows, made at once: images (batch, channels, height, width) with the lowest
        frequency first in each panel, or sequences (batch, channels, time)."""

    @abstractmethod
    def describe(self) -> str:
        """In few words, for the table of experiments."""

    @abstractmethod
    def axes(self) -> ImageAxes | SequenceAxes:
        """What is where, for pictures."""


def needs_spectrogram(config: Input) -> bool:
    """Whether any of its images is made from the spectrogram."""
    return any(part.source == "spectrogram" for part in config.singles)


def needs_eeg(config: Input) -> bool:
    """Whether any of its images, or the sequence, is made from the EEG."""
    return any(part.source == "eeg" for part in config.singles)


def constants_wanted(config: Input) -> int:
    """How many images of a config are standardised by constants of the training rows."""
    return sum(part.wants_constants for part in config.singles)


def with_constants(config: Any, constants: tuple[Constants, ...]) -> Any:
    """The config with its measured constants, one for each image that wants them, in their order."""
    if len(constants) != constants_wanted(config):
        raise ValueError(f"{constants_wanted(config)} measured constants wanted, got {len(constants)}")
    return config.with_constants(iter(constants))
