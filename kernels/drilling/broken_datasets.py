"""Datasets as they should not arrive on Kaggle: sound ones that list faulty folds too, and faulty ones beside them.

What survives is exactly the sound ensemble, so a run on these must answer as a run on the sound datasets does.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from common.files import sha256_of
from common.weights import CONFIG_FILE, MANIFEST_FILE
from drilling.damage import flipped, half
from sandboxing.mounts import DATASET_METADATA as METADATA
from train.provenance import owner_of

NEVER_GIVEN = "drill-absent"


@dataclass(frozen=True)
class DatasetFault:
    """A fault and what the report must say was dropped for it, with "..." for what lies between."""

    name: str
    became: str
    dropped: tuple[str, ...]


class Dataset:
    """A copy of a weights folder that may be broken."""

    def __init__(self, source: Path, out: Path, slug: str) -> None:
        self.folder = Path(shutil.copytree(source, out / slug))
        self.write(METADATA, {"id": f"{owner_of(self.folder / METADATA)}/{slug}"})

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def write(self, name: str, content: Any) -> None:
        (self.folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")

    def change_manifest(self, **changes: Any) -> None:
        self.write(MANIFEST_FILE, self.read(MANIFEST_FILE) | changes)

    def change_config(self, **changes: Any) -> None:
        """And the manifest vouches for it."""
        self.write(CONFIG_FILE, self.read(CONFIG_FILE) | changes)
        self.change_manifest(config_sha256=sha256_of(self.folder / CONFIG_FILE))

    def list_fold(self, file: str, content: bytes, first: bool) -> Path:
        """One fold more that the manifest vouches for, before or after all others."""
        path = self.folder / file
        path.write_bytes(content)
        folds = self.read(MANIFEST_FILE)["folds"]
        entry = folds[0] | {"file": file, "fold": 100 + len(folds), "sha256": sha256_of(path), "bytes": len(content)}
        self.change_manifest(folds=[entry, *folds] if first else [*folds, entry])
        return path


def another_model(source: Path, out: Path, name: str) -> Dataset:
    """A sound dataset of a model of its own, with the first fold of `source`."""
    dataset = Dataset(source, out, f"hms-{name}")
    folds = dataset.read(MANIFEST_FILE)["folds"]
    for entry in folds[1:]:
        (dataset.folder / entry["file"]).unlink()
    dataset.change_manifest(name=name, folds=folds[:1])
    dataset.change_config(name=name)
    return dataset


def not_finite(fold: bytes) -> bytes:
    tensors = load(fold)
    floats = {name for name, values in tensors.items() if values.dtype.kind == "f"}
    return save({name: values * np.nan if name in floats else values for name, values in tensors.items()})


OTHER_NET = save({"classifier": np.zeros(3, dtype=np.float32)})
# Name -> what lies there, made of a sound fold; or what is done to the file that the manifest vouches for; and what is
# said of it.
FOLDS: dict[str, tuple[Callable[[bytes], bytes] | None, Callable[[Path], None] | None, str]] = {
    "a fold cut short": (None, half, "has ... bytes, the manifest says ...: truncated?"),
    "a fold with a flipped byte": (None, flipped, "does not have the manifest's sha256: ..."),
    "a fold not uploaded": (None, Path.unlink, "is missing; ..."),
    "a fold of another net": (lambda _: OTHER_NET, None, "does not fit ..."),
    "a fold that is no safetensors": (lambda _: bytes(range(256)) * 16, None, "does not fit ..."),
    "a fold that was trained to NaN": (not_finite, None, "holds numbers that are not finite, in ..."),
}


def break_folds(datasets: list[Dataset]) -> list[DatasetFault]:
    """Each faulty fold goes to one dataset after the other, before and after its sound ones."""
    faults = []
    for number, (name, (content, damage, said)) in enumerate(FOLDS.items()):
        dataset = datasets[number % len(datasets)]
        sound = next(entry["file"] for entry in dataset.read(MANIFEST_FILE)["folds"] if "drill" not in entry["file"])
        file = f"drill{number}.safetensors"
        fold = (dataset.folder / sound).read_bytes()
        path = dataset.list_fold(file, content(fold) if content else fold, first=number % 4 < 2)
        if damage:
            damage(path)
        faults.append(DatasetFault(name, "fold left out", (f"{dataset.folder.name}/{file} {said}",)))
    twice = datasets[0].read(MANIFEST_FILE)["folds"]
    again = next(entry for entry in twice if "drill" not in entry["file"])
    datasets[0].change_manifest(folds=[*twice, again])
    listed = f"{datasets[0].folder.name}/{again['file']}: fold ..., seed ... twice in manifest.json; ..."
    return [*faults, DatasetFault("a fold listed twice", "counted once", (listed,))]


def cut_all_folds(dataset: Dataset) -> None:
    for entry in dataset.read(MANIFEST_FILE)["folds"]:
        half(dataset.folder / entry["file"])


# Model -> the fault, what is done to its dataset, what is said of it beside that the blend wants it.
MODELS: dict[str, tuple[str, Callable[[Dataset], object], tuple[str, ...]]] = {
    "drill-config": (
        "config.json damaged",
        lambda dataset: half(dataset.folder / CONFIG_FILE),
        ("hms-drill-config/config.json is not the one these weights were made with...",),
    ),
    "drill-no-config": (
        "config.json not uploaded",
        lambda dataset: (dataset.folder / CONFIG_FILE).unlink(),
        ("hms-drill-no-config: config.json is missing...",),
    ),
    "drill-newer": (
        "config.json with an unknown key",
        lambda dataset: dataset.change_config(colour="green"),
        ("hms-drill-newer: ...colour...",),
    ),
    "drill-format": (
        "manifest.json of another format",
        lambda dataset: dataset.change_manifest(format=999),
        ("hms-drill-format/manifest.json has format 999, ...",),
    ),
    "drill-manifest": (
        "manifest.json damaged",
        lambda dataset: half(dataset.folder / MANIFEST_FILE),
        ("hms-drill-manifest/manifest.json is damaged...",),
    ),
    "drill-swapped": (
        "manifest.json of another model",
        lambda dataset: dataset.change_manifest(name="drill-other"),
        ("hms-drill-swapped: ...drill-swapped...drill-other...",),
    ),
    "drill-bare": (
        "no manifest.json",
        lambda dataset: (dataset.folder / MANIFEST_FILE).unlink(),
        (),
    ),
    "drill-folds": ("every fold damaged", cut_all_folds, ("hms-drill-folds: no usable fold: ...",)),
}


def wanted(name: str) -> str:
    return f"the blend wants {name}, its weights were not given"


def break_datasets(sound: dict[str, Path], out: Path) -> tuple[list[Path], list[str], list[DatasetFault]]:
    """Model -> sound folder. Returns the broken folders, the models a blend is to name beside the sound ones, and
    the faults."""
    datasets = [Dataset(folder, out, folder.name) for folder in sound.values()]
    faults = break_folds(datasets)
    # The smallest is copied most.
    name, source = min(sound.items(), key=lambda item: sum(path.stat().st_size for path in item[1].iterdir()))
    for model, (fault, damage, said) in MODELS.items():
        dataset = another_model(source, out, model)
        damage(dataset)
        datasets.append(dataset)
        faults.append(DatasetFault(fault, "model left out", (*said, wanted(model))))
    faults.append(DatasetFault("a dataset not attached", "model left out", (wanted(NEVER_GIVEN),)))
    datasets.append(another_model(source, out, "drill-stranger"))
    stranger = "weights of drill-stranger were given, the blend does not name it"
    faults.append(DatasetFault("a dataset the blend does not know", "model left out", (stranger,)))
    datasets.append(Dataset(source, out, f"{source.name}-copy"))
    faults.append(DatasetFault("a model twice", "one of them used", (f"...: a second copy of {name}",)))
    return [dataset.folder for dataset in datasets], [*MODELS, NEVER_GIVEN], faults
