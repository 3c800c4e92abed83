"""Times and rates: interleaved medians, what this machine can do, and the floor that follows from it."""

import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).resolve().parents[2]
MATRIX = 1024  # rows and columns of the product whose rate is measured
COPIED_BYTES = 2**26
LOGARITHM = 20  # operations of one logarithm: range reduction and a polynomial


@contextmanager
def threads(n: int) -> Iterator[None]:
    """torch and the BLAS of numpy and scipy with n threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        with threadpool_limits(n):
            yield
    finally:
        torch.set_num_threads(before)


def seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def run(*words: str | Path) -> str:
    """Standard output of `python WORDS` in the project's folder; ends the program when it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"`{' '.join(command)}` ended with exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr}")
    return done.stdout


def interleaved(*functions: Callable[[], Any], budget: float = 8.0, most: int = 25, least: int = 3) -> list[float]:
    """Median seconds of each function, called in turn after a warm-up, at most `most` rounds or `budget` seconds.

    In turn, so that whatever else the machine does meets all of them alike.
    """
    for function in functions:
        function()
    gc.collect()
    gc.disable()
    try:
        taken: list[list[float]] = []
        while len(taken) < least or (len(taken) < most and sum(map(sum, taken)) < budget):
            taken.append([seconds(function) for function in functions])
    finally:
        gc.enable()
    return [statistics.median(times) for times in zip(*taken, strict=True)]


@dataclass(frozen=True)
class Rates:
    """Of `threads` threads: operations a second of a matrix product, and bytes a second read and written by a copy."""

    threads: int
    float32: float
    float64: float
    copy: float


def fastest(function: Callable[[], Any], budget: float = 0.5) -> float:
    """Fewest seconds of a call: what the machine can do when nobody else uses it."""
    function()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < budget:
        taken.append(seconds(function))
    return min(taken)


def measure_rates(n_threads: int) -> Rates:
    with threads(n_threads):
        rates = {}
        for dtype in (torch.float32, torch.float64):
            a, b = torch.rand(MATRIX, MATRIX, dtype=dtype), torch.rand(MATRIX, MATRIX, dtype=dtype)
            out = torch.empty_like(a)
            rates[dtype] = 2 * MATRIX**3 / fastest(lambda a=a, b=b, out=out: torch.mm(a, b, out=out))
        source = torch.ones(COPIED_BYTES // 4)
        target = torch.empty_like(source)
        copy = 2 * COPIED_BYTES / fastest(lambda: target.copy_(source))
    return Rates(n_threads, rates[torch.float32], rates[torch.float64], copy)


@dataclass(frozen=True)
class Work:
    """What cannot be avoided: operations in float32 and float64, bytes read and written once."""

    float32: float = 0.0
    float64: float = 0.0
    bytes: float = 0.0

    def floor(self, rates: Rates) -> float:
        """Seconds, if all operations ran as fast as a matrix product and all bytes as fast as a copy."""
        return self.float32 / rates.float32 + self.float64 / rates.float64 + self.bytes / rates.copy
