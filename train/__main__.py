"""python -m train VERB: from a competition folder to weights and a blend."""

import os
import signal
import sys

from common.command_line import run
from train.cli import app


def end(number: int, hint: str) -> None:
    """On a signal: leave as after an error, so that everything is cleared up."""
    print(f"ended by signal {number}{hint}", file=sys.stderr)
    sys.exit(128 + number)


def main() -> int:
    words = sys.argv[1:]
    hint = "; the same command with --resume goes on" if words[:1] == ["run"] else ""
    # Before a verb loads torch: its threads on the CPU sleep while they wait for each other. By default they spin, and
    # beside one other busy program a step of a small net takes ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, lambda number, _: end(number, hint))
    return run(app, words, hint)


if __name__ == "__main__":
    sys.exit(main())
