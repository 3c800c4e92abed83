"""What is published together: kernel, datasets and blend, checked against each other and against the sandbox."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import build
from common.blend import Blend, BlendError, load_blend
from common.errors import KitError
from publishing.checks import METADATA, PLACEHOLDER, Dataset, Kernel, read_dataset, read_kernel

GIGABYTE = 1e9


class Refused(KitError):
    """Publishing did not begin. The message lists every reason."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("Nothing was uploaded:" + "".join(f"\n- {reason}" for reason in reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class Parcel:
    kernel: Kernel
    datasets: tuple[Dataset, ...]
    blend_file: Path
    blend: Blend

    def weights_sha256(self) -> str:
        """All weights as one number."""
        lines = sorted(f"{dataset.slug}\n{dataset.fingerprint}\n" for dataset in self.datasets)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def fingerprints(self) -> dict[str, str]:
        return {dataset.slug: dataset.fingerprint for dataset in self.datasets}


def default_datasets(blend_file: Path, weights: Path) -> list[Path]:
    """The weights folders of the models that the blend names."""
    try:
        return [weights / f"hms-{name}" for name in load_blend(blend_file).models]
    except BlendError:
        return []  # said by `pack`


def models_fit(blend: Blend, blend_file: Path, datasets: Sequence[Dataset]) -> list[str]:
    models = [dataset.model for dataset in datasets]
    twice = sorted({name for name in models if models.count(name) > 1})
    reasons = [f"two datasets hold the model {name}: give one of them." for name in twice]
    for name in blend.models:
        if name not in models:
            reasons.append(f"{blend_file} names the model {name}, but no dataset holds it: give it with --datasets.")
    for dataset in datasets:
        if blend.models and dataset.model not in blend.models:
            reasons.append(f"{dataset.folder} holds {dataset.model}, which {blend_file} does not name: leave it out.")
    return reasons


def sources_fit(kernel: Kernel, datasets: Sequence[Dataset]) -> list[str]:
    """The kernel's dataset_sources against the datasets that are published."""
    where = kernel.folder / build.METADATA
    owner = kernel.metadata["id"].split("/")[0]
    wanted = {f"{owner}/{dataset.slug}" for dataset in datasets}
    named = set(kernel.metadata.get("dataset_sources") or [])
    reasons = [f"{where} names the dataset {name}, which is not given with --datasets." for name in named - wanted]
    reasons += [f"{where} does not name the dataset {name}: build the kernel again." for name in wanted - named]
    return sorted(reasons)


def passed_sandbox(report_file: Path, kernel: Kernel, datasets: Sequence[Dataset]) -> list[str]:
    """Whether the sandbox ran exactly this kernel on exactly these weights, and well."""
    folders = " ".join(str(dataset.folder) for dataset in datasets)
    again = f"run python kernels/sandbox.py {kernel.folder} --competition DIR --datasets {folders} "
    again += f"--out {report_file.parent}"
    try:
        report: dict[str, Any] = json.loads(report_file.read_text(encoding="utf-8"))
        reasons = [] if report["ok"] is True else [f"the sandbox run in {report_file} failed: mend it and {again}."]
        if report["kernel_sha256"] != kernel.sha256:
            reasons.append(f"the sandbox ran another kernel than {kernel.code}: {again}.")
        ran, given = dict(report["datasets"]), {dataset.slug: dataset.fingerprint for dataset in datasets}
    except OSError as error:
        return [f"no sandbox run in {report_file} ({error.strerror}): {again}."]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return [f"{report_file} is no report of this kit's sandbox ({error!r}; an older one's?): {again}."]
    other = sorted(slug for slug in {*ran, *given} if ran.get(slug) != given.get(slug))
    if other:
        reasons.append(f"the sandbox ran other weights of {', '.join(other)}: {again}.")
    own = report.get("kernel")
    dropped = own.get("dropped", []) if isinstance(own, dict) else None
    if not isinstance(own, dict) or not isinstance(dropped, list):
        return [*reasons, f"the kernel left no report of its own in the sandbox: {again}."]
    if own.get("failure"):
        reasons.append(f"the kernel ended early in the sandbox ({own['failure']}): mend it and {again}.")
    reasons += [f"the kernel left something out in the sandbox ({what}): mend it and {again}." for what in dropped]
    return reasons


def pack(
    kernel_folder: Path,
    folders: Sequence[Path],
    blend_file: Path,
    sandbox: Path,
    owner: str,
    public: bool,
    max_gb: float,
) -> Parcel:
    """What is to be published, all of it checked. Raises Refused with every reason against it."""
    reasons: list[str] = []
    blend = None
    try:
        blend = load_blend(blend_file)
    except BlendError as error:
        reasons.append(str(error))
    kernel, wrong = read_kernel(kernel_folder, owner, blend_file, public)
    reasons += wrong
    if not folders:
        made = "make one of your models (python -m train blend), or name the datasets with --datasets"
        reasons.append(f"{blend_file} names no model, so the datasets are not known: {made}.")
    read = [read_dataset(folder, owner) for folder in folders]
    reasons += [reason for _, wrong in read for reason in wrong]
    datasets = [dataset for dataset, _ in read if dataset]
    slugs = [dataset.slug for dataset in datasets]
    reasons += [
        f"two datasets have the slug {slug}: give each its own." for slug in sorted({*slugs}) if slugs.count(slug) > 1
    ]
    size = sum(path.stat().st_size for dataset in datasets for path in dataset.folder.iterdir())
    if size > max_gb * GIGABYTE:
        reasons.append(f"the datasets have {size / GIGABYTE:.2f} GB together, more than --max-gb {max_gb:g}.")
    if len(datasets) == len(folders) and folders:  # else what does not fit is what could not be read
        if blend:
            reasons += models_fit(blend, blend_file, datasets)
        if kernel:
            reasons += sources_fit(kernel, datasets)
            reasons += passed_sandbox(sandbox / "report.json", kernel, datasets)
    if reasons or kernel is None or blend is None:
        raise Refused(reasons)
    return Parcel(kernel, tuple(datasets), blend_file, blend)


def for_owner(metadata: dict[str, Any], owner: str) -> str:
    """The metadata file with the user filled in."""
    text = json.dumps(metadata, indent=2, ensure_ascii=False)
    return text.replace(f'"{PLACEHOLDER}/', f'"{owner}/') + "\n"


def lay_out(target: Path, metadata_name: str, metadata: str, files: Sequence[Path]) -> None:
    """A folder that kaggle uploads: `files` linked, the metadata written. The user's own folder stays as it is."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in files:
        try:
            os.link(file.resolve(), target / file.name)
        except OSError:  # another file system, or one without hard links; kaggle follows either
            (target / file.name).symlink_to(file.resolve())
    (target / metadata_name).write_text(metadata, encoding="utf-8")


def stage(parcel: Parcel, owner: str, folder: Path) -> dict[str, Path]:
    """The folders to be uploaded, below `folder`: by slug, and the kernel's under its own."""
    places = {}
    for dataset in parcel.datasets:
        places[dataset.slug] = folder / dataset.slug
        files = [path for path in sorted(dataset.folder.iterdir()) if path.name != METADATA]
        lay_out(places[dataset.slug], METADATA, for_owner(dataset.metadata, owner), files)
    kernel = parcel.kernel
    places[kernel.slug] = folder / kernel.slug
    lay_out(places[kernel.slug], build.METADATA, for_owner(kernel.metadata, owner), [])
    shutil.copyfile(kernel.code, places[kernel.slug] / kernel.code.name)  # no link: what is pushed cannot change
    return places
