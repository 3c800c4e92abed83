"""Nothing secret leaves the house: file names and contents that look like credentials."""

import mmap
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

NAMES = (
    *("kaggle.json*", "access_token*", "*.env", ".env*", "credentials*"),
    *(".*rc", "_netrc", ".git-credentials"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
)
SECRET = rb"[\w+/=.~-]"  # what keys and tokens are made of
CONTENTS = tuple(
    (what, re.compile(pattern))
    for what, pattern in (
        ("a Kaggle token", rb"(?i)KGAT_[0-9A-Z]{8,}"),
        ("a Kaggle key", rb"(?i)(?:\"|'|\b)key(?:\"|')?\s{0,4}[:=]\s{0,4}[\"']?[0-9a-f]{32}\b"),
        ("a Kaggle key or token", rb"(?i)KAGGLE_(?:API_)?(?:KEY|TOKEN|SECRET)\W{1,8}" + SECRET + rb"{16,}"),
        ("a password in an address", rb"(?i)\bhttps?://[^\s/:@\"']{1,64}:[^\s/:@\"']{6,128}@"),
        ("an authorization", rb"(?i)authorization\W{1,8}(?:basic|bearer|token)\s{1,4}" + SECRET + rb"{8,}"),
        ("a login's token", rb"(?i)(?:refresh|access|auth)_token[\"']?\s{0,4}[:=]\s{0,4}[\"']" + SECRET + rb"{16,}"),
        ("a private key", rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"),
        ("a token of GitHub", rb"\bgh[opsru]_[0-9A-Za-z]{30,}|\bgithub_pat_\w{30,}"),
        ("a token of Hugging Face", rb"\bhf_[0-9A-Za-z]{30,}"),
        ("a key of a cloud", rb"\bAKIA[0-9A-Z]{16}\b|(?i:aws_secret_access_key)\W{1,8}" + SECRET + rb"{30,}"),
        ("an API key", rb"\bsk-[\w-]{32,}|\bxox[abprs]-[\w-]{20,}"),
    )
)
READ_WHOLE = 2**25  # bytes; of larger files, weights, the first and the last so many, which hold their words
NEAR = 300  # bytes around a mark that are looked at
MARKS = (b"KGAT_", b"KAGGLE_", b"PRIVATE KEY-----")  # quickly found in gigabytes


def marks(content: mmap.mmap) -> Iterator[int]:
    for mark in MARKS:
        at = content.find(mark)
        while at >= 0:
            yield at
            at = content.find(mark, at + 1)


def secret_in_bytes(content: bytes) -> str | None:
    """What in it looks like a credential, in UTF-8 or UTF-16."""
    for text in (content, content.replace(b"\0", b"")) if b"\0" in content else (content,):
        for what, pattern in CONTENTS:
            if found := pattern.search(text):
                return f"{what} (at byte {found.start():,})"
    return None


def secret_in_text(text: str) -> str | None:
    return secret_in_bytes(text.encode("utf-8", "surrogatepass"))


def secret_in(path: Path) -> str | None:
    """What in a file, or in its name, looks like a credential; None: nothing. It is never quoted."""
    if any(fnmatch(path.name.lower(), pattern) for pattern in NAMES):
        return "its name is that of a file with credentials"
    if path.stat().st_size == 0:  # cannot be mapped
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pieces = [content[:READ_WHOLE]]
        if len(content) > READ_WHOLE:
            pieces += [content[-READ_WHOLE:], *(content[max(0, at - NEAR) : at + NEAR] for at in marks(content))]
        found = next(filter(None, map(secret_in_bytes, pieces)), None)
    return f"it holds {found}" if found else None
