"""Runs to Kaggle dataset folders: flat, checksummed, with their recipe."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from common.schema import VOTES
from common.weights import CONFIG_FILE, MANIFEST_FILE, FoldEntry, Manifest, sha256_of
from train.evaluate import kl_columns
from train.run_folder import (
    CONFIG,
    FOLD,
    OOF,
    ROWS,
    RunError,
    finished_folds,
    fold_folder,
    probability_columns,
    read_run,
    read_table,
)

METADATA = "dataset-metadata.json"
DATASETS_META = Path(__file__).parent.parent / "datasets_meta"


def dataset_slug(name: str) -> str:
    return f"hms-{name}"


def default_metadata(slug: str) -> str:
    """dataset-metadata.json for a dataset that has no entry in datasets_meta/. Title: 6-50 characters."""
    title = slug.replace("-", " ").title()
    meta = {"id": f"OWNER/{slug}", "title": title, "licenses": [{"name": "CC0-1.0"}]}
    return json.dumps(meta, indent=1) + "\n"


def owner_of(file: Path) -> str:
    """Whose an earlier export of this dataset was: a name filled in for OWNER stays."""
    if not file.is_file():
        return "OWNER"
    return str(json.loads(file.read_text(encoding="utf-8"))["id"]).split("/")[0]


def read_facts(run: Path, fold: int) -> dict[str, Any]:
    """What training noted of a fold: where its first weights came from, versions, measured constants."""
    return json.loads((fold_folder(run, fold) / FOLD).read_text(encoding="utf-8"))


def fold_entry(run: Path, fold: int, file: Path) -> FoldEntry:
    rows, oof = read_table(run / ROWS), read_table(fold_folder(run, fold) / OOF)
    kl = {
        checkpoint: kl_columns(oof.select(VOTES).to_numpy(), oof.select(probability_columns(checkpoint)).to_numpy())[0]
        for checkpoint in ("last", "best")
    }
    return FoldEntry(
        file=file.name,
        sha256=sha256_of(file),
        bytes=file.stat().st_size,
        fold=fold,
        train_rows=rows.height - oof.height,
        validation_rows=oof.height,
        last_kl=round(kl["last"], 6),
        best_kl=round(kl["best"], 6),
        constants=read_facts(run, fold)["constants"],
    )


def export(run: Path, out: Path) -> Path:
    """Write OUT/<dataset slug>/ from a run; returns it. An earlier export of the same run is replaced whole."""
    experiment = read_run(run)
    slug = dataset_slug(experiment.name)
    checkpoint = experiment.training.checkpoint
    files = {fold: fold_folder(run, fold) / f"{checkpoint}.safetensors" for fold in finished_folds(run)}
    if missing := [str(file) for file in files.values() if not file.is_file()]:  # before anything is written
        raise RunError(f"{', '.join(missing)} missing: train this fold again")
    folder, temporary = out / slug, out / f".{slug}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    shutil.copyfile(run / CONFIG, temporary / CONFIG_FILE)
    entries = []
    for fold, source in files.items():
        file = temporary / f"fold{fold}.safetensors"
        shutil.copyfile(source, file)
        entries.append(fold_entry(run, fold, file))
    facts = read_facts(run, entries[0].fold)
    manifest = Manifest(
        name=experiment.name,
        config_sha256=sha256_of(temporary / CONFIG_FILE),
        checkpoint=checkpoint,
        initialised=facts["initialised"],
        folds=tuple(entries),
        versions=facts["versions"],
    )
    (temporary / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    owner = owner_of(folder / METADATA)
    written = DATASETS_META / slug / METADATA
    metadata = written.read_text(encoding="utf-8") if written.is_file() else default_metadata(slug)
    if not written.is_file():
        print(f"datasets_meta/{slug}/{METADATA} does not exist: wrote a default one; put it there to change it")
    (temporary / METADATA).write_text(metadata.replace("OWNER/", f"{owner}/", 1), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(temporary, folder)
    return folder
