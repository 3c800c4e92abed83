"""A time limit for what may hang on a disk that stalls."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def with_timeout(act: Callable[[], T], seconds: float) -> T:
    """What act() returns or raises. Raises TimeoutError when that takes longer.

    Nothing can interrupt a thread that reads from a mounted disk that stalls. So the thread is a daemon: it waits
    there and does not keep the program from ending.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(act())
        except BaseException as error:  # polars' panics too
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(seconds)
