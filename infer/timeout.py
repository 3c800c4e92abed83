"""What may hang on a disk that stalls, given up after a while."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_time(act: Callable[[], T], seconds: float) -> T:
    """What act() returns or raises. Raises TimeoutError when that takes longer.

    A mounted disk that stalls holds whoever reads from it, and nothing can interrupt that: so a thread of its own
    waits there, which does not keep the program from ending.
    """
    result: list[T] = []
    errors: list[BaseException] = []

    def acting() -> None:
        try:
            result.append(act())
        except BaseException as error:  # polars' panics too
            errors.append(error)

    thread = threading.Thread(target=acting, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not result:
        raise TimeoutError(f"not done within {seconds:g} s")
    return result[0]
