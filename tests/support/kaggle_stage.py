"""What the tests of the stand-in share: a dataset and a kernel to push, and a server to push them to."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl

from common.schema import SUBMISSION_COLUMNS, VOTES
from kaggle_server import COMPETITION, StandIn

KAGGLE = Path(sys.executable).with_name("kaggle")
AT_ONCE = {"ready_polls": 0, "run_polls": 0, "score_polls": 0}


class Stage:
    """A dataset and a kernel to push, a server whose kernels answer with a given submission.csv."""

    def __init__(self, folder):
        self.folder = folder
        shares = {vote: [1.0, 2.0, 1.0, 3.0] if vote == VOTES[0] else [1.0] * 4 for vote in VOTES}
        self.solution, self.submission = folder / "solution.csv", folder / "submission.csv"
        pl.DataFrame({"eeg_id": [1, 2, 3, 4], **shares}).write_csv(self.solution)
        even = pl.DataFrame({"eeg_id": [1, 2, 3, 4], **{vote: [1 / 6] * 4 for vote in VOTES}})
        even.select(SUBMISSION_COLUMNS).write_csv(self.submission)
        self.outcome = {"ok": True, "message": "", "log": "hello\n", "files": {"submission.csv": self.submission}}
        self.dataset, self.kernel = folder / "weights", folder / "kernel"
        self.dataset.mkdir()
        for name, content in (("fold0.safetensors", os.urandom(3000)), ("manifest.json", b"{}"), ("empty.txt", b"")):
            (self.dataset / name).write_bytes(content)
        (self.dataset / "dataset-metadata.json").write_text(
            json.dumps({"id": "newcomer/hms-demo", "title": "HMS Demo", "licenses": [{"name": "CC0-1.0"}]})
        )
        self.kernel.mkdir()
        (self.kernel / "kernel.py").write_text("print(1)")
        self.write_kernel()
        self.competition = folder / "competition"
        for name in ("test.csv", "test_eegs/1.parquet", "truth/solution.csv"):
            (self.competition / name).parent.mkdir(parents=True, exist_ok=True)
            (self.competition / name).write_text(name)
        self.server = StandIn(
            folder / "kaggle", self.competition, self.solution, runner=lambda *_: self.outcome, **AT_ONCE
        )

    def write_kernel(self, **changes):
        meta = {
            "id": "newcomer/hms-inference",
            "title": "Hms Inference",
            "code_file": "kernel.py",
            "language": "python",
            "kernel_type": "script",
            "enable_internet": False,
            "dataset_sources": ["newcomer/hms-demo"],
            "competition_sources": [COMPETITION],
        }
        (self.kernel / "kernel-metadata.json").write_text(json.dumps(meta | changes))

    def kaggle(self, *words, **environment):
        done = subprocess.run(
            [KAGGLE, *map(str, words)],
            env=self.server.environment(**environment),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def said(self, *words, **environment):
        return "".join(map(str, self.kaggle(*words, **environment)[1:]))

    def submit(self, version="1"):
        words = ("-k", "newcomer/hms-inference", "-f", "submission.csv", "-v", version, "-m", "first", "-q")
        return self.kaggle("competitions", "submit", COMPETITION, *words)

    def upload(self):
        assert self.kaggle("datasets", "create", "-p", self.dataset, "-q")[0] == 0
        assert self.kaggle("datasets", "status", "newcomer/hms-demo")[1].strip() == "ready"

    def push(self):
        code, out, _ = self.kaggle("kernels", "push", "-p", self.kernel)
        assert code == 0
        return out
