"""A new experiment is one new file: all checks pass with it; it can be trained, exported and put into a kernel."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import EXPERIMENTS, PROJECT

from train.export import metadata_of

CHECKS = ("house", "experiments", "experiment_table", "contract", "models", "training_page", "experiment_steps")
COPIED = ("common", "train", "infer", "kernels", "tests", "docs", "datasets_meta")
NAME = "my-wave"


@pytest.fixture
def tree(tmp_path):
    """A copy of the kit with one more file in it."""
    for name in COPIED:
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in PROJECT.glob("*.*"):
        if path.is_file():
            shutil.copy(path, tmp_path)
    lines = [line.strip() for line in EXPERIMENTS["tiny-wave"].splitlines()]
    (tmp_path / "train" / "configs" / f"{NAME}.toml").write_text("\n".join(lines))
    return tmp_path


def python(tree, *words):
    """In the copy, with the copy's modules."""
    words, env = [sys.executable, *map(str, words)], os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(words, cwd=tree, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_checks_pass_with_it(tree):
    files = [next((tree / "tests").rglob(f"test_{name}.py")) for name in CHECKS]
    named = f"{NAME} or docs or dataset or list or table or ensemble or snippet"
    shown = python(tree, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-vv", "-k", named, *files)
    assert shown.count(f"[{NAME}] PASSED") >= 4, shown
    python(tree, "kernels/build.py", "--check")


def test_metadata_of_a_new_experiment(tmp_path, monkeypatch):
    metas, configs = tmp_path / "datasets_meta", tmp_path / "configs"
    monkeypatch.setattr("train.export.DATASETS_META", metas)
    monkeypatch.setattr("train.export.CONFIGS", configs)
    configs.mkdir()
    (configs / f"{NAME}.toml").touch()
    home = metas / f"hms-{NAME}" / "dataset-metadata.json"
    made = metadata_of(NAME)
    assert json.loads(made)["title"] == "Hms My Wave" and not metas.exists()  # installed, without a checkout
    metas.mkdir()
    assert metadata_of("of-nowhere") and not list(metas.iterdir())
    assert metadata_of(NAME) == made == home.read_text()
    home.write_text(made.replace("Hms My Wave", "Mine"))
    assert json.loads(metadata_of(NAME))["title"] == "Mine"  # what stands there counts
