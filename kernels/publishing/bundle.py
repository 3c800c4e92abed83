"""What is published together: kernel, datasets and blend, checked against each other and against the sandbox run."""

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


class Refused(KitError):
    """Publishing did not begin. The message lists every reason."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("Nothing was uploaded:" + "".join(f"\n- {reason}" for reason in reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class Bundle:
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
        return []  # `read_bundle` says why


def repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def models_fit(blend: Blend, blend_file: Path, datasets: Sequence[Dataset]) -> list[str]:
    models = [dataset.model for dataset in datasets]
    reasons = [f"two datasets hold the model {name}: give one of them." for name in repeated(models)]
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
    named = set(kernel.metadata.get("dataset_sources", []))
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
        ran, own = dict(report["datasets"]), report["kernel"]
        failure, dropped = (own.get("failure"), list(own["dropped"])) if own else (None, [])
        passed, same_kernel = report["ok"] is True, report["kernel_sha256"] == kernel.sha256
    except OSError as error:
        return [f"no sandbox run in {report_file} ({error.strerror}): {again}."]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{report_file} is no report of this kit's sandbox ({error!r}; an older one's?): {again}."]
    given = {dataset.slug: dataset.fingerprint for dataset in datasets}
    other = sorted(slug for slug in {*ran, *given} if ran.get(slug) != given.get(slug))
    reasons = [] if passed else [f"the sandbox run in {report_file} failed: fix it and {again}."]
    reasons += [] if same_kernel else [f"the sandbox ran another kernel than {kernel.code}: {again}."]
    reasons += [f"the sandbox ran other weights of {', '.join(other)}: {again}."] if other else []
    reasons += [] if own else [f"the kernel left no report of its own in the sandbox: {again}."]
    reasons += [f"the kernel ended early in the sandbox ({failure}): fix it and {again}."] if failure else []
    reasons += [f"the kernel left something out in the sandbox ({what}): fix it and {again}." for what in dropped]
    return reasons


def read_bundle(
    kernel_folder: Path,
    folders: Sequence[Path],
    blend_file: Path,
    sandbox: Path,
    user: str,
) -> Bundle:
    """What is to be published, all of it checked. Raises Refused with every reason against it."""
    reasons: list[str] = []
    blend = None
    try:
        blend = load_blend(blend_file)
    except BlendError as error:
        reasons.append(str(error))
    kernel, wrong = read_kernel(kernel_folder, user, blend_file)
    reasons += wrong
    if not folders:
        how = "make one of your models (python -m train blend), or name the datasets with --datasets"
        reasons.append(f"{blend_file} names no model, so the datasets are not known: {how}.")
    read = [read_dataset(folder, user) for folder in folders]
    reasons += [reason for _, wrong in read for reason in wrong]
    datasets = [dataset for dataset, _ in read if dataset]
    twice = repeated([dataset.slug for dataset in datasets])
    reasons += [f"two datasets have the slug {slug}: give each its own." for slug in twice]
    if len(datasets) == len(folders) and folders:  # else what does not fit is what could not be read
        if blend:
            reasons += models_fit(blend, blend_file, datasets)
        if kernel:
            reasons += sources_fit(kernel, datasets)
            reasons += passed_sandbox(sandbox / "report.json", kernel, datasets)
    if reasons or kernel is None or blend is None:
        raise Refused(reasons)
    return Bundle(kernel, tuple(datasets), blend_file, blend)


def copy_for_upload(
    target: Path, metadata_name: str, metadata: dict[str, Any], user: str, files: Sequence[Path]
) -> None:
    """A folder that kaggle uploads: `files` as links, and the metadata for this user. The original stays as it is."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in files:
        try:
            os.link(file.resolve(), target / file.name)
        except OSError:  # another file system, or one without hard links; kaggle follows either
            (target / file.name).symlink_to(file.resolve())
    text = json.dumps(metadata, indent=2, ensure_ascii=False).replace(f'"{PLACEHOLDER}/', f'"{user}/')
    (target / metadata_name).write_text(text + "\n", encoding="utf-8")


def prepare_upload(bundle: Bundle, user: str, folder: Path) -> None:
    """The folders to be uploaded, each under its slug below `folder`."""
    for dataset in bundle.datasets:
        files = [path for path in sorted(dataset.folder.iterdir()) if path.name != METADATA]
        copy_for_upload(folder / dataset.slug, METADATA, dataset.metadata, user, files)
    kernel = bundle.kernel
    copy_for_upload(folder / kernel.slug, build.METADATA, kernel.metadata, user, [])
    shutil.copyfile(kernel.code, folder / kernel.slug / kernel.code.name)  # no link: what is pushed cannot change
