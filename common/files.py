"""Files that are whole or not there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_via(path: Path, write: Callable[[Path], Any]) -> None:
    """write(temporary name), then rename: a reader never meets half a file, and where writing fails none is left."""
    temporary = path.with_name(path.name + ".partial")
    try:
        write(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
