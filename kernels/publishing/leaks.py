"""Nothing secret leaves the house: file names and contents that look like credentials."""

import mmap
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

NAMES = (
    *("kaggle.json", "access_token*", ".env*", "credentials.json", ".netrc"),
    *("*.pem", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
)
NEAR = 300  # bytes around a mark that are looked at
# What it is, a mark that is quickly found in gigabytes of weights, and what must stand around it.
CONTENTS = (
    ("a Kaggle token", b"KGAT_", rb"KGAT_[0-9A-Za-z]{8,}"),
    (
        "a Kaggle key",
        b"key",
        rb"(?s)username.{0,200}\bkey\W{1,8}[0-9a-f]{32}\b|\bkey\W{1,8}[0-9a-f]{32}\b.{0,200}username",
    ),
    ("a Kaggle key", b"KAGGLE_KEY", rb"KAGGLE_KEY\W{1,8}[0-9a-f]{32}\b"),
    ("a Kaggle token", b"KAGGLE_API_TOKEN", rb"KAGGLE_API_TOKEN\W{1,8}[0-9A-Za-z_]{16,}"),
    ("a private key", b"PRIVATE KEY-----", rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"),
)


def marks(content: mmap.mmap, mark: bytes) -> Iterator[int]:
    at = content.find(mark)
    while at >= 0:
        yield at
        at = content.find(mark, at + 1)


def secret_in(path: Path) -> str | None:
    """What in a file, or in its name, looks like a credential; None: nothing. It is never quoted."""
    if any(fnmatch(path.name.lower(), pattern) for pattern in NAMES):
        return "its name is that of a file with credentials"
    if path.stat().st_size == 0:  # cannot be mapped
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for what, mark, pattern in CONTENTS:
            for at in marks(content, mark):
                if re.search(pattern, content[max(0, at - NEAR) : at + NEAR]):
                    return f"it holds {what} (at byte {at:,})"
    return None
