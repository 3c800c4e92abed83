"""python -m train VERB: from a competition folder to weights and a blend."""

import argparse
import os
import signal
import sys

from common.errors import KitError
from common.memory import keep_freed_memory
from train.arguments import add_data_verbs, add_judging_verbs, add_training_verbs


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    commands = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add_verbs in (add_data_verbs, add_training_verbs, add_judging_verbs):
        add_verbs(commands)
    return top


def hint(verb: str) -> str:
    return "; the same command with --resume goes on" if verb == "run" else ""


def end(number: int, verb: str) -> None:
    """On a signal: leave as after an error, so that everything is cleared up."""
    print(f"ended by signal {number}{hint(verb)}", file=sys.stderr)
    sys.exit(128 + number)


def main() -> int:
    arguments = parser().parse_args()
    keep_freed_memory()
    # Before a verb loads torch: its threads on the CPU sleep while they wait for each other. By default they spin, and
    # beside one other busy program a step of a small net takes ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, lambda number, _: end(number, arguments.verb))
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("interrupted" + hint(arguments.verb), file=sys.stderr)
        return 130
    except (KitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
