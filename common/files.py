"""Files that are whole or not there, and what is in them as a number."""

import hashlib
import json
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


def write_text(path: Path, text: str) -> None:
    """A UTF-8 file, whole or not there."""
    write_via(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, values: object) -> None:
    """A JSON file with one value a line, whole or not there."""
    write_text(path, json.dumps(values, indent=1) + "\n")


def sha256_of(path: Path) -> str:
    """Of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
