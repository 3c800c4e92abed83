"""What must be right about a weights folder and a kernel folder before they leave this machine.

Each check gives its reasons to refuse as sentences with what to do; none of them asks Kaggle.
"""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

import build
from common.files import sha256_of
from publishing.secret_scan import secret_in
from sandboxing.fingerprint import fingerprint

METADATA, MANIFEST = "dataset-metadata.json", "manifest.json"  # the manifest holds every other file's sha256
PLACEHOLDER = "OWNER"  # stands for the user in metadata until publishing fills it in
# kaggle keeps these for itself and does not upload them; it unpacks archives, so that they are not what was sent.
NOT_UPLOADED = ("datapackage.json", "kernel-metadata.json", "model-metadata.json", "model-instance-metadata.json")
NOT_UPLOADED += tuple(f"dataset-cover-image.{ending}" for ending in ("jpg", "jpeg", "png", "webp"))
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".bz2", ".xz")
ENGLISH = os.environ | {"LC_ALL": "C"}  # what git says is looked at
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


def read_metadata(path: Path, made_by: str) -> dict[str, Any]:
    """Raises ValueError with what is wrong and what to do."""
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(metadata, ensure_ascii=False).encode("utf-8")  # half a letter cannot be written again
    except OSError as error:
        raise ValueError(f"{path} is missing: {made_by}.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): {made_by}.") from error
    identity = metadata.get("id") if isinstance(metadata, dict) else None
    if not isinstance(identity, str) or len(identity.split("/")) != 2 or not all(identity.split("/")):
        raise ValueError(f'{path}: "id" is {identity!r}; write "OWNER/SLUG".')
    for key in ("dataset_sources", "competition_sources"):
        given = metadata.get(key, [])
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            raise ValueError(f'{path}: "{key}" is {given!r}; write a list of names.')
    return metadata


def foreign_owner(where: Path, metadata: dict[str, Any], owner: str) -> list[str]:
    named = metadata["id"].split("/")[0]
    if named in (PLACEHOLDER, owner):
        return []
    return [f"{where} belongs to {named}, but kaggle is logged in as {owner}: write {PLACEHOLDER} there, or log in."]


def text_rules(where: Path, metadata: dict[str, Any], slug: str) -> list[str]:
    """Kaggle's rules on a dataset's names and licence."""
    reasons = []
    if not SLUG.fullmatch(slug) or not 6 <= len(slug) <= 50:
        reasons.append(f"{where}: the slug {slug} must be 6 to 50 small letters, digits and single hyphens.")
    title, subtitle, licenses = (metadata.get(key) for key in ("title", "subtitle", "licenses"))
    if not isinstance(title, str) or not 6 <= len(title) <= 50 or "INSERT_" in title:
        reasons.append(f"{where}: the title {title!r} must be 6 to 50 characters of your own.")
    if subtitle is not None and not (isinstance(subtitle, str) and 20 <= len(subtitle) <= 80):
        reasons.append(f"{where}: the subtitle {subtitle!r} must be 20 to 80 characters, or left out.")
    named = isinstance(licenses, list) and [one.get("name") for one in licenses if isinstance(one, dict)]
    if not named or len(named) != 1 or not named[0]:
        reasons.append(f'{where}: name exactly one licence: "licenses": [{{"name": "CC0-1.0"}}].')
    for key in ("id_no", "resources", "keywords"):
        if metadata.get(key):
            reasons.append(f"{where}: take {key} out; it would change which dataset or what is uploaded.")
    return reasons


class ListedFile(BaseModel):
    file: str = Field(pattern=r"^[^/]+$")
    sha256: str
    bytes: int


class Listing(BaseModel):
    """What of a manifest.json tells whether the files are those that it was written for."""

    name: str
    config_sha256: str
    folds: list[ListedFile]


def checksums(folder: Path) -> tuple[str, list[str]]:
    """The model's name, and how the folder's files differ from its manifest.json."""
    again = "export it again (python -m train export)"
    try:
        listing = Listing.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        return "", [f"{folder / MANIFEST} cannot be read ({error.strerror}): {again}."]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return "", [f"{folder / MANIFEST} cannot be read ({where or 'JSON'}: {first['msg']}): {again}."]
    expected: dict[str, tuple[int | None, str]] = {one.file: (one.bytes, one.sha256) for one in listing.folds}
    expected["config.json"] = (None, listing.config_sha256)
    reasons = []
    for name, (size, digest) in expected.items():
        path = folder / name
        if not path.is_file():
            reasons.append(f"{path} is missing: {again}.")
        elif size is not None and path.stat().st_size != size:
            reasons.append(f"{path} has {path.stat().st_size:,} bytes, the manifest says {size:,}: {again}.")
        elif sha256_of(path) != digest:
            reasons.append(f"{path} does not have the manifest's sha256: damaged or swapped; {again}.")
    return listing.name, reasons


def is_utf8(name: str) -> bool:
    try:
        return bool(name.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def read_dataset(folder: Path, owner: str) -> tuple[Dataset | None, list[str]]:
    """A dataset and why it cannot be uploaded."""
    if not folder.is_dir():
        return None, [f"{folder} is no folder: export the weights (python -m train export), or give --datasets."]
    where = folder / METADATA
    try:
        metadata = read_metadata(where, "python -m train export writes it")
    except ValueError as error:
        return None, [str(error)]
    slug = metadata["id"].split("/")[1]
    reasons = foreign_owner(where, metadata, owner) + text_rules(where, metadata, slug)
    inside = sorted(folder.iterdir())
    unusual = [path.name for path in inside if not path.is_file()]
    if unusual:
        reasons.append(
            f"{folder} holds {', '.join(unusual)}: kaggle drops folders and whatever is no file; make it flat."
        )
        return None, reasons
    if strange := [path.name for path in inside if not is_utf8(path.name)]:
        return None, [*reasons, f"{folder} holds {', '.join(map(repr, strange))}: rename what is no UTF-8."]
    for path in inside:
        if path.name in NOT_UPLOADED or path.suffix in ARCHIVES:
            reasons.append(f"{path} would be left out or unpacked by Kaggle: take it out.")
    reasons += [f"{path}: {found}; take it out." for path in inside if (found := secret_in(path))]
    model, wrong = checksums(folder)
    if wrong:
        return None, reasons + wrong
    return Dataset(folder, metadata, slug, model, fingerprint(folder)), reasons


def built_from_sources(folder: Path, code_file: str, blend_file: Path) -> list[str]:
    """How the kernel folder differs from what the sources and the blend give."""
    notebook = code_file == build.NOTEBOOK
    try:
        blend_json = blend_file.read_text(encoding="utf-8")
        kernel = build.build(build.ROOT, blend_json, notebook)
        metadata = build.metadata(build.ROOT, blend_json, build.owner_of(folder / build.METADATA), notebook)
        stale = build.check(folder, code_file, kernel, json.dumps(metadata, indent=2) + "\n")
    except build.BuildError as error:
        return [str(error)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:  # no text, or no notebook
        stale = [f"{folder} cannot be read ({error})."]
    again = f"python kernels/build.py{' --notebook' * notebook} --blend {blend_file} --out {folder}"
    return [f"{reason} Build it again ({again}), and run the sandbox again." for reason in stale]


def committed(folder: Path) -> list[str]:
    """A kernel folder that git knows must be what git holds, so that the ledger's commit says what was pushed."""
    git = ["git", "-C", str(folder)]
    try:
        tracked = subprocess.run([*git, "ls-files", "."], capture_output=True, text=True, env=ENGLISH)
        if tracked.returncode and "not a git repository" not in tracked.stderr:
            return [f"git does not tell whether {folder} is committed: {tracked.stderr.strip().splitlines()[0]}"]
        if tracked.returncode or not tracked.stdout:
            return []
        changed = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True).stdout
    except OSError:  # no git on this machine
        return []
    files = sorted({line[3:].split("/")[-1] for line in changed.splitlines()})
    return [f"{folder} differs from the last commit ({', '.join(files)}): commit it first."] if files else []


def kernel_rules(where: Path, metadata: dict[str, Any], code: Path, public: bool) -> list[str]:
    reasons, slug, title = [], metadata["id"].split("/")[1], str(metadata.get("title"))
    if metadata.get("enable_internet") is not False:
        reasons.append(f"{where}: enable_internet is not false; the competition demands it: build the kernel again.")
    if re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") != slug or len(slug) < 5:
        reasons.append(f"{where}: the title {title!r} does not make the slug {slug}: Kaggle would make another kernel.")
    if metadata.get("is_private") is not True and not public:
        reasons.append(f"{where}: the kernel would be public: set is_private to true, or give --public.")
    if "id_no" in metadata:
        reasons.append(f"{where}: take id_no out; it wins over the id.")
    if len(metadata.get("competition_sources") or []) != 1:
        reasons.append(f"{where}: competition_sources must name exactly one competition: build the kernel again.")
    size = code.stat().st_size
    if size > build.MAX_BYTES:
        reasons.append(f"{code} has {size:,} bytes; Kaggle takes {build.MAX_BYTES:,}: make the largest module smaller.")
    return reasons


def read_kernel(folder: Path, owner: str, blend_file: Path, public: bool) -> tuple[Kernel | None, list[str]]:
    """The kernel and why it cannot be pushed."""
    where = folder / build.METADATA
    try:
        metadata = read_metadata(where, "python kernels/build.py writes it")
    except ValueError as error:
        return None, [str(error)]
    code = folder / str(metadata.get("code_file"))
    if not code.is_file():
        return None, [f"{code}, the code_file of {where}, is missing: build the kernel (python kernels/build.py)."]
    reasons = foreign_owner(where, metadata, owner) + kernel_rules(where, metadata, code, public)
    reasons += built_from_sources(folder, code.name, blend_file) if blend_file.is_file() else []
    reasons += committed(folder)
    reasons += [f"{path}: {found}; take it out." for path in (where, code) if (found := secret_in(path))]
    competition = (metadata.get("competition_sources") or [""])[0]
    return Kernel(folder, metadata, metadata["id"].split("/")[1], code, competition, sha256_of(code)), reasons
