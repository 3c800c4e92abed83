"""Runs to Kaggle dataset folders: flat, checksummed, with their recipe."""

import json
import os
import shutil
from pathlib import Path

from common.files import sha256_of
from common.schema import REGIONS, VOTES
from common.weights import CONFIG_FILE, MANIFEST_FILE, FoldEntry, Manifest
from train.evaluate import kl_columns
from train.kit_commit import owner_of
from train.run_folder import (
    CONFIG,
    OOF,
    Member,
    RunError,
    check_member,
    finished_members,
    probability_columns,
    read_facts,
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


def fold_entry(run: Path, member: Member, file: Path) -> FoldEntry:
    """The manifest's entry of one model; the full fit has no score."""
    facts, scores = read_facts(run, member), {}
    if member.held_out:
        oof = read_table(run / member.name / OOF)
        votes = oof.select(VOTES).to_numpy()
        for checkpoint in ("last", "best"):
            kl = kl_columns(votes, oof.select(probability_columns(checkpoint)).to_numpy())[0]
            scores[f"{checkpoint}_kl"] = round(kl, 6)
        scores["validation_rows"] = oof.height
    return FoldEntry(
        file=file.name,
        sha256=sha256_of(file),
        bytes=file.stat().st_size,
        fold=member.held_out[0] if member.held_out else None,
        seed=member.seed,
        train_rows=facts["train_rows"],
        constants=facts["constants"],
        **scores,
    )


def weights_of(run: Path, checkpoint: str) -> dict[Member, Path]:
    """The file of each finished model that is exported: the full fit's after its last epoch, for it has no rows to
    choose the best by. Raises RunError."""
    members = [member for member in finished_members(run) if member.exported]
    files = {m: run / m.name / f"{checkpoint if m.held_out else 'last'}.safetensors" for m in members}
    if not files:
        raise RunError(f"{run}: no fold and no full fit is finished; `python -m train run ... --resume` goes on")
    for member in files:
        check_member(run, member)
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
    shutil.copyfile(run / CONFIG, temporary / CONFIG_FILE)
    entries = []
    for member, source in files.items():
        file = temporary / f"{member.name}.safetensors"
        shutil.copyfile(source, file)
        entries.append(fold_entry(run, member, file))
    facts = read_facts(run, next(iter(files)))
    manifest = Manifest(
        name=experiment.name,
        config_sha256=sha256_of(temporary / CONFIG_FILE),
        checkpoint=checkpoint,
        initialised=facts["initialised"],
        folds=tuple(entries),
        versions=facts["versions"],
        regions=REGIONS,
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
