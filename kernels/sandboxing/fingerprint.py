"""What a folder to be uploaded holds, as one number: a sandbox run and an upload of the same bytes share it."""

import hashlib
from pathlib import Path

from common.files import sha256_of

NOT_CONTENT = ("dataset-metadata.json",)  # Kaggle keeps it for itself, and publishing fills in the owner


def fingerprint(folder: Path) -> str:
    """sha256 over the names and sha256 of a flat folder's files, whatever their order or dates."""
    files = sorted(path for path in folder.iterdir() if path.name not in NOT_CONTENT)
    lines = [f"{path.name}\n{sha256_of(path)}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
