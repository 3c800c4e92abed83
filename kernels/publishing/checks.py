"""What must be right about a weights folder and a kernel folder before they leave this machine.

Each check returns its reasons to refuse as sentences with what to do; none of them asks Kaggle.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import build
from common.files import sha256_of
from publishing.secret_scan import secret_in_file
from sandboxing.mounts import DATASET_METADATA as METADATA
from sandboxing.mounts import fingerprint

MANIFEST, CONFIG = "manifest.json", "config.json"
PLACEHOLDER = "OWNER"  # stands for the user in metadata until publishing fills it in
SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


@dataclass(frozen=True)
class Dataset:
    """A weights folder to be uploaded. `model`: the name that the blend knows it by."""

    folder: Path
    metadata: dict[str, Any]
    slug: str
    model: str
    fingerprint: str


@dataclass(frozen=True)
class Kernel:
    folder: Path
    metadata: dict[str, Any]
    slug: str
    code: Path
    competition: str  # slug
    sha256: str


class Metadata(BaseModel):
    """What must be readable in a metadata file; its rules are checked later."""

    model_config = ConfigDict(extra="allow")
    id: str = Field(pattern=r"^[^/]+/[^/]+$")  # OWNER/SLUG
    dataset_sources: list[str] = []
    competition_sources: list[str] = []


class ListedFile(BaseModel):
    file: str = Field(pattern=r"^[^/]+$")
    sha256: str
    bytes: int


class Listing(BaseModel):
    """The part of a manifest.json that identifies the files it was written for."""

    name: str
    config_sha256: str
    folds: list[ListedFile]


def read_as(kind: type[BaseModel], path: Path, made_by: str) -> Any:
    """Raises ValueError with what is wrong and what to do."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): {made_by}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "JSON"
        raise ValueError(f"{path} cannot be read ({where}: {first['msg']}): {made_by}.") from error


def foreign_owner(where: Path, identity: str, user: str) -> list[str]:
    owner = identity.split("/")[0]
    if owner in (PLACEHOLDER, user):
        return []
    return [f"{where} belongs to {owner}, but kaggle is logged in as {user}: write {PLACEHOLDER} there, or log in."]


def text_rules(where: Path, metadata: dict[str, Any], slug: str) -> list[str]:
    """Kaggle's rules on a dataset's names and licence."""
    reasons = []
    if not SLUG.fullmatch(slug) or not 6 <= len(slug) <= 50:
        reasons.append(f"{where}: the slug {slug} must be 6 to 50 small letters, digits and single hyphens.")
    title, licenses = metadata.get("title"), metadata.get("licenses")
    if not isinstance(title, str) or not 6 <= len(title) <= 50:
        reasons.append(f"{where}: the title {title!r} must be 6 to 50 characters.")
    if not isinstance(licenses, list) or len(licenses) != 1:
        reasons.append(f'{where}: name exactly one licence: "licenses": [{{"name": "CC0-1.0"}}].')
    for key in ("id_no", "resources", "keywords"):
        if metadata.get(key):
            reasons.append(f"{where}: take {key} out; it would change which dataset or what is uploaded.")
    return reasons


def check_files(folder: Path, listing: Listing) -> list[str]:
    """How a weights folder differs from its manifest.json."""
    again = "export it again (python -m train export)"
    expected: dict[str, tuple[int | None, str]] = {one.file: (one.bytes, one.sha256) for one in listing.folds}
    expected[CONFIG] = (None, listing.config_sha256)
    reasons = []
    for name, (size, digest) in expected.items():
        path = folder / name
        if not path.is_file():
            reasons.append(f"{path} is missing: {again}.")
        elif size is not None and path.stat().st_size != size:
            reasons.append(f"{path} has {path.stat().st_size:,} bytes, the manifest says {size:,}: {again}.")
        elif sha256_of(path) != digest:
            reasons.append(f"{path} does not have the manifest's sha256: damaged or swapped; {again}.")
    unknown = sorted(path.name for path in folder.iterdir() if path.name not in (*expected, METADATA, MANIFEST))
    if unknown:
        reasons.append(f"{folder} holds {', '.join(map(ascii, unknown))}, which {MANIFEST} does not list: take it out.")
    return reasons


def secrets(*files: Path) -> list[str]:
    return [f"{path}: it holds {found}; take it out." for path in files if (found := secret_in_file(path))]


def read_dataset(folder: Path, user: str) -> tuple[Dataset | None, list[str]]:
    """A dataset and why it cannot be uploaded."""
    if not folder.is_dir():
        return None, [f"{folder} is no folder: export the weights (python -m train export), or give --datasets."]
    where, made_by = folder / METADATA, "export it again (python -m train export)"
    try:
        metadata = read_as(Metadata, where, made_by).model_dump(exclude_unset=True)
        listing = read_as(Listing, folder / MANIFEST, made_by)
    except ValueError as error:
        return None, [str(error)]
    slug = metadata["id"].split("/")[1]
    wrong = check_files(folder, listing)
    reasons = foreign_owner(where, metadata["id"], user) + text_rules(where, metadata, slug) + wrong
    reasons += secrets(*(path for path in sorted(folder.iterdir()) if path.is_file()))
    dataset = None if wrong else Dataset(folder, metadata, slug, listing.name, fingerprint(folder))
    return dataset, reasons


def built_from_sources(folder: Path, code_file: str, blend_file: Path) -> list[str]:
    """How the kernel folder differs from what the sources and the blend give."""
    notebook = code_file == build.NOTEBOOK
    try:
        stale = build.check(folder, build.contents(build.ROOT, blend_file, folder, notebook))
    except build.BuildError as error:
        return [str(error)]
    again = f"python kernels/build.py{' --notebook' * notebook} --blend {blend_file} --out {folder}"
    return [f"{reason} Build it again ({again}), and run the sandbox again." for reason in stale]


def committed(folder: Path) -> list[str]:
    """A kernel folder that git knows must be what git holds, so that the ledger's commit says what was pushed."""

    def git(*words: str) -> str:
        english = os.environ | {"LC_ALL": "C"}
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, env=english).stdout

    try:
        changed = git("status", "--porcelain", ".") if git("ls-files", ".") else ""
    except OSError:  # no git on this machine
        return []
    files = sorted({line[3:].split("/")[-1] for line in changed.splitlines()})
    return [f"{folder} differs from the last commit ({', '.join(files)}): commit it first."] if files else []


def read_kernel(folder: Path, user: str, blend_file: Path) -> tuple[Kernel | None, list[str]]:
    """The kernel and why it cannot be pushed: private, without internet and with a title that makes its slug it is as
    built, so that comparing it with what the sources give finds all else."""
    where = folder / build.METADATA
    try:
        metadata = read_as(Metadata, where, "build the kernel (python kernels/build.py)").model_dump(exclude_unset=True)
    except ValueError as error:
        return None, [str(error)]
    code = folder / str(metadata.get("code_file"))
    if not code.is_file():
        return None, [f"{code}, the code_file of {where}, is missing: build the kernel (python kernels/build.py)."]
    reasons = foreign_owner(where, metadata["id"], user) + committed(folder) + secrets(where, code)
    reasons += built_from_sources(folder, code.name, blend_file) if blend_file.is_file() else []
    competition = (metadata.get("competition_sources") or [""])[0]
    return Kernel(folder, metadata, metadata["id"].split("/")[1], code, competition, sha256_of(code)), reasons
