"""What every kind of net brings, in one file of its own: its config, the net, what it reads, and its words in the table
of experiments."""

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from torch import nn

from common.strict import Strict


def odd_kernel(kernel: int) -> int:
    """The kernel. Raises ValueError when it has no sample in its middle."""
    if kernel % 2 == 0:
        raise ValueError(f"kernel = {kernel} must be odd")
    return kernel


Rate = Annotated[float, Field(ge=0, lt=1)]  # of dropping something
Kernel = Annotated[int, Field(ge=3), AfterValidator(odd_kernel)]  # of a convolution that has a centre


class NetConfig(Strict):
    """A kind of net. A new one is a file with a class like this and its net, and a line in common/models/config.py."""

    reads: ClassVar[Literal["image", "sequence"]] = "image"

    def check_input(self, input_config: Any) -> None:
        """Raises ValueError when the net cannot read this input, though it is of the form that it reads."""

    @abstractmethod
    def build(self, input_config: Any, shape: tuple[int, ...]) -> nn.Module:
        """The net with random weights, for an input of this shape: forward(inputs) -> (batch, 6) logits.

        Raises ConfigError when they do not fit.
        """

    @abstractmethod
    def describe(self) -> str:
        """In few words, for the table of experiments."""
