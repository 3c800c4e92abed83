"""What a kernel must not be able to do. Every test is an attack that must end the kernel with an error."""

import os
import shutil
import socket
import tempfile
import venv
from pathlib import Path

import pytest
from sandbox_stage import PROJECT, SLUG, Stage, assert_refused, need_namespaces


@pytest.fixture(params=["namespace", "guard"])
def isolation(request):
    if request.param == "namespace":
        need_namespaces()
    return request.param


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


@pytest.mark.parametrize("package", ["common.schema", "infer", "train"])
def test_the_project_cannot_be_imported(stage, isolation, package):
    assert_refused(stage, f"import {package}", isolation, "No module named")


def test_no_network(stage, isolation):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        assert_refused(stage, f"import socket\nsocket.create_connection({address}, 5)", isolation, "Error")
        assert_refused(stage, f"import socket\nsocket.socket().connect({address})", isolation, "Error")  # asks no name
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    "attack",
    [
        "(place / 'test.csv').write_text('changed')",
        "(place / 'test_eegs' / '2.parquet').write_text('new')",
        "(place / 'test_eegs' / '1.parquet').unlink()",
        "(place / 'test.csv').rename('test.csv')",
        "os.truncate(place / 'test.csv', 0)",
        "os.chmod(place / 'test.csv', 0)",
        "os.link(os.path.realpath(place / 'test.csv'), 'mine')",
    ],
)
def test_inputs_are_read_only(stage, isolation, attack):
    before = {path: path.read_bytes() for path in stage.competition.rglob("*") if path.is_file()}
    assert_refused(stage, f"place = INPUT / 'competitions' / '{SLUG}'\n{attack}", isolation, "Error")
    assert before == {path: path.read_bytes() for path in stage.competition.rglob("*") if path.is_file()}
    assert (stage.competition / "test.csv").stat().st_mode & 0o400


def test_the_project_cannot_be_read_or_written(stage, isolation):
    target = PROJECT / f"written-by-{stage.folder.name}-{os.getpid()}.txt"
    assert_refused(stage, f"Path('{target}').write_text('x')", isolation, "Error")
    assert not target.exists()
    assert_refused(stage, f"Path('{PROJECT / 'kernels' / 'build.py'}').read_text()", isolation, "Error")


@pytest.mark.slow
def test_a_project_below_the_temporary_folder_is_hidden_too(tmp_path):
    """The kernel may write to its own /tmp, and the environment that it runs in lies in the project."""
    need_namespaces()
    project = tmp_path / "a clone"
    for package in ("kernels", "common"):
        shutil.copytree(PROJECT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(project / ".venv")
    (site,) = project.glob(".venv/lib/*/site-packages")
    (site / "project.pth").write_text(str(project))  # as an editable install
    (tmp_path / "stage").mkdir()
    stage, here = Stage(tmp_path / "stage"), {"python": project / ".venv/bin/python"}
    here["sandbox"] = project / "kernels" / "sandbox.py"
    attacks = {
        f"Path({str(project / 'new.txt')!r}).write_text('x')": "Read-only file system",
        f"Path({str(project / '.venv/new.txt')!r}).write_text('x')": "Read-only file system",
        f"Path({str(project / 'kernels/build.py')!r}).read_text()": "No such file",
        f"Path({str(stage.competition / 'truth/votes.csv')!r}).read_text()": "No such file",
        "import common.schema": "No module named",
    }
    for attack, error in attacks.items():
        done = stage.run(f"{attack}\nanswer()\n", "--isolation", "namespace", **here)
        assert done.returncode == 1, done.stderr
        assert error in stage.log().split("\n")[-2], attack
    done = stage.run("Path('/tmp/scratch').write_text('x')\nanswer()\n", "--isolation", "namespace", **here)
    assert done.returncode == 0, stage.log()


def test_the_answers_cannot_be_read(stage, isolation):
    answers = stage.competition / "truth" / "votes.csv"
    assert_refused(stage, f"print(Path('{answers}').read_text())", isolation, "Error")
    assert "the answers" not in stage.log()
    done = stage.run("print(sorted(p.name for p in INPUT.rglob('*')))\nanswer()\n", "--isolation", isolation)
    assert done.returncode == 0 and "truth" not in stage.log() and "store" not in stage.log()


def test_the_answers_are_hidden_outside_tmp_too(isolation):
    """Not only because the namespace has its own /tmp."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        stage = Stage(Path(folder))
        answers = stage.competition / "truth" / "votes.csv"
        assert_refused(stage, f"print(Path('{answers}').read_text())", isolation, "Error")
        assert "the answers" not in stage.log()


def test_no_second_process_in_the_guard(stage):
    assert_refused(stage, "import subprocess\nsubprocess.run(['true'])", "guard", "sandbox: subprocess.Popen")
    assert_refused(stage, "os.system('true')", "guard", "sandbox: os.system")


def test_privileges_are_gone_in_the_namespace(stage):
    need_namespaces()
    source = """
status = Path("/proc/self/status").read_text().split()
assert int(status[status.index("CapEff:") + 1], 16) == int(status[status.index("CapBnd:") + 1], 16) == 0
import ctypes
libc = ctypes.CDLL(None)
assert libc.mount(b"none", b"/kaggle/input", None, 0x1020, None) != 0  # remount writable
assert libc.umount2(b"/kaggle/input", 2) != 0
answer()
"""
    assert stage.run(source, "--isolation", "namespace").returncode == 0, stage.log()
