"""How far a publication has come: written before and after whatever cannot be taken back, so that it can go on.

What is about to be sent is written down first (the version that is to come, the message of the submission). After an
end at any point the next run therefore knows what it has to look for at Kaggle before it sends anything again.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import KitError
from common.files import sha256_of, write_via
from publishing.bundle import Bundle

STATE, LOCK = "publication.json", "publication.lock"


class StateError(KitError):
    """A publication that cannot begin or go on. The message says what to do."""


class Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class DatasetState(Facts):
    fingerprint: str
    expected: int | None = None  # the version that was about to be made
    version: int | None = None  # what holds these bytes on Kaggle, compared


class KernelState(Facts):
    expected: int | None = None
    version: int | None = None
    complete: bool = False  # ran, and its submission.csv is valid
    failed: list[int] = Field(default_factory=list)  # versions that did not run to their end


class SubmissionState(Facts):
    asked: bool = False  # kaggle was asked to submit, or was about to be
    ever: int | None = None  # submissions that there were just before
    ref: int | None = None
    status: str | None = None  # COMPLETE or ERROR
    public: str = ""
    private: str = ""
    why: str = ""


class State(Facts):
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
    datasets: dict[str, DatasetState]
    kernel: KernelState = Field(default_factory=KernelState)
    submission: SubmissionState = Field(default_factory=SubmissionState)
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
        sent = [slug for slug, dataset in self.datasets.items() if dataset.version]
        return f"{len(sent)} of {len(self.datasets)} datasets on Kaggle"


def nested_cv(bundle: Bundle) -> tuple[str, str]:
    """Name and nested out-of-fold KL of the way to combine that the blend chose; its score is empty if not fitted."""
    for candidate in bundle.blend.candidates:
        if candidate.chosen:
            return candidate.name, f"{candidate.nested_kl:.6f}"
    return "given" if bundle.blend.models else "equal", ""


def begin(bundle: Bundle, owner: str, message: str | None, git_commit: str) -> State:
    now = datetime.now(UTC)
    chosen, cv = nested_cv(bundle)
    kernel = bundle.kernel
    return State(
        started=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        owner=owner,
        competition=kernel.competition,
        kernel_slug=kernel.slug,
        kernel_sha256=kernel.sha256,
        git_commit=git_commit,
        weights_sha256=bundle.weights_sha256(),
        blend=f"{sha256_of(bundle.blend_file)} {chosen}",
        nested_cv=cv,
        message=f"{message or f'{kernel.slug} {kernel.sha256[:8]}'} [{now:%y%m%d}-{secrets.token_hex(4)}]",
        datasets={slug: DatasetState(fingerprint=digest) for slug, digest in bundle.fingerprints().items()},
    )


def load(file: Path) -> State | None:
    """Raises StateError for a damaged file."""
    if not file.exists():
        return None
    try:
        return State.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise StateError(
            f"{file} cannot be read ({error}). See on Kaggle what was published, then start again with --restart."
        ) from error


def save(file: Path, state: State) -> None:
    """On the disk before anything is sent."""

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8") as out:
            out.write(state.model_dump_json(indent=1) + "\n")
            out.flush()
            os.fsync(out.fileno())

    file.parent.mkdir(parents=True, exist_ok=True)
    write_via(file, write)


def identity(state: State) -> dict[str, str]:
    facts = {"the owner": state.owner, "the competition": state.competition}
    facts |= {"the kernel's slug": state.kernel_slug, "the kernel's sha256": state.kernel_sha256}
    return facts | {f"the fingerprint of {slug}": one.fingerprint for slug, one in sorted(state.datasets.items())}


def differences(old: State, new: State) -> list[str]:
    """What is no longer what the publication began with."""
    before, now = identity(old), identity(new)
    pairs = {what: (before.get(what, "none"), now.get(what, "none")) for what in before | now}
    return [f"{what} was {a[:40]}, is {b[:40]}" for what, (a, b) in pairs.items() if a != b]


def choose(old: State | None, fresh: State, resume: bool) -> State:
    """The publication to go on with. Raises StateError where that would leave one half done, or mix two."""
    changed = differences(old, fresh) if old else []
    if old and old.finished and not changed and not resume:
        raise StateError(
            f"These very bytes are published already, as {old.message!r}.\n"
            "To run and submit them once more begin another publication with --restart."
        )
    if old is None or (not resume and not old.under_way and (changed or not old.parked)):
        return fresh
    if not resume and old.under_way:
        raise StateError(
            f"The publication begun {old.started} has not ended ({old.reached()}).\n"
            "Go on with --resume, or leave it as it is and begin another with --restart."
        )
    if changed:
        raise StateError(
            f"The publication begun {old.started} ({old.reached()}) cannot go on:\n- " + "\n- ".join(changed) + "\n"
            "Put back what it began with, or leave it as it is and begin another with --restart."
        )
    old.parked = False
    return old


@contextmanager
def sole_publisher(folder: Path) -> Iterator[int]:
    """Waits until no other publisher uses this folder; yields a file descriptor that every kaggle command keeps open.

    A kaggle command outlives a publisher that was killed. It still holds the lock, and until it ends nobody can know
    what it did; so it is waited for. Raises StateError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StateError(f"{folder} cannot be written ({error.strerror}); give another --out.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f"waiting for another publisher of {folder}, or the last kaggle command of one that ended", flush=True
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)
