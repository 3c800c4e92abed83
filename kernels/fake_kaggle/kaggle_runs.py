"""What Kaggle does with a kernel and with its submission.csv: the project's sandbox, the project's metric."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from common.metric import kl_divergence
from common.schema import VOTES
from infer.validate import score as score_whole

SANDBOX = Path(__file__).resolve().parents[1] / "sandbox.py"


class SandboxRuns:
    """Runs of pushed kernels, each in a folder of its own below `root`."""

    def __init__(self, competition: Path, slug: str, root: Path) -> None:
        self.competition, self.slug, self.root = competition, slug, root

    def __call__(self, version: dict[str, Any], datasets: dict[str, Path], hidden: bool) -> dict[str, Any]:
        """As Kernels has it: the outcome of the kernel on the datasets, in the hidden re-run or before."""
        self.root.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(dir=self.root))
        for name in ("kernel", "files", "nothing"):
            (stage / name).mkdir()
        code = "kernel.ipynb" if version["kernelType"] == "notebook" else "kernel.py"
        # The sandbox demands what a submission needs; what the kernel lacks of it, submitting refuses.
        meta = {"code_file": code, "kernel_type": version["kernelType"], "enable_internet": False}
        meta |= {"competition_sources": [self.slug], "dataset_sources": list(datasets)}
        (stage / "kernel" / code).write_text(version["source"])
        (stage / "kernel" / "kernel-metadata.json").write_text(json.dumps(meta))
        command = [sys.executable, str(SANDBOX), str(stage / "kernel"), "--quiet", "--out", str(stage / "out")]
        command += ["--competition", str(self.competition if version["competitions"] else stage / "nothing")]
        command += ["--datasets", *map(str, datasets.values())] if datasets else []
        if version["sessionTimeoutSeconds"]:
            command += ["--hours", str(version["sessionTimeoutSeconds"] / 3600)]
        command += ["--rerun"] if hidden else []
        return self.outcome(stage, subprocess.run(command, capture_output=True, text=True, check=False))

    def outcome(self, stage: Path, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
        """What the sandbox's report says; the kernel's outputs go to files/. A run without a submission.csv is ok."""
        if done.returncode not in (0, 1):
            return {"ok": False, "message": "The sandbox did not run it", "log": done.stdout + done.stderr, "files": {}}
        report = json.loads((stage / "out" / "report.json").read_text())
        if (stage / "out" / "submission.csv").is_file():
            shutil.copyfile(stage / "out" / "submission.csv", stage / "files" / "submission.csv")
        if report["kernel"] is not None:
            (stage / "files" / "report.json").write_text(json.dumps(report["kernel"], indent=1))
        return {
            "ok": report["exit_code"] == 0 and not report["timed_out"],
            "message": "Notebook Timeout" if report["timed_out"] else "Notebook Threw Exception",
            "log": (stage / "out" / "log.txt").read_text(),
            "files": {path.name: path for path in (stage / "files").iterdir()},
        }


def score(submission: Path, solution: Path) -> tuple[float, float]:
    """KL on every other row (public), and on the others. Raises SubmissionError on what cannot be scored."""
    score_whole(submission, solution)
    truth = pl.read_csv(solution).sort("eeg_id", maintain_order=True)
    answers = pl.read_csv(submission).sort("eeg_id", maintain_order=True)
    votes = truth.select(VOTES).to_numpy()
    kl = kl_divergence(votes / votes.sum(axis=1, keepdims=True), answers.select(VOTES).to_numpy())
    return float(kl[::2].mean()), float(kl[1::2].mean())
