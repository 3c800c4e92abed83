"""Finds credentials in what is about to leave this machine. What is found is named, never quoted."""

import re
from pathlib import Path

SECRET = rb"[\w+/=.~-]"  # the characters of keys and tokens
PATTERNS = {
    "a Kaggle token": rb"(?i)KGAT_[0-9A-Z]{8,}",
    "a Kaggle key": rb"(?i)(?:\"|'|\b)key(?:\"|')?\s{0,4}[:=]\s{0,4}[\"']?[0-9a-f]{32}\b",
    "a Kaggle key or token": rb"(?i)KAGGLE_(?:API_)?(?:KEY|TOKEN|SECRET)\W{1,8}" + SECRET + rb"{16,}",
    "a password in an address": rb"(?i)\bhttps?://[^\s/:@\"']{1,64}:[^\s/:@\"']{6,128}@",
    "an authorization": rb"(?i)authorization\W{1,8}(?:basic|bearer|token)\s{1,4}" + SECRET + rb"{8,}",
    "a login's token": rb"(?i)(?:refresh|access|auth)_token[\"']?\s{0,4}[:=]\s{0,4}[\"']" + SECRET + rb"{16,}",
    "a private key": rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----",
    "a token of GitHub": rb"\bgh[opsru]_[0-9A-Za-z]{30,}|\bgithub_pat_\w{30,}",
    "a token of Hugging Face": rb"\bhf_[0-9A-Za-z]{30,}",
    "a key of a cloud": rb"\bAKIA[0-9A-Z]{16}\b|(?i:aws_secret_access_key)\W{1,8}" + SECRET + rb"{30,}",
    "an API key": rb"\bsk-[\w-]{32,}|\bxox[abprs]-[\w-]{20,}",
}
AT_BOTH_ENDS = 2**25  # bytes that are searched at either end of a file: the words in weights lie there


def secret_in(content: bytes) -> str | None:
    """What in it looks like a credential, in UTF-8 or UTF-16; None: nothing."""
    for text in (content, content.replace(b"\0", b"")):
        for what, pattern in PATTERNS.items():
            if re.search(pattern, text):
                return what
    return None


def secret_in_file(path: Path) -> str | None:
    with path.open("rb") as file:
        content = file.read(AT_BOTH_ENDS)
        file.seek(max(len(content), path.stat().st_size - AT_BOTH_ENDS))
        return secret_in(content + file.read())
