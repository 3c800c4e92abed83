"""One fold's net on one device: in half precision where that is safe, in batches that the memory holds."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from common.predict import good_at_half, predict

LARGEST_BATCH = 64  # windows: beyond it a GPU gets no faster
TRIAL = 2  # windows whose memory is measured
MEMORY_SHARE = 0.5  # of what is free, as other nets and the inputs need some too
HALF_BOUND = 0.01  # of a probability: half precision that is farther off than this is not used


def fitting(device: torch.device, windows: int, run: Callable[[], np.ndarray]) -> tuple[np.ndarray, int]:
    """What run() gives for a trial of so many windows on a GPU, and how many its memory would hold at once."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    answer = run()
    each = max(torch.cuda.max_memory_allocated(device) - before, 1) / windows
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + cached
    return answer, min(max(int(MEMORY_SHARE * free / each), 1), LARGEST_BATCH)


class Net:
    """A fold's model where it runs. `say` is told each surprise once."""

    def __init__(self, label: str, model: nn.Module, device: torch.device, say: Callable[[str], None]) -> None:
        self.label, self.say = label, say
        self.model, self.device = model, device
        self.half = good_at_half(device)
        self.batch_size: int | None = None if device.type == "cuda" else LARGEST_BATCH
        if device.type == "cuda":
            try:
                self.model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            except torch.OutOfMemoryError:
                self.move_to_cpu()

    def move_to_cpu(self) -> None:
        self.say(f"{self.label} runs on the CPU: {self.device} has too little memory for it")
        self.model = self.model.to("cpu")
        self.device, self.half, self.batch_size = torch.device("cpu"), False, LARGEST_BATCH

    def try_out(self, inputs: Tensor) -> None:
        """On a GPU: find out what half precision costs this net, and how large its batches may be."""
        trial, size = fitting(self.device, len(inputs), lambda: predict(self.model, inputs, self.half))
        if self.half:
            worst = np.abs(trial - predict(self.model, inputs)).max()
            if not worst <= HALF_BOUND:  # NaN is no difference that could be compared
                self.say(f"{self.label} runs in full precision: in half its probabilities are off by {worst:.2g}")
                self.half, size = False, max(size // 2, 1)
        self.batch_size = size

    def answer(self, inputs: Tensor) -> np.ndarray:
        """Probabilities (windows, 6). Where a GPU's memory is short, in halves; where one window is too much for it,
        on the CPU from then on."""
        while True:
            try:
                if self.batch_size is None:
                    self.try_out(inputs[:TRIAL])
                return self.in_batches(inputs.to(self.device))
            except torch.OutOfMemoryError:
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                self.take_less(len(inputs))

    def take_less(self, windows: int) -> None:
        """After a batch that did not fit."""
        size = min(self.batch_size or TRIAL, windows)
        if size > 1:
            self.batch_size = size // 2
            self.say(f"{self.label}: {size} windows at once are too many for {self.device}, half are tried")
        elif self.device.type == "cuda":
            self.move_to_cpu()
        else:
            raise MemoryError(f"{self.label}: a single window does not fit into memory")

    def in_batches(self, inputs: Tensor) -> np.ndarray:
        assert self.batch_size is not None
        return np.concatenate([predict(self.model, chunk, self.half) for chunk in inputs.split(self.batch_size)])
