"""The notebook form of the kernel: the same code, a section a cell, and in a real Jupyter kernel the same bytes."""

import json
import os
import re
import subprocess
import sys

import nbclient
import nbformat
import pytest
from conftest import command
from test_build import BLEND, TREE, plant

import build as builder
from build import build
from building.cells import METADATA
from building.inline import BuildError


@pytest.fixture
def tree(tmp_path):
    plant(tmp_path, TREE)
    return tmp_path


def cells_of(root):
    notebook = nbformat.reads(build(root, BLEND, notebook=True), as_version=4)
    nbformat.validate(notebook)
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_a_section_is_a_heading_and_a_cell(tree):
    cells = cells_of(tree)
    assert cells[0][0] == "markdown" and "do not edit" in cells[0][1]
    assert cells[1] == ("markdown", "## common.schema\n\nNouns.\n\nSecond paragraph.")
    assert cells[2] == ("code", "# why this number\nELECTRODES = 20  # with the EKG")
    assert json.loads(build(tree, BLEND, notebook=True))["metadata"] == METADATA  # no version that changes the bytes
    titles = [source.split("\n")[0] for kind, source in cells[1:] if kind == "markdown"]
    assert titles == ["## common.schema", "## common.records", "## infer.kernel", "## blend", "## run"]


def test_the_code_is_the_scripts(tree):
    """Line for line, but for comments that only carry a docstring or a mark."""

    def code(text):
        return [line for line in text.split("\n") if line.strip() and not line.startswith("#")]

    cells = "\n".join(source for kind, source in cells_of(tree) if kind == "code")
    assert code(cells) == code(build(tree, BLEND)) and len(code(cells)) > 10


def test_a_mark_of_a_cell_in_the_source_is_refused(tree):
    plant(tree, {"common/schema.py": "ELECTRODES = 1\n\n# %% part\nMORE = 2\n"})
    with pytest.raises(BuildError, match=r"common\.schema: .* looks like the mark of a cell"):
        build(tree, BLEND, notebook=True)


def test_lists_in_columns_and_comments_that_look_like_magics_stay(tree):
    text = '"""Files.\n\nabc.json   one\nd.json     two\n\nEnd."""\n# %matplotlib inline\n# !ls\nELECTRODES = 1  # %%\n'
    plant(tree, {"common/schema.py": text})
    _, title, code = cells_of(tree)[:3]
    assert title[1].endswith("Files.\n\n```text\nabc.json   one\nd.json     two\n```\n\nEnd.")
    assert code[1].startswith("# %matplotlib inline\n# !ls\n")


def test_without_jupytext_one_sentence(tree, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jupytext", None)
    assert builder.main(["--notebook"], tree) == 1
    said = capsys.readouterr().err
    assert "jupytext, which is not installed; run `pip install jupytext`." in said and said.count("\n") == 1
    assert builder.main([], tree) == 0  # the script needs none


def test_main_writes_and_check_holds(tree, capsys):
    out = tree / "kernels" / "hms-inference-notebook"
    assert builder.main(["--notebook", "--check"], tree) == 1
    assert "is missing" in capsys.readouterr().err
    assert builder.main(["--notebook"], tree) == 0
    assert sorted(path.name for path in out.iterdir()) == ["hms-inference.ipynb", "kernel-metadata.json"]
    meta = json.loads((out / "kernel-metadata.json").read_text())
    assert (meta["kernel_type"], meta["code_file"]) == ("notebook", "hms-inference.ipynb")
    assert meta["id"] == "OWNER/" + re.sub("[^a-z0-9]+", "-", meta["title"].lower()) == "OWNER/hms-inference-notebook"
    assert builder.main(["--notebook", "--check"], tree) == 0
    assert builder.main(["--check"], tree) == 1  # the script is another kernel

    said = capsys.readouterr().err
    assert said.endswith("Run: python kernels/build.py\n")


@pytest.fixture(scope="module")
def built(road, tmp_path_factory):
    """The folders of the script and of the notebook, with the road's blend."""
    folder = tmp_path_factory.mktemp("built")
    for name, options in (("script", ()), ("notebook", ("--notebook",))):
        done = command("kernels/build.py", *options, "--blend", road.blend_file, "--out", folder / name)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_a_jupyter_kernel_writes_the_bytes_of_the_script(built, kaggle, monkeypatch):
    monkeypatch.setenv("HMS_KAGGLE_ROOT", str(kaggle))
    answer = kaggle / "working" / "submission.csv"
    script = [sys.executable, "-I", str(built / "script" / "kernel.py")]
    subprocess.run(script, cwd=kaggle / "working", env=os.environ, capture_output=True, check=True)
    expected = answer.read_bytes()
    answer.unlink()

    notebook = nbformat.read(built / "notebook" / "hms-inference.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(kaggle / "working")}}).execute()
    assert answer.read_bytes() == expected and len(expected.splitlines()) > 5
    printed = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    assert re.search(r"submission.csv is right: \d+ rows", printed)
