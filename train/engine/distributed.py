"""The processes that torchrun started: which one this is, and what they tell each other.

Without torchrun there is one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from common.predict import pick_device
from train.engine.run_folder import RunError

PATIENCE = timedelta(days=7)  # folds of unequal length wait for each other


@dataclass(frozen=True)
class Distributed:
    """Process `rank` of `size` that train one model together, on its own device."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Only one process writes and reports."""
        return self.rank == 0

    def say(self, line: str) -> None:
        if self.is_main:
            print(line, flush=True)

    def part_of(self, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Which rows of a batch are this process's, and the weight of each: every process gets as many, so that
        none waits for another; rows that fill up weigh nothing."""
        per_process = -(-n_rows // self.size)
        places = np.arange(self.rank, per_process * self.size, self.size)
        return places % n_rows, (places < n_rows).astype(np.float32)

    def gather(self, values: Any) -> list[Any]:
        """`values` of every process, in the order of their ranks."""
        if self.size == 1:
            return [values]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, values)
        return gathered

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.gather(None)

    def wrap(self, net: nn.Module) -> nn.Module:
        """The net whose backward pass averages gradients over the processes."""
        if self.size == 1:
            return net
        return DistributedDataParallel(net, device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def share_buffers(self, model: nn.Module) -> None:
        """Batch statistics of the first process to all: on the CPU each gathers those of its own share."""
        for values in model.buffers() if self.size > 1 else ():
            dist.broadcast(values, 0)

    def alone(self) -> "Distributed":
        """The same process training a model by itself."""
        return Distributed(0, 1, self.device)


@contextmanager
def join_processes() -> Iterator[Distributed]:
    """The processes that torchrun's environment names; their group lives as long as the context.

    Each takes the GPU of its local rank; without a usable one all work on the CPU. Raises RunError.
    """
    size, rank, local = (int(os.environ.get(key, "0")) for key in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
    device = pick_device()
    if size < 2:
        yield Distributed(0, 1, device)
        return
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise RunError(
                f"process {local} of this machine has no GPU: {torch.cuda.device_count()} are here; "
                f"start torchrun with --nproc-per-node {torch.cuda.device_count()}"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Distributed(rank, size, device)
    finally:
        dist.destroy_process_group()
