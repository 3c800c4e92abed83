"""One fold's net on one device: in half precision where that is safe, in batches that the memory holds."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from common.predict import good_at_half, predict

LARGEST_BATCH = 64  # windows: beyond it a GPU gets no faster
TRIAL = 2  # windows on which half precision is compared with full
HALF_BOUND = 0.01  # of a probability: half precision that is farther off than this is not used


class Net:
    """A fold's model where it runs. `warn` gets each warning once."""

    def __init__(self, label: str, model: nn.Module, device: torch.device, warn: Callable[[str], None]) -> None:
        self.label, self.model, self.device, self.warn = label, model, device, warn
        self.half = good_at_half(device)
        self.half_is_checked = False
        self.batch_size = LARGEST_BATCH
        if device.type == "cuda":
            try:
                self.model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            except torch.OutOfMemoryError:
                self.move_to_cpu()

    def move_to_cpu(self) -> None:
        self.warn(f"{self.label} runs on the CPU: {self.device} has too little memory for it")
        self.model, self.device = self.model.to("cpu"), torch.device("cpu")
        self.half, self.batch_size = False, LARGEST_BATCH

    def probabilities(self, inputs: Tensor) -> np.ndarray:
        """(windows, 6). Where a GPU's memory is short, in smaller batches; where it is too short for one window, on the
        CPU from then on."""
        while True:
            try:
                if self.half and not self.half_is_checked:
                    self.check_half(inputs[:TRIAL])
                batches = inputs.to(self.device).split(self.batch_size)
                return np.concatenate([predict(self.model, batch, self.half) for batch in batches])
            except torch.OutOfMemoryError:
                if self.device.type != "cuda":
                    raise
                torch.cuda.empty_cache()
                size = min(self.batch_size, len(inputs))
                if size == 1:
                    self.move_to_cpu()
                else:
                    self.batch_size = size // 2
                    self.warn(f"{self.label}: {size} windows at once are too many for {self.device}, half are tried")

    def check_half(self, inputs: Tensor) -> None:
        """Give half precision up where it changes the net's probabilities too much."""
        worst = np.abs(predict(self.model, inputs, half=True) - predict(self.model, inputs)).max()
        if not worst <= HALF_BOUND:  # NaN is no difference that could be compared
            self.warn(f"{self.label} runs in full precision: in half its probabilities are off by {worst:.2g}")
            self.half = False
        self.half_is_checked = True
