"""Work shared between the cores of the CPU, and read ahead in threads."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

READERS = 4  # threads that read ahead; pyarrow leaves the interpreter free while it decodes


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
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


def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item], ahead: int, threads: int = READERS
) -> Generator[Result, None, None]:
    """read(item) for each item, in order, with `ahead` of them under way in threads; closed early, the rest is not."""
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
