"""What the sandbox shows a kernel, and what it hides: the kernel folder, the mounts, the plan of both."""

import hashlib
import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.files import sha256_of

PROJECT = Path(__file__).resolve().parents[2]
METADATA = "kernel-metadata.json"
DATASET_METADATA = "dataset-metadata.json"
OURS = ("truth", "store")  # a simulated competition's answers, the recordings stored for training: never mounted
LAYOUTS = {
    "plain": {"competition": "{slug}", "dataset": "{slug}"},
    "nested": {"competition": "competitions/{slug}", "dataset": "datasets/{owner}/{slug}"},
}
MIXED = "mixed"  # by turns: the competition plain, the first dataset nested, the second plain, and so on
NOTEBOOK = ".ipynb"


class SandboxError(Exception):
    """The kernel was not run. The message says what was found, what was expected and what to do."""


@dataclass(frozen=True)
class Kernel:
    script: Path
    competition: str  # slug
    datasets: list[str]  # slugs

    def source(self) -> str:
        """What Python runs: the script, or the notebook's code cells one after the other. Raises SandboxError."""
        text = self.script.read_text(encoding="utf-8")
        if self.script.suffix != NOTEBOOK:
            return text
        try:
            cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
            # A cell's source is one string, or its lines.
            return "\n\n".join("".join(cell["source"]) for cell in cells) + "\n"
        except (ValueError, TypeError, KeyError) as error:
            raise SandboxError(f"{self.script} is no notebook ({error!r}); run kernels/build.py --notebook.") from error


def read_json(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise SandboxError(f"{path} is missing; give {what}.")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise SandboxError(f"{path} is not a JSON object ({error}); fix it.") from error


def read_kernel(folder: Path) -> Kernel:
    meta = read_json(folder / METADATA, f"a kernel folder, one that holds {METADATA} (kernels/build.py makes one)")
    if meta.get("enable_internet") is not False:
        found = meta.get("enable_internet", "missing, which means true")
        raise SandboxError(f"{folder / METADATA}: enable_internet is {found}; the competition demands false.")
    competitions = meta.get("competition_sources") or []
    if len(competitions) != 1:
        raise SandboxError(f"{folder / METADATA}: competition_sources is {competitions}; name exactly one.")
    script = folder / str(meta.get("code_file"))
    if not script.is_file():
        raise SandboxError(f"{script}, the code_file of {METADATA}, is missing; run python kernels/build.py.")
    kind = "notebook" if script.suffix == NOTEBOOK else "script"
    if meta.get("kernel_type", kind) != kind:
        found = f"kernel_type is {meta['kernel_type']}, but {script.name} is a {kind}"
        raise SandboxError(f"{folder / METADATA}: {found}; Kaggle would refuse it: write {kind}.")
    return Kernel(script, competitions[0], [name.split("/")[:2][-1] for name in meta.get("dataset_sources", [])])


def entries(folder: Path, left_out: tuple[str, ...]) -> dict[str, Path]:
    """Name -> real path of all in a folder but some names and links that lead nowhere, where nothing can be mounted."""
    found = [path for path in sorted(folder.iterdir()) if path.name not in left_out]
    for path in found:
        if not os.path.exists(path):
            print(f"sandbox: {path} is a link that leads nowhere: not mounted")
    return {path.name: Path(os.path.realpath(path)) for path in found if os.path.exists(path)}


def identity(dataset: Path) -> tuple[str, str]:
    """Owner and slug, as dataset-metadata.json says, else by the folder's name."""
    if not (dataset / DATASET_METADATA).is_file():
        return "owner", dataset.resolve().name
    name = str(read_json(dataset / DATASET_METADATA, "a dataset folder").get("id"))
    owner, _, slug = name.partition("/")
    if not slug:
        raise SandboxError(f"{dataset / DATASET_METADATA}: id is {name}; write OWNER/SLUG.")
    return owner, slug


def fingerprint(folder: Path) -> str:
    """sha256 over the names and sha256 of a flat folder's files, whatever their order, dates and owner's name: a
    sandbox run and an upload of the same bytes share it."""
    files = sorted(path for path in folder.iterdir() if path.name != DATASET_METADATA)
    lines = [f"{path.name}\n{sha256_of(path)}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def fingerprints(datasets: list[Path]) -> dict[str, str | None]:
    """Slug -> what the dataset holds, as one number; None if it is not flat: uploading drops what lies in folders."""
    return {
        identity(folder)[1]: fingerprint(folder) if all(path.is_file() for path in folder.iterdir()) else None
        for folder in datasets
    }


def place(layout: str, number: int, kind: str) -> str:
    """Where below input/ the mount of this number goes, with {slug} and {owner} to be filled in."""
    return LAYOUTS[("plain", "nested")[number % 2] if layout == MIXED else layout][kind]


def plan_mounts(kernel: Kernel, competition: Path, datasets: list[Path], layout: str) -> dict[str, str]:
    """Path below input/ -> path on this machine, for each entry of the competition and the datasets."""
    for folder in (competition, *datasets):
        if not folder.is_dir():
            raise SandboxError(f"{folder} is no folder; give --competition and --datasets existing folders.")
    places = {place(layout, 0, "competition").format(slug=kernel.competition): entries(competition, OURS)}
    taken = {kernel.competition: competition}
    for number, folder in enumerate(datasets, start=1):
        owner, slug = identity(folder)
        if slug in taken:
            raise SandboxError(f"{taken[slug]} and {folder} both have the slug {slug}; give each its own id.")
        taken[slug] = folder
        # Kaggle keeps the metadata file for itself.
        where = place(layout, number, "dataset").format(owner=owner, slug=slug)
        places[where] = entries(folder, (DATASET_METADATA,))
    given = set(taken) - {kernel.competition}
    for slug in sorted(given - set(kernel.datasets)):
        print(f"sandbox: {slug} is not in the kernel's dataset_sources: Kaggle would not mount it")
    for slug in sorted(set(kernel.datasets) - given):
        print(f"sandbox: {slug} is in the kernel's dataset_sources but not in --datasets: not mounted")
    return {f"{place}/{name}": str(path) for place, found in places.items() for name, path in found.items()}


def refuse_lost_links(mounts: dict[str, str], hidden: list[str]) -> None:
    """A link inside a mounted folder that leads into what is hidden would be a missing file to the kernel."""
    for source in mounts.values():
        for path in Path(source).rglob("*"):
            leads_to = Path(os.path.realpath(path))  # a link that leads nowhere is a missing file anyway
            if os.path.islink(path) and os.path.exists(path) and any(map(leads_to.is_relative_to, hidden)):
                raise SandboxError(f"{path} links to a file hidden from the kernel; make it a hard link.")


def installed(packages: list[str]) -> list[str]:
    """Folders that the interpreter would import these packages from: another checkout, or a real install."""
    specs = [importlib.util.find_spec(name) for name in packages]
    places = [place for spec in specs if spec for place in spec.submodule_search_locations or ()]
    return sorted({str(Path(place).resolve()) for place in places})


def make_plan(stage: Path, kernel: Kernel, mounts: dict[str, str], competition: Path) -> dict[str, Any]:
    """What namespace.py and guard.py need to know; lays out the folders they start from."""
    hidden = [str(PROJECT), str(competition.resolve())]
    refuse_lost_links(mounts, [*hidden, "/tmp"])
    # The interpreter may live inside what is hidden, as .venv does.
    prefixes = sorted({str(Path(prefix).resolve()) for prefix in (sys.prefix, sys.base_prefix)})
    kept = [path for path in prefixes if any(Path(path).is_relative_to(cover) for cover in (*hidden, "/tmp"))]
    for name in ("root", "tmp", "kaggle/input", "kaggle/working", "kaggle/src"):
        (stage / name).mkdir(parents=True)
    (stage / "kaggle" / "src" / "script.py").write_text(kernel.source(), encoding="utf-8")
    packages = [path.parent.name for path in sorted(PROJECT.glob("*/__init__.py"))]
    return {
        "root": str(stage / "root"),
        "kaggle": str(stage / "kaggle"),
        "mounts": mounts,
        "hidden": hidden,
        "kept": kept,
        "packages": packages,
        "installed": installed(packages),
    }
