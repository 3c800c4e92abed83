"""Weights travel with their recipe: what export writes, what load checks, what a fault is called."""

import hashlib
import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from conftest import EXPERIMENTS
from safetensors.torch import load_file, save

from common.inputs.build import build_input
from common.models.build import build_model
from common.predict import predict
from common.weights import WeightsError, find_weights, load_weights
from infer.submit import submit
from train.data.labels import label_rows
from train.data.windows import TrainingWindows
from train.engine.run_folder import read_run
from train.export import export, metadata_of

CPU = torch.device("cpu")
IMAGE, WAVE = "hms-tiny-image", "hms-tiny-wave"


@pytest.fixture
def wave(weights):
    return weights / WAVE


def vouched(folder, file, content):
    """A file of a fold or the recipe, and a manifest that vouches for it: only its content can tell."""
    (folder / file).write_bytes(content)
    manifest, sha256 = json.loads((folder / "manifest.json").read_text()), hashlib.sha256(content).hexdigest()
    if file == "config.json":
        manifest["config_sha256"] = sha256
    else:
        manifest["folds"][1] |= {"bytes": len(content), "sha256": sha256}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_export_is_flat_and_its_manifest_vouches_for_every_file(road, name):
    folder, run = road.weights / f"hms-{name}", road.folder / "runs" / name
    files = {"config.json", "dataset-metadata.json", "fold0.safetensors", "fold1.safetensors", "manifest.json"}
    assert {path.name for path in folder.iterdir()} == files and all(path.is_file() for path in folder.iterdir())
    assert sorted(path.name for path in road.weights.iterdir()) == [IMAGE, WAVE]
    meta = json.loads((folder / "dataset-metadata.json").read_text())
    assert meta["id"].split("/")[1] == f"hms-{name}"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["name"] == name and manifest["checkpoint"] == "last"
    assert manifest["config_sha256"] == hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    assert [entry["fold"] for entry in manifest["folds"]] == [0, 1]
    for entry in manifest["folds"]:
        content = (folder / entry["file"]).read_bytes()
        assert (entry["sha256"], entry["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
        assert content == (run / f"fold{entry['fold']}" / "last.safetensors").read_bytes()
    rows = sum(entry["validation_rows"] for entry in manifest["folds"])
    assert rows == pl.read_parquet(run / "oof.parquet").height and {"torch", "timm"} <= set(manifest["versions"])
    assert manifest["training"]["stages"][0]["batch_size"] == 4


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_recipe_alone_travels_and_what_older_exports_say_of_training_is_not_read(road, weights, name):
    folder, run = weights / f"hms-{name}", road.folder / "runs" / name
    whole = json.loads((run / "config.json").read_text())
    recipe = json.loads((folder / "config.json").read_text())
    assert recipe == {key: whole[key] for key in ("name", "input", "model")}
    now = load_weights(folder, CPU)
    training = whole["training"] | {"an_option_of_another_version": 1}
    vouched(folder, "config.json", json.dumps(whole | {"training": training, "published": None}).encode())
    old = load_weights(folder, CPU)
    assert old.experiment == now.experiment and old.inputs == now.inputs


@pytest.mark.parametrize("number", [0, 1])
def test_loaded_folds_predict_as_the_checkpoints(road, number):
    run = road.runs[number]
    experiment, rows = read_run(run), label_rows(road.competition)
    windows = TrainingWindows(road.competition, rows, experiment.input)
    _, batch = next(windows.batches(np.arange(4), 4, CPU))
    inputs = build_input(batch, experiment.input)
    loaded = load_weights(road.datasets[number], CPU)
    assert loaded.experiment == experiment.recipe and loaded.dropped == () and len(loaded.models) == 2
    answers = []
    for fold, model in enumerate(loaded.models):
        net = build_model(experiment)
        net.load_state_dict(load_file(run / f"fold{fold}" / "last.safetensors"))
        answers.append(predict(model, inputs))
        np.testing.assert_array_equal(answers[fold], predict(net.eval(), inputs))
    assert np.abs(answers[0] - answers[1]).max() > 1e-3  # two folds, not one twice


def test_an_export_replaces_the_one_before(road, tmp_path):
    folder = export(road.runs[1], tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "fold7.safetensors").write_bytes(b"of an earlier run")
    export(road.runs[1], tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == [WAVE]


NEW = "my-wave"


def test_metadata_of_a_new_experiment(tmp_path, monkeypatch):
    metas, configs = tmp_path / "datasets_meta", tmp_path / "configs"
    monkeypatch.setattr("train.export.DATASETS_META", metas)
    monkeypatch.setattr("train.export.CONFIGS", configs)
    configs.mkdir()
    (configs / f"{NEW}.toml").touch()
    home = metas / f"hms-{NEW}" / "dataset-metadata.json"
    made = metadata_of(NEW)
    assert json.loads(made)["title"] == "Hms My Wave" and not metas.exists()  # installed, without a checkout
    metas.mkdir()
    assert metadata_of("of-nowhere") and not list(metas.iterdir())
    assert metadata_of(NEW) == made == home.read_text()
    home.write_text(made.replace("Hms My Wave", "Mine"))
    assert json.loads(metadata_of(NEW))["title"] == "Mine"  # what stands there counts


def change_fold(folder, change):
    """Other bytes, of which the manifest knows nothing."""
    path = folder / "fold1.safetensors"
    path.write_bytes(change(path.read_bytes()))


def vouched_fold(folder, change):
    vouched(folder, "fold1.safetensors", save(change(load_file(folder / "fold1.safetensors"))))


def with_one_nan(tensors):
    next(values for values in tensors.values() if values.is_floating_point()).view(-1)[0] = np.nan
    return tensors


FOLD_FAULTS = {
    "truncated": (lambda to: change_fold(to, lambda all_: all_[:-1000]), "bytes, the manifest says"),
    "one bit": (
        lambda to: change_fold(to, lambda all_: all_[:-1] + bytes([all_[-1] ^ 1])),
        "does not have the manifest's sha256",
    ),
    "removed": (lambda to: (to / "fold1.safetensors").unlink(), "is missing"),
    "another net": (lambda to: vouched_fold(to, lambda _: {"stem.weight": torch.zeros(3)}), "does not fit tiny-wave"),
    "in double": (
        lambda to: vouched_fold(to, lambda all_: {name: values.double() for name, values in all_.items()}),
        "as torch.float64 instead of torch.",
    ),
    "one NaN": (lambda to: vouched_fold(to, with_one_nan), "holds numbers that are not finite, in "),
}


@pytest.mark.parametrize("fault", FOLD_FAULTS)
def test_a_damaged_fold(wave, fault):
    """Strict: refused by name. Forgiving: left out by name, and the other fold answers."""
    damage, why = FOLD_FAULTS[fault]
    damage(wave)
    with pytest.raises(WeightsError, match=rf"{WAVE}/fold1\.safetensors.*{why}"):
        load_weights(wave, CPU)
    loaded = load_weights(wave, CPU, forgiving=True)
    assert len(loaded.models) == len(loaded.dropped) == 1
    assert f"{WAVE}/fold1.safetensors" in loaded.dropped[0] and why in loaded.dropped[0]
    kept, expected = loaded.models[0].state_dict(), load_file(wave / "fold0.safetensors")
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


@pytest.mark.parametrize("copied", [False, True])
def test_a_fold_that_is_there_twice_counts_once(wave, copied):
    file = "copy.safetensors" if copied else "fold0.safetensors"
    if copied:
        shutil.copy(wave / "fold0.safetensors", wave / file)
    change_manifest(wave, lambda old: old | {"folds": [*old["folds"], old["folds"][0] | {"file": file}]})
    with pytest.raises(WeightsError, match=rf"^{WAVE}/{file}: fold 0, seed 0 twice in manifest\.json"):
        load_weights(wave, CPU)
    loaded = load_weights(wave, CPU, forgiving=True)
    assert [entry.fold for entry in loaded.entries] == [0, 1] and len(loaded.dropped) == 1


def test_swapped_folds(wave):
    """Both files are sound and have the same size; a score read from the manifest would be the other's."""
    first, second, aside = (wave / name for name in ("fold0.safetensors", "fold1.safetensors", "aside"))
    first.rename(aside), second.rename(first), aside.rename(second)
    with pytest.raises(WeightsError, match=rf"{WAVE}/fold0\.safetensors.*swapped"):
        load_weights(wave, CPU)
    with pytest.raises(WeightsError, match=r"no usable fold: .*fold0\.safetensors.*fold1\.safetensors"):
        load_weights(wave, CPU, forgiving=True)


def change_manifest(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(change(manifest)))


def change_config(folder, old, new):
    text = (folder / "config.json").read_text()
    assert old in text
    (folder / "config.json").write_text(text.replace(old, new))


def without_regions(manifest):
    """As exported before the kit took the order of the competition's files: nothing is said of it."""
    assert manifest.pop("regions") == ["LL", "RL", "LP", "RP"]
    return manifest


FOREIGN = b'{"name": "tiny-wave", "input": {"kind": "hologram"}}'
RECIPE_FAULTS = {
    "no config": (lambda to: (to / "config.json").unlink(), "config.json"),
    "another config": (lambda to: (to / "config.json").write_bytes(FOREIGN), "config.json"),
    "another band": (lambda to: change_config(to, '"high": 20.0', '"high": 19.0'), "config.json"),  # the weights fit
    "unknown config": (lambda to: vouched(to, "config.json", FOREIGN), "config.json"),
    "binary config": (lambda to: vouched(to, "config.json", b'{"name": "\xff\xfe"}'), "config.json cannot be read"),
    "no manifest": (lambda to: (to / "manifest.json").unlink(), "manifest.json"),
    "half a manifest": (lambda to: (to / "manifest.json").write_text('{"name": "tiny-wave"'), "manifest.json"),
    "another version": (
        lambda to: change_manifest(to, lambda manifest: manifest | {"format": 2}),
        "manifest.json has format 2, this kit reads format 1",
    ),
    "former order": (
        lambda to: change_manifest(to, without_regions),
        "trained with the regions in the order LL, RL, RP, LP",
    ),
}


@pytest.mark.parametrize("fault", RECIPE_FAULTS)
def test_a_damaged_recipe(wave, fault):
    """Without its recipe a model is nothing: refused by name, or left out by name, never guessed."""
    damage, why = RECIPE_FAULTS[fault]
    damage(wave)
    for forgiving in (False, True):
        with pytest.raises(WeightsError, match=why) as refusal:
            load_weights(wave, CPU, forgiving)
        assert WAVE in str(refusal.value)


def test_no_fold_left_anywhere_means_the_prior(road, weights, tmp_path):
    for folder in weights.iterdir():
        for fold in folder.glob("fold*"):
            fold.write_bytes(fold.read_bytes()[:-1])
    folders = find_weights([weights])
    with pytest.raises(WeightsError, match=r"fold0\.safetensors"):
        submit(road.competition, folders, road.blend, tmp_path / "out.csv")
    report = submit(road.competition, folders, road.blend, tmp_path / "out.csv", forgiving=True)
    answers = pl.read_csv(tmp_path / "out.csv").to_numpy()[:, 1:]
    np.testing.assert_allclose(answers, np.tile(road.blend.prior, (report.rows, 1)), rtol=0, atol=1e-9)
    assert len(report.fallbacks) == report.rows and report.models == {}
    named = "\n".join(report.dropped)
    assert all(f"hms-{name}/fold{fold}.safetensors" in named for name in EXPERIMENTS for fold in (0, 1))


def test_a_renamed_folder_is_still_the_model(road, tmp_path):
    """Kaggle names the mount after the dataset's slug, whatever the folder was called."""
    copy = shutil.copytree(road.weights / WAVE, tmp_path / "renamed")
    assert load_weights(copy, CPU).experiment.name == "tiny-wave"
