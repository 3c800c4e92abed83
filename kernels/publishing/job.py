"""What every step of a publication needs: the kaggle command, the bundle, how far it has come, how to wait."""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from common.errors import KitError
from publishing.bundle import Bundle
from publishing.kaggle_command import Kaggle, KaggleError
from publishing.kaggle_failures import ABSENT
from publishing.state import STATE, State, save

T = TypeVar("T")
FIRST, GROWTH = 0.25, 1.5  # of --poll: the first wait, and how waits grow up to --poll
LAG = (0, 0.25, 0.5, 1, 2)  # times --poll: Kaggle's lists may show what was just made a little later
GRACE = 20  # answers "no such thing" that are taken for "not yet" right after something was made


class PublishError(KitError):
    """A step that failed on Kaggle's side or took too long. The message says what happened and what to do."""


@dataclass
class Job:
    kaggle: Kaggle
    bundle: Bundle
    state: State
    options: argparse.Namespace  # of publish.py

    @property
    def kernel(self) -> str:
        return f"{self.state.owner}/{self.state.kernel_slug}"

    @property
    def output(self) -> Path:
        """Where the kernel's output goes."""
        return Path(self.options.out / "published")

    def folder(self, slug: str) -> Path:
        """What is uploaded."""
        return Path(self.options.out / "upload" / slug)

    def save(self) -> None:
        save(self.options.out / STATE, self.state)

    def say(self, step: str, what: str) -> None:
        print(f"{step}: {what}", flush=True)

    def until(self, what: str, look: Callable[[], T | None]) -> T:
        """Ask until `look` has an answer; "no such thing" counts as "not yet" for a while. Raises PublishError."""
        started, wait, absent = time.monotonic(), FIRST * self.options.poll, 0
        while True:
            try:
                found = look()
            except KaggleError as error:
                absent += 1
                if error.failure.name not in (*ABSENT, "kernel not accessible") or absent > GRACE:
                    raise
                found = None
            if found is not None:
                return found
            if time.monotonic() - started > self.options.wait_minutes * 60:
                raise PublishError(
                    f"{what}: not yet after {self.options.wait_minutes:g} minutes.\n"
                    "Kaggle goes on by itself. Run the same command with --resume to go on waiting."
                )
            time.sleep(wait)
            wait = min(wait * GROWTH, self.options.poll)

    def looks(self) -> Iterator[int]:
        """One turn for each look, with growing waits between them."""
        for turn, wait in enumerate(LAG):
            time.sleep(wait * self.options.poll)
            yield turn
