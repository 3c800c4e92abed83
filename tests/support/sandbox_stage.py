"""What the tests of the sandbox share: a competition, a dataset and a kernel folder to run it on."""

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SANDBOX = PROJECT / "kernels" / "sandbox.py"
SLUG = "hms-harmful-brain-activity-classification"

HEAD = """
import os, sys
from pathlib import Path
KAGGLE = Path(os.environ.get("HMS_KAGGLE_ROOT", "/kaggle"))
INPUT = KAGGLE / "input"
def answer(): Path("submission.csv").write_text("eeg_id,x\\n1,2\\n3,4\\n")
"""


class Stage:
    """A competition, a dataset and a kernel folder in a temporary folder."""

    def __init__(self, folder):
        self.folder, self.out = folder, folder / "out"
        self.competition, self.kernel = folder / "competition", folder / "kernel"
        for path in (*(self.competition / name for name in ("test_eegs", "truth", "store")), self.kernel):
            path.mkdir(parents=True)
        (self.competition / "test.csv").write_text("eeg_id\n1\n3\n")
        (self.competition / "test_eegs" / "1.parquet").write_text("signal")
        (self.competition / "truth" / "votes.csv").write_text("the answers")
        self.dataset = self.add_dataset("weights", "someone/hms-tiny")
        self.change_metadata()

    def add_dataset(self, name, identity):
        folder = self.folder / name
        folder.mkdir()
        (folder / "manifest.json").write_text(name)
        (folder / "dataset-metadata.json").write_text(json.dumps({"id": identity}))
        return folder

    def change_metadata(self, **changes):
        meta = {"code_file": "kernel.py", "enable_internet": False, "competition_sources": [SLUG]}
        meta |= {"dataset_sources": ["OWNER/hms-tiny"], **changes}
        (self.kernel / "kernel-metadata.json").write_text(json.dumps(meta))

    def run(self, source, *options, datasets=None, env=None, python=sys.executable, sandbox=SANDBOX):
        (self.kernel / "kernel.py").write_text(HEAD + source)
        command = [str(python), str(sandbox), str(self.kernel), "--competition", str(self.competition)]
        command += ["--datasets", *map(str, datasets or [self.dataset]), "--out", str(self.out), *options]
        return subprocess.run(command, capture_output=True, text=True, env=env)

    def report(self):
        return json.loads((self.out / "report.json").read_text())

    def log(self):
        return (self.out / "log.txt").read_text()


@functools.cache
def namespaces_refused():
    """Why this machine allows no namespaces, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        done = Stage(Path(folder)).run("answer()\n", "--isolation", "namespace")
    return done.stderr.strip() if "refuses --isolation namespace" in done.stderr else ""


def need_namespaces():
    if namespaces_refused():
        pytest.skip(namespaces_refused())


def assert_refused(stage, source, isolation, error):
    """The kernel ends with the error, and the sandbox says that it failed."""
    done = stage.run(source + "\nanswer()\n", "--isolation", isolation)
    assert done.returncode == 1, done.stdout
    assert "FAILED: the kernel ended with exit code 1" in done.stdout
    assert error in stage.log().split("\n")[-2]
    assert stage.report()["ok"] is False and not (stage.out / "submission.csv").exists()
