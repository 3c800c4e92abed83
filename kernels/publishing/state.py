"""How far a publication has come: written before and after whatever cannot be taken back, so that it can go on.

What is about to be sent is written down first (the version that is to come, the message of the submission). After an
end at any point the next run therefore knows what it has to look for at Kaggle before it sends anything again.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import KitError
from common.files import sha256_of, write_via
from publishing.bundle import Parcel
from publishing.ledger import nested_cv

STATE, LOCK = "publication.json", "publication.lock"
ORPHAN_SECONDS = 900  # how long the last command of a killed publisher is waited for


class PublicationError(KitError):
    """A publication that cannot begin or go on. The message says what to do."""


class Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class DatasetFacts(Facts):
    fingerprint: str
    expected: int | None = None  # the version that was about to be made
    version: int | None = None  # what holds these bytes on Kaggle, compared


class KernelFacts(Facts):
    expected: int | None = None
    version: int | None = None
    complete: bool = False  # ran, and its submission.csv is valid
    failed: list[int] = Field(default_factory=list)  # versions that did not run to their end


class SubmissionFacts(Facts):
    asked: bool = False  # kaggle was asked to submit, or was about to be
    ever: int | None = None  # submissions that there were just before
    ref: int | None = None
    status: str | None = None  # COMPLETE or ERROR
    public: str = ""
    private: str = ""
    why: str = ""


class Publication(Facts):
    format: Literal[2] = 2
    started: str
    owner: str
    competition: str
    kernel_slug: str
    kernel_sha256: str
    git_commit: str
    weights_sha256: str
    blend: str  # sha256 of the file, then the chosen way to combine
    nested_cv: str
    message: str  # unique: what the submission is found by
    datasets: dict[str, DatasetFacts]
    kernel: KernelFacts = Field(default_factory=KernelFacts)
    submission: SubmissionFacts = Field(default_factory=SubmissionFacts)
    parked: bool = False  # the part that --only asked for is done: nothing is under way
    finished: bool = False

    @property
    def mark(self) -> str:
        """The message's end, that no other publication has."""
        return self.message.split(" ")[-1]

    @property
    def under_way(self) -> bool:
        """Whether something was sent, or about to be, and not all of what was asked for is done. A submission is
        always waited for: its row in the ledger must not be lost."""
        parts = [*self.datasets.values(), self.kernel]
        touched = any(part.expected or part.version for part in parts) or bool(self.kernel.failed)
        return not self.finished and (self.submission.asked or (touched and not self.parked))

    def reached(self) -> str:
        """In words."""
        if self.submission.asked:
            return f"submitted as {self.message!r}" if self.submission.ref else "about to submit"
        if self.kernel.version:
            return f"kernel version {self.kernel.version} pushed"
        if self.kernel.expected:
            return f"about to push kernel version {self.kernel.expected}"
        sent = [slug for slug, facts in self.datasets.items() if facts.version]
        return f"{len(sent)} of {len(self.datasets)} datasets on Kaggle"


def begin(parcel: Parcel, owner: str, message: str | None, git_commit: str) -> Publication:
    now = datetime.now(UTC)
    mark = secrets.token_hex(4)
    candidate, cv = nested_cv(parcel)
    return Publication(
        started=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        owner=owner,
        competition=parcel.kernel.competition,
        kernel_slug=parcel.kernel.slug,
        kernel_sha256=parcel.kernel.sha256,
        git_commit=git_commit,
        weights_sha256=parcel.weights_sha256(),
        blend=f"{sha256_of(parcel.blend_file)} {candidate}",
        nested_cv=cv,
        message=f"{message or f'{parcel.kernel.slug} {parcel.kernel.sha256[:8]}'} [{now:%y%m%d}-{mark}]",
        datasets={slug: DatasetFacts(fingerprint=digest) for slug, digest in parcel.fingerprints().items()},
    )


def load(file: Path) -> Publication | None:
    """Raises PublicationError for a damaged file."""
    if not file.exists():
        return None
    try:
        return Publication.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise PublicationError(
            f"{file} cannot be read ({error}). See on Kaggle what was published, then start again with --restart."
        ) from error


def save(file: Path, publication: Publication) -> None:
    """On the disk before anything is sent."""

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as out:
            out.write(publication.model_dump_json(indent=1) + "\n")
            out.flush()
            os.fsync(out.fileno())

    file.parent.mkdir(parents=True, exist_ok=True)
    write_via(file, write)


def differences(old: Publication, parcel: Parcel, owner: str) -> list[str]:
    """What is no longer what the publication began with."""
    now = {
        "the owner": (old.owner, owner),
        "the competition": (old.competition, parcel.kernel.competition),
        "the kernel's slug": (old.kernel_slug, parcel.kernel.slug),
        "the kernel's sha256": (old.kernel_sha256, parcel.kernel.sha256),
    }
    before, given = {slug: facts.fingerprint for slug, facts in old.datasets.items()}, parcel.fingerprints()
    for slug in sorted({*before, *given}):
        now[f"the fingerprint of {slug}"] = (before.get(slug, "none"), given.get(slug, "none"))
    return [f"{what} was {a[:40]}, is {b[:40]}" for what, (a, b) in now.items() if a != b]


def take_up(old: Publication | None, fresh: Publication, changed: list[str], resume: bool) -> Publication:
    """The publication to go on with. Raises PublicationError where that would leave one half done, or mix two."""
    if old and old.finished and not changed and not resume:
        raise PublicationError(
            f"These very bytes are published already, as {old.message!r}.\n"
            "To run and submit them once more begin another publication with --restart."
        )
    if old is None or (not resume and not old.under_way and (changed or not old.parked)):
        return fresh
    if not resume and old.under_way:
        raise PublicationError(
            f"The publication begun {old.started} has not ended ({old.reached()}).\n"
            "Go on with --resume, or leave it as it is and begin another with --restart."
        )
    if changed:
        raise PublicationError(
            f"The publication begun {old.started} ({old.reached()}) cannot go on:\n- " + "\n- ".join(changed) + "\n"
            "Put back what it began with, or leave it as it is and begin another with --restart."
        )
    old.parked = False
    return old


def is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextmanager
def sole_publisher(folder: Path) -> Iterator[int]:
    """The only publisher of this folder; gives a file descriptor that its commands hold, too.

    A kaggle command outlives a publisher that was killed. It still holds the lock, and until it ends nobody can
    know what it did; so it is waited for. Raises PublicationError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise PublicationError(f"{folder} cannot be written ({error.strerror}); give another --out.") from error
    try:
        started, said = time.monotonic(), False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pid = os.pread(lock, 32, 0).decode().strip()
                if is_alive(pid):
                    raise PublicationError(f"Process {pid} is publishing from {folder}: wait for its end.") from None
                if time.monotonic() - started > ORPHAN_SECONDS:
                    raise PublicationError(
                        f"A kaggle command of an ended publisher ({pid}) still runs: wait for its end, or end it."
                    ) from None
                if not said:
                    print(f"waiting for the last kaggle command of an ended publisher ({pid})", flush=True)
                said = True
                time.sleep(0.1)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield lock
    finally:
        os.close(lock)
