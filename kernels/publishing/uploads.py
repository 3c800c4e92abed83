"""Weights to Kaggle: a dataset, or a new version of it, that is ready and holds what was sent."""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from publishing.checks import MANIFEST, METADATA
from publishing.job import Job, PublishError
from publishing.kaggle_command import CHANGE_SECONDS, KaggleError
from publishing.kaggle_failures import ABSENT
from publishing.state import DatasetState
from sandboxing.mounts import fingerprint

LOST = ("failed", "deleted")
SLOWEST = 50_000  # bytes a second that an upload is given before it counts as dead


@dataclass(frozen=True)
class Remote:
    """What Kaggle says of a dataset."""

    status: str
    version: int


def look(job: Job, slug: str) -> Remote | None:
    """None: there is no such dataset, or it is not yet to be seen. Raises KaggleError."""
    try:
        found = job.kaggle.answer("datasets", "status", f"{job.state.owner}/{slug}", "--format", "json")
    except KaggleError as error:
        if error.failure.name in ABSENT:
            return None
        raise
    return Remote(found["status"], found["current_version_number"] or 0)


def is_public(job: Job, slug: str) -> bool:
    """Whether everybody can see an existing dataset, as a new version of it would be."""
    with TemporaryDirectory() as folder:
        job.kaggle.read("datasets", "metadata", f"{job.state.owner}/{slug}", "-p", folder)
        metadata = json.loads(Path(folder, METADATA).read_text(encoding="utf-8"))
    return not metadata.get("info", metadata).get("isPrivate")  # the client leaves out what is false


def differences(job: Job, slug: str, place: Path) -> list[str]:
    """How the newest version differs from a folder: names, sizes, and the manifest's bytes."""
    name = f"{job.state.owner}/{slug}"
    remote = {file["name"]: file["size"] for file in job.kaggle.pages("datasets", "files", name)}
    here = {path.name: path.stat().st_size for path in place.iterdir() if path.name != METADATA}
    found = [f"{file} is missing" for file in sorted(here.keys() - remote.keys())]
    found += [f"{file} was not sent" for file in sorted(remote.keys() - here.keys())]
    sizes = [(file, remote[file], here[file]) for file in sorted(here.keys() & remote.keys())]
    found += [f"{file} has {there:,} bytes instead of {ours:,}" for file, there, ours in sizes if there != ours]
    if not found:
        with TemporaryDirectory() as folder:
            job.kaggle.read("datasets", "download", name, "-f", MANIFEST, "-p", folder, "--force", "--unzip", "-q")
            fetched = [path.read_bytes() for path in Path(folder).iterdir()]
        if fetched != [(place / MANIFEST).read_bytes()]:
            found.append(f"{MANIFEST} is another one, so the weights are")
    return found


def send_words(job: Job, slug: str, exists: bool) -> list[str | Path]:
    """The kaggle command that uploads a dataset."""
    if exists:
        return ["datasets", "version", "-p", job.folder(slug), "-m", job.state.message]
    return ["datasets", "create", "-p", job.folder(slug), *(["-u"] if job.options.public else [])]


def wait_until_ready(job: Job, slug: str, dataset: DatasetState) -> int:
    """The version that is ready. Raises PublishError where Kaggle could not process it."""

    def ready() -> int | None:
        remote = look(job, slug)
        if remote is None or (dataset.expected and remote.version < dataset.expected):
            return None
        if remote.status in LOST:
            dataset.expected = None
            job.save()
            raise PublishError(
                f"Kaggle could not process {slug} (its status is {remote.status}).\n"
                "Look at the dataset's page; run the same command with --resume to send a new version."
            )
        return remote.version if remote.status == "ready" else None

    return job.until(f"{slug} is ready", ready)


def newest(job: Job, slug: str, dataset: DatasetState) -> Remote | None:
    """What Kaggle shows, looked for repeatedly when the last run ended while it was sending."""
    if dataset.expected is None:
        return look(job, slug)
    remote = None
    for _ in job.looks():
        remote = look(job, slug)
        if remote and remote.version >= dataset.expected:
            break
    return remote


def is_there(job: Job, slug: str, dataset: DatasetState, remote: Remote | None) -> bool:
    """Whether Kaggle holds these bytes already, from earlier or because an interrupted upload went through."""
    if remote is None or remote.status in LOST or remote.version < (dataset.expected or 1):
        return False
    dataset.version = wait_until_ready(job, slug, dataset)
    found = differences(job, slug, job.folder(slug))
    if found:
        job.say(slug, f"version {dataset.version} on Kaggle is another: {'; '.join(found)}")
        dataset.version, dataset.expected = None, None
    return not found


def refuse_changed(job: Job, slug: str, dataset: DatasetState) -> None:
    """Raises PublishError where a folder to be uploaded is no longer what was checked."""
    if fingerprint(job.folder(slug)) != dataset.fingerprint:
        dataset.version = None
        job.save()
        raise PublishError(
            f"The files of {slug} changed after they were checked.\n"
            "Leave them as the sandbox ran them, and run the same command with --resume: it compares and sends anew."
        )


def upload(job: Job, slug: str, dataset: DatasetState, remote: Remote | None) -> None:
    dataset.expected = (remote.version if remote else 0) + 1
    job.save()
    size = sum(path.stat().st_size for path in job.folder(slug).iterdir())
    refuse_changed(job, slug, dataset)
    words = send_words(job, slug, remote is not None)
    try:
        job.kaggle.change(*words, seconds=CHANGE_SECONDS + size / SLOWEST)
    except KaggleError as error:
        # kaggle itself repeats some requests, and the second may be refused because the first arrived.
        remote = look(job, slug)
        if not remote or remote.version < dataset.expected:
            if error.failure.name == "upload failed":  # its notes on what had arrived may be what is wrong
                job.kaggle.forget_uploads()
            raise
        job.say(slug, "it arrived all the same.")
    dataset.version = wait_until_ready(job, slug, dataset)
    if dataset.version > dataset.expected:
        job.say(slug, f"version {dataset.version} instead of {dataset.expected}: kaggle itself repeated what it sent")
    found: list[str] = []
    for _ in job.looks():
        found = differences(job, slug, job.folder(slug))
        if not found:
            refuse_changed(job, slug, dataset)
            return
    version, dataset.version, dataset.expected = dataset.version, None, None
    job.save()
    raise PublishError(
        f"{slug} version {version} on Kaggle is not what was sent: {'; '.join(found)}.\n"
        "Run the same command with --resume: it sends a new version."
    )


def publish_dataset(job: Job, slug: str, may_upload: bool = True) -> None:
    """Until Kaggle holds these bytes, ready to be mounted. Raises PublishError and KaggleError."""
    dataset = job.state.datasets[slug]
    if dataset.version is not None:
        job.say(slug, f"version {dataset.version}, as before")
        return
    remote = newest(job, slug, dataset)
    if is_there(job, slug, dataset, remote):
        job.say(slug, f"Kaggle holds these bytes as version {dataset.version}")
    elif not may_upload:
        raise PublishError(f"Kaggle does not hold these weights as {slug}: publish them with --only datasets first.")
    else:
        upload(job, slug, dataset, remote)
        files = len(list(job.folder(slug).iterdir())) - 1
        job.say(slug, f"version {dataset.version} is ready, its {files} files compared")
    job.save()
