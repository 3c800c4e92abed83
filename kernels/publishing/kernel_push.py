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
SHOWN = 15  # last lines of a log; entries of a kind of surprise


def push_words(job: Job) -> list[str | Path]:
    return ["kernels", "push", "-p", job.places[job.publication.kernel_slug]]


def version_in(printed: str) -> int | None:
    found = re.search(r"^Kernel version (\d+) successfully pushed", printed, re.MULTILINE)
    return int(found.group(1)) if found else None


def what_is_pushed(job: Job) -> tuple[str, list[str]]:
    """The code's sha256 and the sources, as Kaggle would name them."""
    place = job.places[job.publication.kernel_slug]
    metadata = json.loads((place / METADATA).read_text(encoding="utf-8"))
    code = (place / metadata["code_file"]).read_text(encoding="utf-8")
    return code_sha256(code), sorted([*metadata["dataset_sources"], *metadata["competition_sources"]])


def send_unchanged(job: Job) -> str:
    """Raises PublishError where what is about to be pushed is no longer what was checked, and KaggleError."""
    place = job.places[job.publication.kernel_slug]
    metadata = json.loads((place / METADATA).read_text(encoding="utf-8"))
    if sha256_of(place / metadata["code_file"]) != job.publication.kernel_sha256:
        raise PublishError(
            f"{place / metadata['code_file']} changed after it was checked: nothing was pushed.\n"
            "Run the same command with --resume: it lays it out again."
        )
    return job.kaggle.change(*push_words(job))


def arrived(job: Job) -> int | None:
    """The version that was about to be pushed, if it is the newest one on Kaggle. Raises PublishError."""
    newest, expected = job.kaggle.newest_version(job.kernel), job.publication.kernel.expected
    if newest is None or expected is None or newest["version"] < expected:
        return None
    code, sources = what_is_pushed(job)
    if newest["code_sha256"] != code:
        raise PublishError(
            f"Version {newest['version']} of {job.kernel} on Kaggle is not this kernel: somebody else pushed.\n"
            "Look at the kernel's page. Begin another publication with --restart."
        )
    if sorted(newest["sources"]) != sources:
        job.say("kernel", f"version {newest['version']} lost sources: it has {', '.join(newest['sources']) or 'none'}")
        return None
    return int(newest["version"])


def push(job: Job) -> None:
    """Raises KaggleError and PublishError."""
    facts = job.publication.kernel
    if facts.expected is not None:  # pushed, or about to be, when the last run ended
        for _ in job.looks():
            facts.version = arrived(job)
            if facts.version:
                job.say("kernel", f"version {facts.version} had arrived")
                job.save()
                return
    newest = job.kaggle.newest_version(job.kernel)
    facts.expected = (newest["version"] if newest else 0) + 1
    job.save()
    try:
        answer = job.send("kernel", lambda: send_unchanged(job), lambda: arrived(job))
    except KaggleError as error:
        if error.failure.name.endswith("source dropped"):  # a version was made, and is not to be taken for this one
            facts.expected = None
            job.save()
        raise
    told = answer if isinstance(answer, int) else version_in(answer)
    facts.version = told if told and told >= facts.expected else arrived(job)
    if facts.version is None:
        raise PublishError(
            "kaggle pushed the kernel but told no version.\nRun the same command with --resume: it looks which it is."
        )
    job.say("kernel", f"version {facts.version} is pushed")
    job.save()


def fetch(job: Job) -> Path:
    """The kernel's output and log, in a folder of their own."""
    shutil.rmtree(job.published, ignore_errors=True)
    job.published.mkdir(parents=True)
    version = job.publication.kernel.version
    job.kaggle.read("kernels", "output", f"{job.kernel}/{version}", "-p", job.published, "--force", "-q")
    return job.published


def last_lines(folder: Path, slug: str) -> str:
    """The end of the kernel's log, which Kaggle keeps as pieces of its two streams."""
    try:
        text = (folder / f"{slug}.log").read_text(encoding="utf-8")
    except OSError:
        return "\n  (Kaggle gave no log)"
    with contextlib.suppress(ValueError, TypeError, KeyError):  # else it is plain text, as some logs are
        text = "".join(str(piece["data"]) for piece in json.loads(text))
    return "".join(f"\n  | {line}" for line in text.strip().splitlines()[-SHOWN:])


def log_of(job: Job) -> str:
    """The end of the log of a version that failed; what Kaggle says where it does not give that."""
    try:
        return last_lines(fetch(job), job.publication.kernel_slug)
    except KaggleError as error:
        return f"\n  (its log could not be fetched: {str(error).splitlines()[0]})"


def end_of_run(job: Job) -> tuple[str, str]:
    """Status and failure message of the version that was pushed, once it has ended."""
    words = ("kernels", "status", f"{job.kernel}/{job.publication.kernel.version}")

    def ended() -> tuple[str, str] | None:
        printed = job.kaggle.read(*words)
        status = re.search(r'has status "(?:\w+\.)?(\w+)"', printed)
        if not status:
            raise PublishError(f"kaggle told no status of the kernel: {printed.strip()}")
        message = re.search(r'Failure message: "(.*)"', printed, re.DOTALL)
        name = status.group(1).upper()
        over = name in ("COMPLETE", "ERROR") or name.startswith("CANCEL")
        return (name, message.group(1) if message else "") if over else None

    return job.until(f"{words[2]} has run", ended)


def surprises(report: dict[str, Any]) -> list[str]:
    """What the kernel itself found worth telling, counted; of each kind the first few."""
    lines = [f"WARNING: {what}" for what in report.get("warnings", [])]
    for kind in ("fallbacks", "rebuilt_spectrograms", "repaired"):
        entries = report.get(kind, [])
        lines += [f"{kind}: {len(entries)}"] if entries else []
        lines += ["  " + ", ".join(map(str, entry.values())) for entry in entries[:3]]
    return lines


def stale_mounts(job: Job, manifests: dict[str, str]) -> list[str]:
    """Models that the kernel ran with other weights than these. manifests: sha256 of each model's, as it saw it."""
    sent = {dataset.model: sha256_of(dataset.folder / MANIFEST) for dataset in job.parcel.datasets}
    return [
        f"it ran other weights of {model} than were sent: Kaggle had mounted another version"
        for model, digest in manifests.items()
        if sent.get(model, digest) != digest
    ]


def check_output(job: Job) -> None:
    """Raises PublishError where what the kernel left is not to be submitted."""
    folder, version = fetch(job), job.publication.kernel.version
    submission = folder / SUBMISSION
    names = sorted(path.name for path in folder.iterdir())
    mend = "Mend the kernel, run it in the sandbox, and begin again with --restart."
    log = last_lines(folder, job.publication.kernel_slug)
    if not submission.is_file():
        raise PublishError(
            f"Kernel version {version} left no {SUBMISSION} but {', '.join(names) or 'nothing'}.\n{mend}{log}"
        )
    try:
        rows = validate(submission, job.competition)
    except SubmissionError as error:
        raise PublishError(
            f"What kernel version {version} left is not to be submitted. {error}\n{mend}{log}"
        ) from error
    report: dict[str, Any] = {}
    dropped, manifests = [], {}
    if (folder / REPORT).is_file():
        try:
            report = dict(json.loads((folder / REPORT).read_text(encoding="utf-8")))
            dropped, manifests = list(report.get("dropped") or []), dict(report.get("manifests") or {})
        except (ValueError, TypeError, RecursionError) as error:
            raise PublishError(
                f"{REPORT} of kernel version {version} cannot be read ({error}).\n{mend}{log}"
            ) from error
    wrong = [f"it ended early ({report['failure']})"] if report.get("failure") else []
    wrong += [f"it left something out ({what})" for what in dropped]
    wrong += stale_mounts(job, manifests)
    if wrong:
        raise PublishError(f"Kernel version {version} did not end well: {'; '.join(wrong)}.\n{mend}{log}")
    job.say("kernel", f"version {version} left {', '.join(names)}; {SUBMISSION} has {rows} rows, valid")
    for line in surprises(report):
        job.say("  report", line)


def publish_kernel(job: Job) -> None:
    """Push, wait, fetch, check. Raises KaggleError and PublishError."""
    facts = job.publication.kernel
    if facts.complete:
        job.say("kernel", f"version {facts.version} has run, as before")
        return
    if facts.version is None:
        push(job)
    status, message = end_of_run(job)
    if status != "COMPLETE":
        failed, log = facts.version, log_of(job)
        facts.failed.append(int(failed or 0))
        facts.version, facts.expected = None, None
        job.save()
        raise PublishError(
            f"Kernel version {failed} ended with {status}{f': {message}' if message else ''}.\n"
            "If that was Kaggle's fault, run the same command with --resume: it pushes again. Else mend the kernel,\n"
            f"run it in the sandbox, and begin again with --restart.{log}"
        )
    job.say("kernel", f"version {facts.version} is complete")
    check_output(job)
    facts.complete = True
    job.save()
