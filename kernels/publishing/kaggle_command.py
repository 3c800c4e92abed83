"""Runs the official `kaggle` command and knows whether it did what it should.

Credentials are the kaggle tool's own business: they are neither read nor kept here, and what kaggle prints is cleared
of anything that looks like one before it is shown.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import KitError
from publishing.kaggle_failures import ABSENT, BY_NAME, UNKNOWN, Failure, recognise

OLDEST = (2, 2, 5)  # knows `competitions submission` and asks for the kernel version that is named
# The first two would print requests with their credentials, the others change what commands do.
NOT_PASSED_ON = ("VERBOSE", "VERBOSE_OUTPUT", "KAGGLE_COMPETITION", "KAGGLE_PATH")
SECRETS = re.compile(r"KGAT_\w+|(?i:\b(?:basic|bearer)) [\w+/=.-]{8,}|\b[0-9a-f]{32}\b")
READ_SECONDS, CHANGE_SECONDS = 300, 900  # the client itself waits for ever
GROWTH = (1, 2, 4, 8, 16)  # waits before a reading command is repeated, times `pause`
PAGE = 200  # entries of a list that are asked for at once
HERE = Path(__file__).resolve().parent


class KaggleError(KitError):
    """A kaggle command that failed. `failure` is its row in kaggle_failures.py."""

    def __init__(self, failure: Failure, command: str, what: str, printed: str = "") -> None:
        lines = [line for line in printed.strip().splitlines() if line.strip() and "B/s]" not in line]  # no bars
        lines = [] if failure.name == "credentials" else lines  # kaggle's own help on logging in, two pages of it
        quoted = "".join(f"\n  | {line}" for line in lines[-6:])
        super().__init__(f"{what}\n{failure.do}\n  $ {command}{quoted}")
        self.failure = failure


def hide_secrets(text: str) -> str:
    return SECRETS.sub("[hidden]", text)


def find_kaggle() -> str:
    """The command of this interpreter's environment, else of PATH. Raises KaggleError."""
    beside = Path(sys.executable).with_name("kaggle")
    found = str(beside) if beside.is_file() else shutil.which("kaggle")
    if found is None:
        raise KaggleError(BY_NAME["not installed"], "kaggle", BY_NAME["not installed"].what)
    return found


def short(word: str) -> str:
    """A path below the current folder as a person would type it."""
    here = f"{Path.cwd()}{os.sep}"
    return word.removeprefix(here) if os.path.isabs(word) else word


def as_typed(words: Iterable[str | Path]) -> str:
    return shlex.join(["kaggle", *map(str, words)])


def as_json(printed: str) -> Any:
    """The JSON in what kaggle printed, behind warnings and page tokens; None where there is none."""
    for start in re.finditer(r"^[\[{]", printed, re.MULTILINE):  # a warning may begin with a bracket, too
        with contextlib.suppress(ValueError):
            return json.loads(printed[start.start() :])
    return None


def entries_in(printed: str, command: str) -> list[dict[str, Any]]:
    """The list that a command printed; it says in words that there is nothing. Raises KaggleError for anything else:
    what cannot be read must not pass for "there is none"."""
    found = as_json(printed)
    if isinstance(found, list):
        return found
    if re.search(r"^No (submissions|files) found", printed, re.MULTILINE):
        return []
    what = "kaggle printed neither a list nor that there is nothing."
    raise KaggleError(UNKNOWN, command, what, hide_secrets(printed))


@dataclass
class Kaggle:
    """`read` repeats what only reads; `change` never repeats: whoever calls it looks before doing so.

    pause: seconds before the first repetition; the next waits grow. lock: a file descriptor that every command keeps
    open, so that a lock on it outlives a publisher that was killed for as long as its last command goes on. scratch: a
    folder of this publisher's own, where kaggle notes how far uploads came; None: wherever kaggle likes.
    """

    pause: float = 2.0
    lock: int | None = None
    scratch: Path | None = None
    executable: str = field(default_factory=find_kaggle)
    shown: str = ""  # the last command that was shown: asking the same again and again is shown once

    def read(self, *words: str | Path) -> str:
        """What the command printed on stdout. Raises KaggleError."""
        return self.repeat([self.executable, *map(str, words)], "kaggle")

    def change(self, *words: str | Path, seconds: float = CHANGE_SECONDS) -> str:
        """What the command printed on stdout, after one attempt. Raises KaggleError."""
        return self.run([self.executable, *map(str, words)], "kaggle", seconds)

    def answer(self, *words: str | Path) -> Any:
        """The JSON that a command printed. Raises KaggleError, also where there is none."""
        printed = self.read(*words)
        found = as_json(printed)
        if found is None:
            raise KaggleError(UNKNOWN, as_typed(words), "kaggle printed no JSON.", hide_secrets(printed))
        return found

    def pages(self, *words: str | Path) -> list[dict[str, Any]]:
        """The entries of a list, page by page. Raises KaggleError."""
        entries: list[dict[str, Any]] = []
        token: list[str] = []
        while True:
            printed = self.read(*words, "--page-size", str(PAGE), "--format", "json", *token)
            entries += entries_in(printed, as_typed(words))
            more = re.search(r"^Next Page Token = (\S+)", printed, re.MULTILINE)
            if not more:
                return entries
            token = ["--page-token", more.group(1)]

    def newest_version(self, kernel: str) -> dict[str, Any] | None:
        """version, code_sha256 and sources of OWNER/SLUG; None where there is no such kernel. Raises KaggleError."""
        try:
            printed = self.repeat([sys.executable, str(HERE / "kernel_version.py"), kernel], "python")
        except KaggleError as error:
            if error.failure.name in ABSENT:
                return None
            raise
        return dict(as_json(printed))

    def environment(self) -> dict[str, str]:
        variables = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
        variables["PYTHONIOENCODING"] = "utf-8"  # kaggle ends where it cannot print a message's letters
        if self.scratch:
            self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            variables["TMPDIR"] = str(self.scratch.resolve())
        return variables

    def forget_uploads(self) -> None:
        """kaggle goes on from its notes at the next upload, for ever where the server no longer knows of them."""
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def repeat(self, words: list[str], program: str) -> str:
        """Run until it succeeds, or fails in a way that does not pass by itself."""
        for wait in GROWTH:
            try:
                return self.run(words, program, READ_SECONDS)
            except KaggleError as error:
                if not error.failure.again:
                    raise
                print(f"  {error.failure.what} Again in {wait * self.pause:.0f} s.", flush=True)
                time.sleep(wait * self.pause)
        return self.run(words, program, READ_SECONDS)

    def run(self, words: list[str], program: str, seconds: float) -> str:
        shown = hide_secrets(shlex.join([program, *map(short, words[1:])]))
        if shown != self.shown:
            print(f"$ {shown}", flush=True)
        self.shown = shown
        try:
            done = subprocess.run(
                words,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=seconds,
                pass_fds=[] if self.lock is None else [self.lock],
            )
            stdout, stderr, code = done.stdout, done.stderr, done.returncode
        except subprocess.TimeoutExpired:
            stdout, stderr, code = "", f"no answer within {seconds:.0f} s", 1
        command = " ".join(words[1:]) if program == "kaggle" else "kernel_version"
        if found := recognise(command, f"{stdout}\n{stderr}", code):
            failure, what = found
            raise KaggleError(failure, shown, hide_secrets(what), hide_secrets(f"{stdout}\n{stderr}"))
        return stdout


def log_in(kaggle: Kaggle) -> str:
    """Who kaggle is logged in as; it must be a version that knows what is needed. Raises KaggleError."""
    printed = kaggle.read("--version")
    found = re.search(r"Kaggle CLI (\d+)\.(\d+)\.(\d+)", printed)
    if not found or tuple(map(int, found.groups())) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        what = f"The kaggle command is {printed.strip()!r}; {oldest} or newer is needed."
        raise KaggleError(BY_NAME["not installed"], "kaggle --version", what)
    user = re.search(r"^- username: (\S+)", kaggle.read("config", "view"), re.MULTILINE)
    if not user or user.group(1) == "None":
        raise KaggleError(BY_NAME["credentials"], "kaggle config view", "kaggle is not logged in: it names no user.")
    return user.group(1)
