"""The builder: dependencies first, sources as written, a script that runs alone, a refusal for the rest."""

import json
import re
import subprocess
import sys
import textwrap

import pytest

import build as builder
from build import build, metadata
from building.inline import BuildError

BLEND = '{"models": {"kaggle-b2": 0.75, "wave-bipolar": 0.25}, "prior": [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]}'
TREE = {
    "common/__init__.py": "",
    "common/schema.py": '''
        """Nouns.

        Second paragraph.
        """

        # why this number
        ELECTRODES = 20  # with the EKG
        ''',
    "common/records.py": '''
        """Reads."""

        import json as js
        import os.path

        from common.schema import (
            ELECTRODES,
        )

        LIMIT = ELECTRODES + 1


        def encode(value):
            """Keeps # %% and

            from common.schema import NOTHING

            in strings."""
            return js.dumps({"value": value, "there": os.path.exists("/")})
        ''',
    "infer/kernel.py": '''
        """The kernel."""

        from pathlib import Path

        from common.records import encode
        from common.schema import ELECTRODES


        def run_kernel(root: Path, blend_json: str) -> None:
            print(root, ELECTRODES, encode(len(blend_json)))
        ''',
    "infer/blend.json": BLEND,
}


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "project"
    plant(root, TREE)
    return root


def plant(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")


def test_dependencies_come_first_and_sources_stay_as_written(tree):
    kernel = build(tree, BLEND)
    assert re.findall(r"(?m)^# %% (.+)$", kernel) == ["common.schema", "common.records", "infer.kernel", "blend", "run"]
    assert "# Nouns.\n#\n# Second paragraph.\n\n# why this number\nELECTRODES = 20  # with the EKG\n" in kernel
    assert "import json as js\nimport os.path\n\nLIMIT" in kernel
    assert kernel.count("from common") == 1  # the one inside a string
    assert "\n\n\n\n" not in kernel


def test_built_script_runs_alone(tree, tmp_path):
    script = tmp_path / "elsewhere.py"
    script.write_text(build(tree, BLEND))
    command = [sys.executable, "-I", str(script)]
    environment = {"HMS_KAGGLE_ROOT": "/some/root"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)
    embedded = json.dumps(json.loads(BLEND), indent=2)
    assert done.stdout == f'/some/root 20 {{"value": {len(embedded)}, "there": true}}\n'


def test_quotes_and_backslashes_of_the_blend_survive(tree):
    blend = {"models": {'a"""b\\': 1, "": 0}, "note": '"""\n\\"'}
    namespace = {"__name__": "kernel"}
    exec(build(tree, json.dumps(blend)), namespace)
    assert json.loads(namespace["BLEND"]) == blend


ENTRY = "\n\ndef run_kernel(root, blend_json):\n    pass\n"


def test_refuses_without_run_kernel(tree):
    plant(tree, {"infer/kernel.py": "X = 1\n"})
    with pytest.raises(BuildError, match="define it"):
        build(tree, BLEND)


@pytest.mark.parametrize("blend", ["{", "{}", BLEND.replace("0.75", "0.5")])
def test_refuses_a_blend_that_the_kernel_would_refuse(tree, capsys, blend):
    (tree / "infer" / "blend.json").write_text(blend)
    assert builder.main([], tree) == 1
    assert capsys.readouterr().err.startswith("Kernel not built. blend.json")
    (tree / "infer" / "blend.json").unlink()
    assert builder.main([], tree) == 1
    assert "make one with `python -m train blend`" in capsys.readouterr().err


def test_refuses_more_than_kaggle_takes(tree):
    plant(tree, {"common/schema.py": "ELECTRODES = 1\n# " + "x" * 1_000_000})
    with pytest.raises(BuildError, match="Kaggle takes 1,000,000"):
        build(tree, BLEND)


def test_allowed_though_it_looks_like_two_meanings(tree):
    source = """
        import os
        import os.path
        from collections import abc
        from common.schema import ELECTRODES
        squares = [js for js in range(3)]
        def limit(encode): return type(encode).__name__
        """
    plant(tree, {"infer/kernel.py": textwrap.dedent(source) + ENTRY})
    build(tree, BLEND)


def test_metadata_names_the_blend_and_keeps_the_internet_off(tree):
    found = metadata(tree, BLEND)
    assert found["dataset_sources"] == ["OWNER/hms-kaggle-b2", "OWNER/hms-wave-bipolar"]
    assert found["enable_internet"] is False and found["enable_tpu"] is False
    assert found["enable_gpu"] is True and found["is_private"] is True
    assert found["machine_shape"] == "NvidiaTeslaT4"
    assert found["competition_sources"] == ["hms-harmful-brain-activity-classification"]
    slug = re.sub("[^a-z0-9]+", "-", found["title"].lower())
    assert found["id"] == f"OWNER/{slug}"


def test_metadata_of_an_open_blend_lists_published_datasets(tree):
    for slug in ("hms-wave", "hms-kaggle-b2", "hms-smoke-cnn"):
        plant(tree, {f"datasets_meta/{slug}/dataset-metadata.json": json.dumps({"id": f"OWNER/{slug}"})})
    assert metadata(tree, '{"models": {}}')["dataset_sources"] == ["OWNER/hms-kaggle-b2", "OWNER/hms-wave"]


def test_main_writes_and_check_holds(tree, capsys):
    out = tree / "kernels" / "hms-inference"
    assert builder.main(["--check"], tree) == 1
    assert "is missing" in capsys.readouterr().err
    assert builder.main([], tree) == 0
    printed = capsys.readouterr().out
    assert "3 modules: common.schema, common.records, infer.kernel" in printed and str(out) in printed
    assert sorted(path.name for path in out.iterdir()) == ["kernel-metadata.json", "kernel.py"]
    assert builder.main(["--check"], tree) == 0

    plant(tree, {"common/schema.py": "ELECTRODES = 19\n"})
    assert builder.main(["--check"], tree) == 1
    assert "kernel.py is stale.\nRun: python kernels/build.py" in capsys.readouterr().err
