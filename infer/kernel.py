"""What the Kaggle kernel runs: find the mounts, submit, hold the result against test.csv."""

import os
from pathlib import Path

from common.blend import parse_blend
from common.errors import KitError
from common.memory import keep_freed_memory
from common.schema import TEST_TABLE
from common.weights import MANIFEST_FILE
from infer.submit import submit, write_report
from infer.validate import validate

COMPETITION = "hms-harmful-brain-activity-classification"


class MountError(KitError):
    """Something that must be attached to the kernel is not there. The message lists what is."""


def mounted(inputs: Path, marker: str, patterns: tuple[str, ...]) -> list[Path]:
    """Folders that hold the marker file: where Kaggle mounts them, else anywhere below."""
    for pattern in (*patterns, "**"):
        found = sorted(path.parent for path in inputs.glob(f"{pattern}/{marker}"))
        if found:
            return found
    there = sorted(str(path.relative_to(inputs)) for path in (*inputs.glob("*"), *inputs.glob("*/*")))
    raise MountError(f"no {marker} below {inputs}: attach its source to the kernel. Found: {there[:20] or 'nothing'}")


def run_kernel(root: Path, blend_json: str) -> None:
    """Write submission.csv and report.json into root/working from what is mounted below root/input.

    Datasets lie in input/SLUG or input/datasets/OWNER/SLUG, the competition in input/SLUG or
    input/competitions/SLUG; both layouts are in use. Strict, unless Kaggle runs the hidden test.
    """
    keep_freed_memory()
    hidden_run = bool(os.environ.get("KAGGLE_IS_COMPETITION_RERUN"))
    inputs, working = root / "input", root / "working"
    competition = mounted(inputs, TEST_TABLE, (COMPETITION, f"competitions/{COMPETITION}"))[0]
    blend = parse_blend(blend_json, "the embedded blend")
    try:
        weights = mounted(inputs, MANIFEST_FILE, ("datasets/*/*", "*"))
    except MountError as error:
        if not hidden_run:
            raise
        print(f"DROPPED all models: {error}")
        weights = []
    report = submit(competition, weights, blend, working / "submission.csv", forgiving=hidden_run)
    write_report(working / "report.json", report)
    print("\n".join(report.lines()))
    print(f"submission.csv is right: {validate(working / 'submission.csv', competition)} rows")
