"""The house: who imports whom, what an import does, configs with their metadata, no machine in a file."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from train.experiment import load_experiment

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("common", "infer", "train", "kernels")
CONFIGS = sorted((ROOT / "train" / "configs").glob("*.toml"))
PACKAGED = [path for room in ROOMS[:3] for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path):
    """Top names of every import of a file, also those inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
    return names


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("common", {"train", "infer", "kernels", "tests"}),
        ("train", {"infer", "kernels", "tests"}),
        ("infer", {"train", "kernels", "tests"}),
        ("train/simulate", {"infer", "kernels", "tests", "torch", "timm"}),
    ],
)
def test_rooms_import_downwards_only(folder, forbidden):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        found = {name.split(".")[0] for name in imported(path)} & forbidden
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


def test_simulation_uses_no_other_part_of_train():
    for path in (ROOT / "train" / "simulate").glob("*.py"):
        inside = {name for name in imported(path) if name.split(".")[0] == "train"}
        assert all(name.startswith("train.simulate") for name in inside), path.name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_loads_under_a_name_for_a_dataset(path):
    name = load_experiment(path).name
    assert name == path.stem and 6 <= len(f"hms-{name}") <= 50  # as Kaggle takes it


def test_every_dataset_is_of_a_config_and_such_that_kaggle_takes_it():
    """A config without one gets it from `export`."""
    files = sorted((ROOT / "datasets_meta").glob("*/dataset-metadata.json"))
    assert files and {path.parent.name for path in files} <= {f"hms-{path.stem}" for path in CONFIGS}
    for path in files:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        assert metadata["id"] == f"OWNER/{path.parent.name}" and metadata["licenses"]
        assert 6 <= len(metadata["title"]) <= 50
        assert 20 <= len(metadata.get("subtitle", "x" * 20)) <= 80


# Put together here, so that this file does not hold what it looks for.
MACHINE = [*("/" + folder + "/" for folder in ("root", "work", "home", "Users")), "py" + "pi", "shared/" + "reference"]


def test_no_tracked_file_names_a_machine():
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("no git checkout: there is no list of tracked files")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    files = [ROOT / name for name in tracked.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert len(files) > 50
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(text)}" for text in MACHINE))
    assert pattern.search("see " + MACHINE[0] + "x") and not pattern.search("a/b/" + "c")
    found = {}
    for path in files:
        content = path.read_bytes()
        if b"\0" not in content and (hit := pattern.search(content.decode("utf-8"))):
            found[path.relative_to(ROOT).as_posix()] = hit.group()
    assert not found


# Imports each module and prints the first thing that an import changed. Runs apart: here all is imported already.
PROBE = """
import importlib, io, logging, os, pathlib, random, sys, contextlib, warnings
import numpy, torch, timm, polars, scipy.signal, sklearn.model_selection, pydantic, safetensors.torch, tqdm
import matplotlib.backends.backend_agg
def state():
    here = sorted(path.as_posix() for path in pathlib.Path().iterdir())
    cuda = torch.backends.cudnn.benchmark, torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    draws = numpy.random.get_state()[1].tobytes(), random.getstate(), torch.get_rng_state().numpy().tobytes()
    rest = torch.are_deterministic_algorithms_enabled(), len(logging.root.handlers), len(warnings.filters)
    return dict(os.environ), draws, cuda, here, rest, numpy.geterr()
for name in sys.argv[1:]:
    before, said = state(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        importlib.import_module(name)
    if said.getvalue() or state() != before:
        print(name, repr(said.getvalue()), [a == b for a, b in zip(before, state())])
print("done")
"""


@pytest.mark.parametrize("command", ["infer.validate", "publish"])
def test_commands_that_need_no_net_do_not_wait_for_torch(command):
    """A publication starts often, and torch takes seconds."""
    probe = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'kernels')!r}]; import {command}"
    ran = subprocess.run(
        [sys.executable, "-c", f"{probe}; print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert (ran.stdout, ran.returncode) == ("False\n", 0), ran.stderr


@pytest.mark.slow
def test_importing_does_nothing(tmp_path):
    modules = [module_name(path) for path in PACKAGED]
    assert {"common.inputs.build", "train.engine.loop", "infer.submit"} <= set(modules)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{PROBE}", *modules]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("done\n", "", 0)
