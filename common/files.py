"""Files that are whole or not there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_via(path: Path, write: Callable[[Path], Any]) -> None:
    """write(temporary name), then rename: a reader never meets half a file."""
    temporary = path.with_name(path.name + ".partial")
    write(temporary)
    os.replace(temporary, path)
