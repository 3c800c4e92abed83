"""A model's folds with their recipe: one flat folder that is uploaded as a Kaggle dataset.

config.json         the recipe: name, input, model. Exports of earlier versions of the kit have the whole experiment
                    here, with "training" and "published"; they still load
fold0.safetensors   weights of fold 0, and so on; fold0-seed1.safetensors of a second seed, full.safetensors of a
                    model trained on all rows. All of them count alike
manifest.json       sha256 and bytes of each file, scores and row counts of each model, versions, how it was trained
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from common.errors import KitError, other_regions
from common.files import sha256_of
from common.inputs.base import Constants, with_constants
from common.models.build import build_model
from common.recipe import Recipe, parse_recipe
from common.schema import FORMER_REGIONS, REGIONS
from common.strict import ConfigError, Strict, explain

CONFIG_FILE, MANIFEST_FILE = "config.json", "manifest.json"
OF_TRAINING = ("training", "published")  # keys that config.json had in exports of earlier versions of the kit
FORMAT = 1  # of a weights folder; another one is refused, not guessed at


class WeightsError(KitError):
    """A weights folder that cannot be trusted. The message names the file and what to do."""


class FoldEntry(Strict):
    """A file of weights: one trained model."""

    file: str
    sha256: str
    bytes: int
    fold: int | None  # held out; None: trained on all rows, so that nothing is left to score it
    seed: int = 0
    train_rows: int
    validation_rows: int = 0
    last_kl: float | None = None  # out of fold, all label rows, after the last epoch
    best_kl: float | None = None  # of the best epoch, chosen on this fold: optimistic
    constants: tuple[Constants, ...] = ()  # measured on this fold's training rows, where the input asks for them


class Manifest(Strict):
    """What a weights folder holds, and how it was made."""

    format: int = FORMAT
    name: str
    config_sha256: str
    checkpoint: str  # which of the two the weights are: "last" or "best"
    initialised: str  # "random", or where the backbone's pretrained weights came from
    folds: tuple[FoldEntry, ...]
    versions: dict[str, str]
    regions: tuple[str, ...] = FORMER_REGIONS  # the order in which the nets saw them
    training: dict[str, Any] = Field(default={})  # how, for people: what differs from the defaults; nothing reads it


@dataclass(frozen=True)
class ModelFolds:
    """A recipe and its fold models in evaluation mode, each with the input that it sees; `dropped` says
    which files were left out and why."""

    experiment: Recipe
    models: tuple[nn.Module, ...]
    inputs: tuple[Any, ...]  # the recipe's, with the fold's measured constants
    entries: tuple[FoldEntry, ...]  # the manifest's, of each model
    dropped: tuple[str, ...] = ()


def named(what: str, error: Exception) -> str:
    """An error as a line: ours say what is wrong by themselves, of others the kind is told."""
    return str(error) if isinstance(error, WeightsError) else f"{what}: {type(error).__name__}: {error}"


def find_weights(folders: list[Path]) -> list[Path]:
    """Weights folders among `folders` and right below them. Raises WeightsError where there is none."""
    found: list[Path] = []
    for folder in folders:
        here = [folder] if (folder / MANIFEST_FILE).is_file() else []
        below = sorted(path.parent for path in folder.glob(f"*/{MANIFEST_FILE}"))
        if not here and not below:
            raise WeightsError(
                f"{folder}: no {MANIFEST_FILE} here or one folder below; "
                "give the folders that `python -m train export` wrote"
            )
        found += here or below
    return found


def read_manifest(folder: Path) -> tuple[Manifest, Recipe]:
    """The manifest and the recipe it vouches for. Raises WeightsError."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
        config = (folder / CONFIG_FILE).read_bytes()
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            raise WeightsError(f"{folder.name}: its recipe cannot be read ({error.strerror})") from error
        raise WeightsError(f"{folder.name}: {Path(error.filename).name} is missing; export it again") from error
    except ValidationError as error:
        found = explain(error, Manifest)
        raise WeightsError(f"{folder.name}/{MANIFEST_FILE} is damaged; export it again:\n  {found}") from error
    if manifest.format != FORMAT:
        found = f"{folder.name}/{MANIFEST_FILE} has format {manifest.format}, this kit reads format {FORMAT}"
        raise WeightsError(f"{found}; export it again, or build the kernel with the kit that exported it")
    if manifest.regions != REGIONS:
        raise WeightsError(f"{folder.name}: {other_regions(manifest.regions)}, and export it")
    if hashlib.sha256(config).hexdigest() != manifest.config_sha256:
        raise WeightsError(f"{folder.name}/{CONFIG_FILE} is not the one these weights were made with; export again")
    try:
        values = {key: value for key, value in json.loads(config).items() if key not in OF_TRAINING}
        recipe = parse_recipe(values, CONFIG_FILE, Recipe)
    except (ValueError, AttributeError, RecursionError) as error:  # no text, no JSON, no object, or nested endlessly
        raise WeightsError(f"{folder.name}/{CONFIG_FILE} cannot be read ({error}); export it again") from error
    except ConfigError as error:
        raise WeightsError(f"{folder.name}: {error}\n(written by another version of the kit?)") from error
    if recipe.name != manifest.name:
        raise WeightsError(f"{folder.name}: {CONFIG_FILE} is of {recipe.name}, {MANIFEST_FILE} of {manifest.name}")
    return manifest, recipe


def load_fold(folder: Path, entry: FoldEntry, recipe: Recipe) -> tuple[nn.Module, Any]:
    """One fold's model, checked against the manifest, and its input. Raises WeightsError."""
    path = folder / entry.file
    label = f"{folder.name}/{entry.file}"
    if not path.is_file():
        raise WeightsError(f"{label} is missing; upload or export it again")
    if path.stat().st_size != entry.bytes:
        raise WeightsError(f"{label} has {path.stat().st_size} bytes, the manifest says {entry.bytes}: truncated?")
    if sha256_of(path) != entry.sha256:
        raise WeightsError(f"{label} does not have the manifest's sha256: damaged or swapped with another file")
    try:
        input_config = with_constants(recipe.input, entry.constants)
    except ValueError as error:
        raise WeightsError(f"{label}: {error} in {MANIFEST_FILE}; export it again") from error
    model = build_model(recipe)
    try:
        tensors = load_file(path)
        model.load_state_dict(tensors)
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{label} does not fit {recipe.name}: {error}") from error
    for name, kept in model.state_dict().items():
        if (values := tensors[name]).dtype != kept.dtype:
            raise WeightsError(f"{label} holds {name} as {values.dtype} instead of {kept.dtype}: export it again")
        if not values.isfinite().all():
            raise WeightsError(f"{label} holds numbers that are not finite, in {name}: train that fold again")
    return model.eval(), input_config


def load_weights(folder: Path, device: torch.device, forgiving: bool = False) -> ModelFolds:
    """All folds of a weights folder on `device`.

    Strict: the first fault raises WeightsError with its name. Forgiving: a faulty fold is left out
    and named in `dropped`; WeightsError only when no fold is left or the recipe itself is unusable.
    """
    manifest, recipe = read_manifest(folder)
    entries: list[FoldEntry] = []
    models, inputs, dropped = [], [], []
    for entry in manifest.folds:
        try:
            if any((entry.fold, entry.seed) == (other.fold, other.seed) for other in entries):
                which = f"fold {entry.fold}, seed {entry.seed}"
                raise WeightsError(f"{folder.name}/{entry.file}: {which} twice in {MANIFEST_FILE}; export it again")
            model, input_config = load_fold(folder, entry, recipe)
            models.append(model.to(device))
            inputs.append(input_config)
            entries.append(entry)
        except Exception as error:  # also what is no damage: a backbone that timm lacks, a disk that fails
            if not forgiving:
                raise
            dropped.append(named(f"{folder.name}/{entry.file}", error))
    if not models:
        raise WeightsError(f"{folder.name}: no usable fold: {'; '.join(dropped) or 'the manifest lists none'}")
    return ModelFolds(recipe, tuple(models), tuple(inputs), tuple(entries), tuple(dropped))
