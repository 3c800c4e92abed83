"""What words on the command line mean; argparse shows the message of what is refused."""

import argparse
import re
from pathlib import Path

from common.tta import View


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(text)


def folder_of(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return Path(text)


def folds_of(text: str) -> int | Path:
    """How many folds, or a file with a table of them."""
    if text.isdecimal() and int(text) >= 2:
        return int(text)
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is neither a whole number from 2 nor a file")
    return Path(text)


def view_of(text: str) -> View:
    """mirror, +4, mirror-4: mirrored, so many seconds later, or both."""
    found = re.fullmatch(r"(mirror)? ?([+-]\d+(?:\.\d+)?)?(?: s)?", text)
    try:
        return View(mirror=bool(found[1]), shift=float(found[2] or 0))
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"{text} is no view: mirror, +4, mirror-4; even seconds up to 20") from None
