"""What Kaggle does with a kernel and with its submission.csv: the project's sandbox, the project's metric."""

import fcntl
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
from kaggle_state import sha256

SANDBOX = Path(__file__).resolve().parents[1] / "sandbox.py"
NOT_MOUNTED = ("truth", "store")


def contents(folder: Path) -> list[str]:
    """What a competition folder shows a kernel, cheap to find out."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    named = [(path.relative_to(folder), path.stat()) for path in files]
    return [f"{name} {facts.st_size} {facts.st_mtime_ns}" for name, facts in named if name.parts[0] not in NOT_MOUNTED]


class SandboxRuns:
    """Runs of pushed kernels; the same run a second time comes from the cache, a folder that servers may share."""

    def __init__(self, competition: Path, slug: str, hidden: Path, cache: Path) -> None:
        self.competition, self.slug, self.hidden, self.cache = competition, slug, hidden, cache

    def __call__(self, version: dict[str, Any], datasets: dict[str, Path], hidden: bool) -> dict[str, Any]:
        """As Kernels has it: the outcome of the kernel on the datasets, in the hidden re-run or before."""
        competition = self.hidden if hidden else self.competition
        parts = [version["source"], version["kernelType"], str(hidden), str(version["sessionTimeoutSeconds"])]
        parts += contents(competition) if version["competitions"] else ["no competition"]
        for ref, folder in sorted(datasets.items()):
            parts += [ref, *(f"{path.name} {sha256(path.read_bytes())}" for path in sorted(folder.iterdir()))]
        out = self.cache / sha256("\0".join(parts).encode())
        self.cache.mkdir(parents=True, exist_ok=True)
        with out.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # whoever wants the same run waits for it; the lock ends with the process
            if not out.is_dir():
                self.run(version, datasets, competition, hidden, out)
        outcome = json.loads((out / "outcome.json").read_text())
        return outcome | {"files": {name: str(out / "files" / name) for name in outcome["files"]}}

    def run(
        self, version: dict[str, Any], datasets: dict[str, Path], competition: Path, hidden: bool, out: Path
    ) -> None:
        """Leaves outcome.json and files/ in `out`."""
        with tempfile.TemporaryDirectory(dir=self.cache) as folder:
            stage = Path(folder)
            for name in ("kernel", "files", "nothing"):
                (stage / name).mkdir()
            code = "kernel.ipynb" if version["kernelType"] == "notebook" else "kernel.py"
            # The sandbox demands what a submission needs; what the kernel lacks of it, submitting refuses.
            meta = {"code_file": code, "kernel_type": version["kernelType"], "enable_internet": False}
            meta |= {"competition_sources": [self.slug], "dataset_sources": list(datasets)}
            (stage / "kernel" / code).write_text(version["source"])
            (stage / "kernel" / "kernel-metadata.json").write_text(json.dumps(meta))
            command = [sys.executable, str(SANDBOX), str(stage / "kernel"), "--quiet", "--out", str(stage / "out")]
            command += ["--competition", str(competition if version["competitions"] else stage / "nothing")]
            command += ["--datasets", *map(str, datasets.values())] if datasets else []
            if version["sessionTimeoutSeconds"]:
                command += ["--hours", str(version["sessionTimeoutSeconds"] / 3600)]
            command += ["--rerun"] if hidden else []
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            outcome = self.outcome(stage, done)
            (stage / "outcome.json").write_text(json.dumps(outcome))
            shutil.copytree(stage, out.with_suffix(".partial"), dirs_exist_ok=True)
        out.with_suffix(".partial").rename(out)

    def outcome(self, stage: Path, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
        """What the sandbox's report says; the kernel's outputs go to files/. A run without a submission.csv is ok."""
        if done.returncode not in (0, 1):
            return {"ok": False, "message": "The sandbox did not run it", "log": done.stdout + done.stderr, "files": []}
        report = json.loads((stage / "out" / "report.json").read_text())
        if (stage / "out" / "submission.csv").is_file():
            shutil.copyfile(stage / "out" / "submission.csv", stage / "files" / "submission.csv")
        if report["kernel"] is not None:
            (stage / "files" / "report.json").write_text(json.dumps(report["kernel"], indent=1))
        return {
            "ok": report["exit_code"] == 0 and not report["timed_out"],
            "message": "Notebook Timeout" if report["timed_out"] else "Notebook Threw Exception",
            "log": (stage / "out" / "log.txt").read_text(),
            "files": sorted(path.name for path in (stage / "files").iterdir()),
        }


def score(submission: Path, solution: Path) -> tuple[float, float]:
    """KL on every other row (public), and on the others. Raises SubmissionError on what cannot be scored."""
    score_whole(submission, solution)
    truth = pl.read_csv(solution).sort("eeg_id", maintain_order=True)
    answers = pl.read_csv(submission).sort("eeg_id", maintain_order=True)
    votes = truth.select(VOTES).to_numpy()
    kl = kl_divergence(votes / votes.sum(axis=1, keepdims=True), answers.select(VOTES).to_numpy())
    return float(kl[::2].mean()), float(kl[1::2].mean())
