"""Which state of the kit made something, and whose it is on Kaggle."""

import json
import subprocess
from pathlib import Path

KIT = Path(__file__).resolve().parents[1]


def kit_commit() -> str | None:
    """The commit of the kit's own checkout, with "+changes" where tracked files differ from it; else None."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(KIT), *words], capture_output=True, check=True, text=True).stdout

    try:
        if Path(git("rev-parse", "--show-toplevel").strip()).resolve() != KIT:  # installed into another's checkout
            return None
        changed = git("status", "--porcelain", "--untracked-files=no").strip()
        return git("rev-parse", "HEAD").strip() + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):  # no git here, or no checkout
        return None


def owner_of(metadata: Path) -> str:
    """Whose a metadata file written before is; OWNER stands for the user until it is filled in."""
    try:
        return str(json.loads(metadata.read_text(encoding="utf-8"))["id"]).split("/")[0]
    except (OSError, ValueError, KeyError, TypeError):
        return "OWNER"
