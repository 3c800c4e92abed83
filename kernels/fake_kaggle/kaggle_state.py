"""What a made-up Kaggle remembers, on disk, and how it refuses."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.files import write_json

HOST = "http://localhost"  # where the client believes to be


class Refusal(Exception):
    """An HTTP error with Kaggle's JSON body."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def page(entries: list[Any], body: dict[str, Any]) -> tuple[list[Any], str]:
    """The part of a list that a request asks for, and the token of the next; "" at the end."""
    start, size = int(body.get("pageToken") or 0), int(body.get("pageSize") or 20)
    return entries[start : start + size], str(start + size) if start + size < len(entries) else ""


def chosen(versions: list[dict[str, Any]], label: int | str | None) -> dict[str, Any]:
    """The version of a number, or of vN (no other text names one); the last without either."""
    if isinstance(label, str):
        number = int(label[1:]) if re.fullmatch(r"v\d+", label) else 0
    else:
        number = label or len(versions)
    if not 1 <= number <= len(versions):
        raise Refusal(404, f"Not found: version {label}")
    return versions[number - 1]


class State:
    """Blobs, datasets, kernels and submissions below `root`; all that reads or changes them holds the lock."""

    def __init__(self, root: Path) -> None:
        self.root, self.file = root, root / "state.json"
        self.lock = threading.RLock()
        self.threads: list[threading.Thread] = []
        self.links: dict[str, Path] = {}  # what addresses lead to
        (root / "blobs").mkdir(parents=True, exist_ok=True)
        empty: dict[str, Any] = {"blobs": {}, "datasets": {}, "kernels": {}, "submissions": [], "next": 1000}
        self.state = json.loads(self.file.read_text()) if self.file.is_file() else empty

    def link(self, path: Path, name: str) -> str:
        """An address that needs no credentials and ends with the file's name, which the client takes over."""
        address = f"/download/{sha256(str(path).encode())[:16]}/{Path(name).name}"
        self.links[address] = path
        return HOST + address

    def save(self) -> None:
        write_json(self.file, self.state)

    def number(self) -> int:
        self.state["next"] += 1
        return int(self.state["next"])

    def in_background(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self.threads.append(thread)
        thread.start()
