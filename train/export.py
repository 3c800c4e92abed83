"""Runs to Kaggle dataset folders: flat, checksummed, with their recipe."""

import json
import os
import shutil
from pathlib import Path

from common.files import sha256_of, write_text
from common.recipe import as_json
from common.schema import REGIONS, VOTES
from common.weights import CONFIG_FILE, MANIFEST_FILE, FoldEntry, Manifest
from train.engine.run_folder import (
    OOF,
    FoldModel,
    RunError,
    check_model,
    finished_models,
    probability_columns,
    read_facts,
    read_run,
    read_table,
)
from train.evaluate.scores import kl_columns
from train.provenance import owner_of

METADATA = "dataset-metadata.json"
DATASETS_META, CONFIGS = Path(__file__).parents[1] / "datasets_meta", Path(__file__).parent / "configs"


def dataset_slug(name: str) -> str:
    return f"hms-{name}"


def metadata_of(name: str) -> str:
    """dataset-metadata.json of an experiment's weights, from datasets_meta/: its only home.

    A missing one is made, and put there when the experiment is one of train/configs. Title: 6-50 characters.
    """
    slug = dataset_slug(name)
    home = DATASETS_META / slug / METADATA
    if home.is_file():
        return home.read_text(encoding="utf-8")
    title = slug.replace("-", " ").title()
    text = json.dumps({"id": f"OWNER/{slug}", "title": title, "licenses": [{"name": "CC0-1.0"}]}, indent=1) + "\n"
    if DATASETS_META.is_dir() and (CONFIGS / f"{name}.toml").is_file():
        home.parent.mkdir(exist_ok=True)
        write_text(home, text)
        print(f"wrote datasets_meta/{slug}/{METADATA}: change the dataset's title or licence there")
    return text


def fold_entry(run: Path, model: FoldModel, file: Path) -> FoldEntry:
    """The manifest's entry of one model; the full fit has no score."""
    facts, scores = read_facts(run, model), {}
    if model.held_out:
        oof = read_table(run / model.name / OOF)
        votes = oof.select(VOTES).to_numpy()
        for checkpoint in ("last", "best"):
            kl = kl_columns(votes, oof.select(probability_columns(checkpoint)).to_numpy())[0]
            scores[f"{checkpoint}_kl"] = round(kl, 6)
        scores["validation_rows"] = oof.height
    return FoldEntry(
        file=file.name,
        sha256=sha256_of(file),
        bytes=file.stat().st_size,
        fold=model.held_out[0] if model.held_out else None,
        seed=model.seed,
        train_rows=facts["train_rows"],
        constants=facts["constants"],
        **scores,
    )


def weights_of(run: Path, checkpoint: str) -> dict[FoldModel, Path]:
    """The file of each finished model that is exported: the full fit's after its last epoch, for it has no rows to
    choose the best by. Raises RunError."""
    models = [model for model in finished_models(run) if model.exported]
    files = {m: run / m.name / f"{checkpoint if m.held_out else 'last'}.safetensors" for m in models}
    if not files:
        raise RunError(f"{run}: no fold and no full fit is finished; `python -m train run ... --resume` goes on")
    for model in files:
        check_model(run, model)
    return files


def export(run: Path, out: Path) -> Path:
    """Write OUT/<dataset slug>/ from a run; returns it. An earlier export of the same run is replaced whole."""
    experiment = read_run(run)
    slug = dataset_slug(experiment.name)
    checkpoint = experiment.training.checkpoint
    files = weights_of(run, checkpoint)  # before anything is written
    folder, temporary = out / slug, out / f".{slug}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_text(temporary / CONFIG_FILE, as_json(experiment.recipe))
    entries = []
    for model, source in files.items():
        file = temporary / f"{model.name}.safetensors"
        shutil.copyfile(source, file)
        entries.append(fold_entry(run, model, file))
    facts = read_facts(run, next(iter(files)))
    manifest = Manifest(
        name=experiment.name,
        config_sha256=sha256_of(temporary / CONFIG_FILE),
        checkpoint=checkpoint,
        initialised=facts["initialised"],
        folds=tuple(entries),
        versions=facts["versions"],
        regions=REGIONS,
        training=experiment.training.model_dump(mode="json", exclude_defaults=True),
    )
    (temporary / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    owner = owner_of(folder / METADATA)
    metadata = metadata_of(experiment.name).replace("OWNER/", f"{owner}/", 1)
    (temporary / METADATA).write_text(metadata, encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(temporary, folder)
    return folder
