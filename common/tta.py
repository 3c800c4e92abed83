"""Views as configs: the same recording looked at again, mirrored or a little later, and the answers averaged."""

from typing import Self

from pydantic import Field, model_validator

from common.inputs import Strict
from common.schema import SPECTROGRAM_STEP_SECONDS


class View(Strict):
    """A change that leaves the answer as it was. It costs what the plain view costs: every input, every net again."""

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
