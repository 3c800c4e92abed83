"""What the Kaggle kernel runs: find the mounts, submit, hold the result against test.csv."""

import contextlib
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, TextIO

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
REPORT = "report.json"
DATASET_PLACES = ("*", "datasets/*/*")
ANYWHERE = ("**",)
GRACE = 0.25  # hours beyond the time allowed after which a run that hangs is ended; 8.5 h and this are below 9


class MountError(KitError):
    """Something that must be attached to the kernel is not there. The message lists what is."""


def mounted(inputs: Path, marker: str, places: tuple[str, ...]) -> list[Path]:
    """Folders below `inputs`, at these places, that hold the marker file."""
    return sorted({path.parent for place in places for path in inputs.glob(f"{place}/{marker}")})


def nowhere(inputs: Path, marker: str) -> MountError:
    there = sorted(str(path.relative_to(inputs)) for path in (*inputs.glob("*"), *inputs.glob("*/*")))
    return MountError(f"no {marker} below {inputs}: attach its source to the kernel. Found: {there[:20] or 'nothing'}")


def mounted_competition(inputs: Path, forgiving: bool) -> Path:
    """Where Kaggle mounts it, in either layout, else wherever else a test set lies. Raises MountError."""
    for places in (COMPETITION_PLACES, ANYWHERE):
        for marker in (TEST_TABLE, SAMPLE_SUBMISSION, TEST_EEGS) if forgiving else (TEST_TABLE,):
            if found := mounted(inputs, marker, places):
                return found[0]
    raise nowhere(inputs, TEST_TABLE)


def mounted_weights(inputs: Path, forgiving: bool, report: SubmissionReport) -> list[Path]:
    """Where Kaggle mounts datasets, in either layout, else wherever else weights lie. Raises MountError when strict."""
    found = mounted(inputs, MANIFEST_FILE, DATASET_PLACES) or mounted(inputs, MANIFEST_FILE, ANYWHERE)
    if not found and not forgiving:
        raise nowhere(inputs, MANIFEST_FILE)
    report.dropped += [] if found else [f"all models: {nowhere(inputs, MANIFEST_FILE)}"]
    return found


class Log:
    """A stream whose reader may go away: what it cannot take is lost, and ends nothing."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(Exception):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(Exception):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def answer_all(root: Path, blend: Blend, forgiving: bool, report: SubmissionReport) -> None:
    """submission.csv, held against test.csv, and report.json."""
    inputs, working = root / "input", root / "working"
    competition = mounted_competition(inputs, forgiving)
    weights = mounted_weights(inputs, forgiving, report)
    submit(competition, weights, blend, working / "submission.csv", forgiving, report, early=True)
    write_report(working / REPORT, report)
    print("\n".join(report.lines()))
    if report.ids_of == TEST_TABLE:
        print(f"submission.csv is right: {validate(working / 'submission.csv', competition)} rows")
    else:
        print(f"submission.csv answers {report.ids_of}: it was not held against {TEST_TABLE}")


def give_up(report: SubmissionReport, working: Path, why: str) -> None:
    """Say what ended the run and leave what is on disk: the prior, and all answers until then."""
    report.failure = why
    for step in (
        lambda: traceback.print_exc() if sys.exc_info()[0] else None,
        lambda: print("\n".join(report.lines()), flush=True),
        lambda: write_report(working / REPORT, report),
    ):
        try:
            step()
        except Exception as error:  # a report that cannot be shown or written must not cost the answers
            with contextlib.suppress(Exception):
                print(f"what happened could not be told: {error!r}", flush=True)


def end_in_time(report: SubmissionReport, working: Path, hours: float) -> threading.Timer:
    """Ends the process, well, where a computation hangs that nothing can interrupt."""

    def end() -> None:
        try:
            give_up(report, working, f"still not done after {hours:.3g} h, ended")
            sys.stdout.flush()
        finally:
            os._exit(0)

    timer = threading.Timer(hours * 3600, end)
    timer.daemon = True
    timer.start()
    return timer


def run_kernel(root: Path, blend_json: str) -> None:
    """Write submission.csv and report.json into root/working from what is mounted below root/input.

    Strict, unless Kaggle runs the hidden test: there nothing may end the run without an answer, so what fails is
    said, here and in report.json, and the answers that are on disk stand.
    """
    keep_freed_memory()
    blend, report = parse_blend(blend_json, "the embedded blend"), SubmissionReport()
    if not os.environ.get("KAGGLE_IS_COMPETITION_RERUN"):
        answer_all(root, blend, False, report)
        return
    with contextlib.redirect_stdout(Log(sys.stdout)), contextlib.redirect_stderr(Log(sys.stderr)):
        timer = end_in_time(report, root / "working", blend.hours + GRACE)
        try:
            answer_all(root, blend, True, report)
        except BaseException as error:  # whatever it is, polars' panics too: an error would void the submission
            give_up(report, root / "working", f"{type(error).__name__}: {error}")
        finally:
            timer.cancel()
