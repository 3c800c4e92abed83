"""docs/extending.md, carried out: its code is applied to a copy of the kit as it stands on the page, and used."""

import json
import os
import re
import shutil
import subprocess
import sys

import polars as pl
import pytest
from conftest import PROJECT, command

PAGE = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:(?P<how>New file|In) `(?P<path>[^`]+)`:\n)?```(?P<kind>\w*)\n(?P<code>.*?)```", re.DOTALL)
COPIED = ("common", "train", "infer", "kernels", "tests", "docs", "datasets_meta")
NEW_CONFIGS = ("kaggle-resnet10", "line-length-resnet10", "kaggle-patch-mlp", "wave-negated")
TAKE_UP_WHAT_IS_NEW = (
    *("tests/project/test_house.py", "tests/project/test_experiments.py", "tests/project/test_experiment_table.py"),
    *("tests/inputs/test_contract.py", "tests/inputs/test_inputs.py", "tests/models/test_models.py"),
)
NEW_IN_THE_KERNEL = ("class LineLength", "class PatchMlp")


def apply(tree, page):
    """Write the page's new files and make its changes; the paths written, in order."""
    written, path = [], None
    for block in BLOCK.finditer(page):
        path = tree / block["path"] if block["path"] else path
        if block["how"] == "New file":
            assert not path.exists(), path
            path.write_text(block["code"])
        elif block["kind"] == "diff":
            lines = block["code"].splitlines(keepends=True)
            before, after = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
            text = path.read_text()
            assert text.count(before) == 1, f"docs/extending.md: {path.name} does not have once:\n{before}"
            path.write_text(text.replace(before, after))
        else:
            continue
        written.append(path.relative_to(tree).as_posix())
    return written


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the kit with the page's code in it."""
    tree = tmp_path_factory.mktemp("extended")
    for name in COPIED:
        shutil.copytree(PROJECT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in PROJECT.glob("*.*"):
        if path.is_file():
            shutil.copy(path, tree)
    kernel = (tree / "kernels" / "hms-inference" / "kernel.py").read_bytes()
    before_nets, training_only = PAGE.split("## 4.")
    apply(tree, training_only)
    python(tree, "kernels/build.py", "--check")  # augmentation, losses and fits of blends are not in the kernel
    assert (tree / "kernels" / "hms-inference" / "kernel.py").read_bytes() == kernel
    written = apply(tree, before_nets)
    assert {f"train/configs/{name}.toml" for name in NEW_CONFIGS[:3]} < set(written)
    return tree


def python(tree, *words):
    """In the copy, with the copy's modules."""
    words, env = [sys.executable, *map(str, words)], os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(words, cwd=tree, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_tests_of_the_page_pass(tree):
    files = re.findall(r"python -m pytest (\S+)", PAGE)
    assert len(files) == 4
    python(tree, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow", *files, *TAKE_UP_WHAT_IS_NEW)


@pytest.mark.slow
def test_what_is_new_goes_from_training_to_submission(tree, road):
    """All new configs train, blend and predict in the kernel: the same bytes as by the command."""
    runs, weights = [tree / "runs" / name for name in NEW_CONFIGS], tree / "weights"
    for name in NEW_CONFIGS:
        config = f"train/configs/{name}.toml"
        python(tree, "-m", "train", "run", config, "--competition", road.competition, "--out", tree / "runs")
    assert all(f" {name} " in python(tree, "-m", "train", "experiments") for name in NEW_CONFIGS)
    homes = [tree / "datasets_meta" / f"hms-{name}" / "dataset-metadata.json" for name in NEW_CONFIGS]
    assert not any(home.exists() for home in homes)
    python(tree, "-m", "train", "export", *runs, "--out", weights)
    assert [json.loads(home.read_text())["id"] for home in homes] == [f"OWNER/hms-{name}" for name in NEW_CONFIGS]
    assert "the model that is best alone" in python(tree, "-m", "train", "blend", *runs, "--out", tree / "fitted.json")
    prior = json.loads((tree / "fitted.json").read_text())["prior"]
    (tree / "blend.json").write_text(json.dumps({"models": dict.fromkeys(NEW_CONFIGS, 0.25), "prior": prior}))
    python(tree, "kernels/build.py", "--blend", tree / "blend.json", "--out", tree / "kernel")
    kernel = (tree / "kernel" / "kernel.py").read_text()
    sources = json.loads((tree / "kernel" / "kernel-metadata.json").read_text())["dataset_sources"]
    assert {f"OWNER/hms-{name}" for name in NEW_CONFIGS} <= set(sources)
    assert all(new in kernel for new in NEW_IN_THE_KERNEL)
    datasets = [weights / f"hms-{name}" for name in NEW_CONFIGS]
    words = ("--competition", road.competition, "--datasets", *datasets, "--out", tree / "sandbox")
    python(tree, "kernels/sandbox.py", tree / "kernel", *words)
    words = ("--competition", road.competition, "--weights", *datasets, "--blend", tree / "blend.json")
    python(tree, "-m", "infer", "submit", *words, "--out", tree / "submission.csv")
    assert (tree / "sandbox" / "submission.csv").read_bytes() == (tree / "submission.csv").read_bytes()
    python(tree, "docs/make_tables.py")
    assert all(f"| {name} |" in (tree / "docs" / "experiments.md").read_text() for name in NEW_CONFIGS)
    assert pl.read_csv(tree / "submission.csv").height == pl.read_csv(road.competition / "test.csv").height


def test_the_page_names_files_that_exist():
    table = PAGE[PAGE.index("## 6.") :]
    paths = re.findall(r"`((?:common|train|infer|kernels)/[^`]*)`", table)
    assert len(paths) > 15 and all((PROJECT / path).exists() for path in paths)
    assert command("-m", "train", "--help").returncode == 0
