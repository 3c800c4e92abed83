"""What the Kaggle kernel runs: find the mounts, submit, hold the result against test.csv."""

import contextlib
import os
import sys
import threading
import traceback
from pathlib import Path

from common.blend import Blend, parse_blend
from common.errors import KitError
from common.memory import keep_freed_memory
from common.schema import SAMPLE_SUBMISSION, TEST_EEGS, TEST_TABLE
from common.weights import MANIFEST_FILE
from infer.report import SubmissionReport, write_report
from infer.submit import submit
from infer.validate import validate

COMPETITION = "hms-harmful-brain-activity-classification"
COMPETITION_PLACES = (COMPETITION, f"competitions/{COMPETITION}")  # Kaggle mounts in either of two layouts
DATASET_PLACES = ("*", "datasets/*/*")
SUBMISSION, REPORT = "submission.csv", "report.json"
GRACE = 0.25  # hours beyond the time allowed after which a run that hangs is ended; 8.5 h and this are below 9


class MountError(KitError):
    """Something that must be attached to the kernel is not there. The message lists what is."""


def mounted(inputs: Path, places: tuple[str, ...], markers: tuple[str, ...]) -> list[Path]:
    """Folders that hold a marker file: at these places below `inputs`, else anywhere below. Raises MountError."""
    for where in (places, ("**",)):
        for marker in markers:
            if found := sorted({path.parent for place in where for path in inputs.glob(f"{place}/{marker}")}):
                return found
    there = sorted(str(path.relative_to(inputs)) for path in (*inputs.glob("*"), *inputs.glob("*/*")))
    raise MountError(
        f"no {markers[0]} below {inputs}: attach its source to the kernel. Found: {there[:20] or 'nothing'}"
    )


def submit_mounted(root: Path, blend: Blend, forgiving: bool, report: SubmissionReport) -> None:
    """submission.csv, held against test.csv, and report.json."""
    inputs, working = root / "input", root / "working"
    markers = (TEST_TABLE, SAMPLE_SUBMISSION, TEST_EEGS) if forgiving else (TEST_TABLE,)
    competition = mounted(inputs, COMPETITION_PLACES, markers)[0]
    try:
        weights = mounted(inputs, DATASET_PLACES, (MANIFEST_FILE,))
    except MountError as error:
        if not forgiving:
            raise
        weights = []
        report.dropped.append(f"all models: {error}")
    submit(competition, weights, blend, working / SUBMISSION, forgiving, report, early=True)
    write_report(working / REPORT, report)
    print("\n".join(report.lines()))
    if report.ids_of == TEST_TABLE:
        print(f"{SUBMISSION} is right: {validate(working / SUBMISSION, competition)} rows")
    else:
        print(f"{SUBMISSION} answers {report.ids_of}: it was not held against {TEST_TABLE}")


def report_failure(report: SubmissionReport, working: Path, why: str) -> None:
    """Say what ended the run; submission.csv stays as it is: the prior, and all predictions until then."""
    report.failure = why
    with contextlib.suppress(Exception):  # a report that cannot be shown or written must not cost the answers
        print("\n".join(report.lines()), flush=True)
    with contextlib.suppress(Exception):
        write_report(working / REPORT, report)


def end_after(hours: float, report: SubmissionReport, working: Path) -> threading.Timer:
    """Ends the process, with exit code 0, where a computation hangs that nothing can interrupt."""

    def end() -> None:
        try:
            report_failure(report, working, f"still not done after {hours:.3g} h, ended")
            sys.stdout.flush()
        finally:
            os._exit(0)

    timer = threading.Timer(hours * 3600, end)
    timer.daemon = True
    timer.start()
    return timer


def run_kernel(root: Path, blend_json: str) -> None:
    """Write submission.csv and report.json into root/working from what is mounted below root/input.

    Strict, unless Kaggle runs the hidden test: there nothing may end the run without an answer, so a failure is
    reported, here and in report.json, and the answers that are on disk stand.
    """
    keep_freed_memory()
    blend, report = parse_blend(blend_json, "the embedded blend"), SubmissionReport()
    if not os.environ.get("KAGGLE_IS_COMPETITION_RERUN"):
        submit_mounted(root, blend, False, report)
        return
    timer = end_after(blend.hours + GRACE, report, root / "working")
    try:
        submit_mounted(root, blend, True, report)
    except BaseException as error:  # whatever it is, polars' panics too: an error would void the submission
        with contextlib.suppress(Exception):
            traceback.print_exc()
        report_failure(report, root / "working", f"{type(error).__name__}: {error}")
    finally:
        timer.cancel()
