"""The kernel to Kaggle: pushed once, run to its end, its output fetched and checked."""

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from build import METADATA
from common.files import sha256_of
from infer.validate import SubmissionError, validate
from publishing.checks import MANIFEST
from publishing.job import Job, PublishError
from publishing.kaggle_command import KaggleError
from publishing.kernel_version import code_sha256

SUBMISSION, REPORT = "submission.csv", "report.json"
SHOWN = 15  # last lines of a log
FIX = "Fix the kernel, run it in the sandbox, and begin again with --restart."


def push_words(job: Job) -> list[str | Path]:
    return ["kernels", "push", "-p", job.folder(job.state.kernel_slug)]


def prepared(job: Job) -> tuple[dict[str, Any], Path]:
    """Metadata and code file of what is pushed."""
    folder = job.folder(job.state.kernel_slug)
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    return metadata, folder / metadata["code_file"]


def send_unchanged(job: Job) -> str:
    """Raises PublishError where what is about to be pushed is no longer what was checked, and KaggleError."""
    code = prepared(job)[1]
    if sha256_of(code) != job.state.kernel_sha256:
        raise PublishError(
            f"{code} changed after it was checked: nothing was pushed.\n"
            "Run the same command with --resume: it copies it again."
        )
    return job.kaggle.change(*push_words(job))


def arrived(job: Job) -> int | None:
    """The version that was about to be pushed, if it is the newest one on Kaggle. Raises PublishError."""
    newest, expected = job.kaggle.newest_version(job.kernel), job.state.kernel.expected
    if newest is None or expected is None or newest["version"] < expected:
        return None
    metadata, code = prepared(job)
    if newest["code_sha256"] != code_sha256(code.read_text(encoding="utf-8")):
        raise PublishError(
            f"Version {newest['version']} of {job.kernel} on Kaggle is not this kernel: somebody else pushed.\n"
            "Look at the kernel's page. Begin another publication with --restart."
        )
    if sorted(newest["sources"]) != sorted([*metadata["dataset_sources"], *metadata["competition_sources"]]):
        job.say("kernel", f"version {newest['version']} lost sources: it has {', '.join(newest['sources']) or 'none'}")
        return None
    return int(newest["version"])


def push(job: Job) -> None:
    """Raises KaggleError and PublishError."""
    kernel = job.state.kernel
    if kernel.expected is not None:  # pushed, or about to be, when the last run ended
        for _ in job.looks():
            kernel.version = arrived(job)
            if kernel.version:
                job.say("kernel", f"version {kernel.version} had arrived")
                job.save()
                return
    newest = job.kaggle.newest_version(job.kernel)
    kernel.expected = (newest["version"] if newest else 0) + 1
    job.save()
    try:
        reported = re.search(r"^Kernel version (\d+) successfully pushed", send_unchanged(job), re.MULTILINE)
    except KaggleError as error:
        if error.failure.name.endswith("source dropped"):  # a version was made, and is not to be taken for this one
            kernel.expected = None
            job.save()
        raise
    kernel.version = int(reported[1]) if reported and int(reported[1]) >= kernel.expected else arrived(job)
    if kernel.version is None:
        raise PublishError(
            "kaggle pushed the kernel but printed no version.\nRun the same command with --resume: it looks for it."
        )
    job.say("kernel", f"version {kernel.version} is pushed")
    job.save()


def fetch(job: Job) -> Path:
    """The kernel's output and log, in a folder of their own."""
    shutil.rmtree(job.output, ignore_errors=True)
    job.output.mkdir(parents=True)
    version = job.state.kernel.version
    job.kaggle.read("kernels", "output", f"{job.kernel}/{version}", "-p", job.output, "--force", "-q")
    return job.output


def last_lines(folder: Path, slug: str) -> str:
    """The end of the kernel's log, which Kaggle keeps as pieces of its two streams."""
    try:
        text = (folder / f"{slug}.log").read_text(encoding="utf-8")
    except OSError:
        return "\n  (Kaggle gave no log)"
    with contextlib.suppress(ValueError, TypeError, KeyError):  # else it is plain text, as some logs are
        text = "".join(str(piece["data"]) for piece in json.loads(text))
    return "".join(f"\n  | {line}" for line in text.strip().splitlines()[-SHOWN:])


def end_of_run(job: Job) -> tuple[str, str]:
    """Status and failure message of the version that was pushed, once it has ended."""
    words = ("kernels", "status", f"{job.kernel}/{job.state.kernel.version}")

    def ended() -> tuple[str, str] | None:
        printed = job.kaggle.read(*words)
        status = re.search(r'has status "(?:\w+\.)?(\w+)"', printed)
        if not status:
            raise PublishError(f"kaggle printed no status of the kernel: {printed.strip()}")
        message = re.search(r'Failure message: "(.*)"', printed, re.DOTALL)
        name = status.group(1).upper()
        over = name in ("COMPLETE", "ERROR") or name.startswith("CANCEL")
        return (name, message.group(1) if message else "") if over else None

    return job.until(f"{words[2]} has run", ended)


def warnings(report: dict[str, Any]) -> list[str]:
    """What the kernel itself reported, counted; of each kind the first few."""
    lines = [f"WARNING: {what}" for what in report.get("warnings", [])]
    for kind in ("fallbacks", "rebuilt_spectrograms", "repaired"):
        entries = report.get(kind, [])
        lines += [f"{kind}: {len(entries)}"] if entries else []
        lines += ["  " + ", ".join(map(str, entry.values())) for entry in entries[:3]]
    return lines


def problems(job: Job, report: dict[str, Any]) -> list[str]:
    """Why a run with this report is not to be submitted: an early end, something left out, other weights mounted."""
    sent = {dataset.model: sha256_of(dataset.folder / MANIFEST) for dataset in job.bundle.datasets}
    found = [f"it ended early ({report['failure']})"] if report.get("failure") else []
    found += [f"it left something out ({what})" for what in report.get("dropped", [])]
    found += [
        f"it ran other weights of {model} than were sent: Kaggle had mounted another version"
        for model, digest in report.get("manifests", {}).items()
        if sent.get(model, digest) != digest
    ]
    return found


def check_output(job: Job) -> None:
    """Raises PublishError where what the kernel left is not to be submitted."""
    folder, version = fetch(job), job.state.kernel.version
    names = sorted(path.name for path in folder.iterdir())
    report: dict[str, Any] = {}
    wrong = ""
    try:
        if SUBMISSION not in names:
            raise PublishError(f"it left no {SUBMISSION} but {', '.join(names) or 'nothing'}")
        rows = validate(folder / SUBMISSION, job.options.competition)
        if REPORT in names:
            report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
            if found := problems(job, report):
                raise PublishError("; ".join(found))
    except (PublishError, SubmissionError) as error:
        wrong = f"Kernel version {version} is not to be submitted: {error}."
    except (ValueError, TypeError, AttributeError) as error:
        wrong = f"{REPORT} of kernel version {version} cannot be read ({error})."
    if wrong:
        raise PublishError(f"{wrong}\n{FIX}{last_lines(folder, job.state.kernel_slug)}")
    job.say("kernel", f"version {version} left {', '.join(names)}; {SUBMISSION} has {rows} rows, valid")
    for line in warnings(report):
        job.say("  report", line)


def failed_run(job: Job, status: str, message: str) -> PublishError:
    """The error of a version that did not run to its end, with the end of its log; the next run pushes again."""
    kernel = job.state.kernel
    version = kernel.version
    try:
        log = last_lines(fetch(job), job.state.kernel_slug)
    except KaggleError as error:
        log = f"\n  (its log could not be fetched: {str(error).splitlines()[0]})"
    kernel.failed.append(int(version or 0))
    kernel.version, kernel.expected = None, None
    job.save()
    return PublishError(
        f"Kernel version {version} ended with {status}{f': {message}' if message else ''}.\n"
        "If that was Kaggle's fault, run the same command with --resume: it pushes again. Else fix the kernel,\n"
        f"run it in the sandbox, and begin again with --restart.{log}"
    )


def publish_kernel(job: Job) -> None:
    """Push, wait, fetch, check. Raises KaggleError and PublishError."""
    kernel = job.state.kernel
    if kernel.complete:
        job.say("kernel", f"version {kernel.version} has run, as before")
        return
    if kernel.version is None:
        push(job)
    status, message = end_of_run(job)
    if status != "COMPLETE":
        raise failed_run(job, status, message)
    job.say("kernel", f"version {kernel.version} is complete")
    check_output(job)
    kernel.complete = True
    job.save()
