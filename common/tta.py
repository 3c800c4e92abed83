"""Test-time augmentation (TTA) as config: the views of a recording whose answers are averaged."""

from typing import Self

from pydantic import Field, model_validator

from common.schema import SPECTROGRAM_STEP_SECONDS
from common.strict import Strict


class View(Strict):
    """A change of a recording that leaves its answer as it was. Each view costs what the plain one costs."""

    mirror: bool = False  # left and right hemisphere exchanged
    shift: float = Field(default=0.0, ge=-20, le=20)  # seconds; the window so much later, as far as training may shift

    @model_validator(mode="after")
    def moves_whole_columns(self) -> Self:
        if self.shift % SPECTROGRAM_STEP_SECONDS:
            raise ValueError(f"shift = {self.shift:g}: a spectrogram's columns are {SPECTROGRAM_STEP_SECONDS} s apart")
        return self

    def __str__(self) -> str:
        parts = ["mirror"] if self.mirror else []
        parts += [f"{self.shift:+g} s"] if self.shift else []
        return " ".join(parts) or "plain"


PLAIN = View()
