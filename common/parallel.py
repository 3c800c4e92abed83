"""Work shared between the cores of the CPU."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Given = TypeVar("Given")
Made = TypeVar("Made")


def on_each_core(function: Callable[[Given], Made], items: Sequence[Given]) -> list[Made]:
    """function(item) of each item, in order; an item on each core, and torch with one thread in each.

    Threads that share one small operation wait for each other longer than they work, and beside another busy
    program a hundred times longer.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return [function(item) for item in items]
    try:
        if len(items) == 1:
            torch.set_num_threads(1)
            return [function(items[0])]
        with ThreadPoolExecutor(min(threads, len(items)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(threads)  # threads that others start later would have only one, too
