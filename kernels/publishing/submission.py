"""One submission of the kernel's version, its scores, and its row in the ledger."""

import re
from datetime import UTC, datetime

from publishing.job import Job, PublishError
from publishing.kaggle_command import PAGE, as_typed, entries_in, short
from publishing.kernel_push import SUBMISSION
from publishing.ledger import append
from train.report.ledger import Row


def submit_words(job: Job, version: int | str) -> list[str]:
    words = ["competitions", "submit", job.state.competition, "-f", SUBMISSION]
    return [*words, "-k", job.kernel, "-v", str(version), "-m", job.state.message]


def find(job: Job) -> int | None:
    """The number of this publication's submission, found by its message."""
    words = ("competitions", "submissions", job.state.competition, "--page-size", str(PAGE), "--format", "json")
    entries = entries_in(job.kaggle.read(*words), as_typed(words))
    found = [entry["ref"] for entry in entries if job.state.mark in (entry["description"] or "")]
    return int(found[0]) if found else None


def count_submissions(job: Job) -> int | None:
    """How many there were ever; None where Kaggle does not say. Raises PublishError when today's are used up.

    All zero: not on a team yet, or no answer to rely upon, which is no limit.
    """
    limits = job.kaggle.read("competitions", "submission-limits", job.state.competition)
    counts = {name: int(count) for name, count in re.findall(r"^([A-Z][a-z ]+): (\d+)", limits, re.MULTILINE)}
    if counts.get("Remaining today") == 0 and counts.get("Submissions today", 0) > 0:
        raise PublishError(
            f"All {counts['Submissions today']} submissions of today are used.\n"
            "A new day begins at 0:00 UTC. Run the same command with --resume then: it submits the same kernel version."
        )
    return counts.get("Lifetime submissions") if any(counts.values()) else None


def refuse_where_it_may_have_arrived(job: Job) -> None:
    """Before the first attempt: note how many submissions there are. Before any other: raises PublishError unless
    Kaggle counts none more by now, or the user says so (--resend). What refused the first attempt proves nothing: the
    kaggle client repeats requests, and the second may be refused because the first arrived."""
    submission, ever = job.state.submission, count_submissions(job)
    if not submission.asked or job.options.resend:
        submission.asked, submission.ever, job.options.resend = True, ever, False
        job.save()
        return
    if ever is not None and ever == submission.ever:
        return
    if None in (ever, submission.ever):
        found = f"Kaggle does not say how many submissions there are, so that {job.state.message!r} may have arrived."
    else:
        found = (
            f"Kaggle counted {submission.ever} submissions before {job.state.message!r} was sent, counts {ever} now, "
        )
        found += "and lists none with this message."
    raise PublishError(
        f"{found}\nLook at your submissions on Kaggle. --resume looks again and sends nothing while this is so; when "
        "it is not among them, --resume --resend sends it again."
    )


def submit(job: Job) -> None:
    """Raises KaggleError and PublishError."""
    submission, version = job.state.submission, job.state.kernel.version
    if submission.asked:  # submitted, or about to be, when the last run ended
        for _ in job.looks():
            submission.ref = find(job)
            if submission.ref:
                job.say("submission", f"{submission.ref} had arrived")
                job.save()
                return
    refuse_where_it_may_have_arrived(job)
    reported = re.search(r"^Submission ref: (\d+)", job.kaggle.change(*submit_words(job, version or 0)), re.MULTILINE)
    submission.ref = int(reported[1]) if reported else job.until("the submission is listed", lambda: find(job))
    job.say("submission", f"{submission.ref} of kernel version {version}: {job.state.message}")
    job.save()


def wait_for_scores(job: Job) -> None:
    """Raises PublishError when that takes too long."""
    submission = job.state.submission

    def ended() -> dict[str, str] | None:
        printed = job.kaggle.read("competitions", "submission", str(submission.ref))
        lines = re.findall(r"^(Status|Error|Public Score|Private Score): +(.*(?:\n {4,}.*)*)", printed, re.MULTILINE)
        found = {name: " ".join(text.split()) for name, text in lines}
        if "Status" not in found:
            raise PublishError(f"kaggle printed no status of submission {submission.ref}: {printed.strip()}")
        return found if found["Status"].upper() in ("COMPLETE", "ERROR") else None

    found = job.until(f"submission {submission.ref} is scored", ended)
    submission.status, submission.why = found["Status"].upper(), found.get("Error", "")
    submission.public, submission.private = found.get("Public Score", ""), found.get("Private Score", "")
    job.save()


def row(job: Job) -> Row:
    state, submission = job.state, job.state.submission
    return Row(
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        git_commit=state.git_commit,
        kernel_sha256=state.kernel_sha256,
        kernel_version=str(state.kernel.version),
        datasets=" ".join(f"{slug}@{dataset.version}" for slug, dataset in sorted(state.datasets.items())),
        weights_sha256=state.weights_sha256,
        blend=state.blend,
        nested_cv=state.nested_cv,
        public_score=submission.public,
        private_score=submission.private,
        message=state.message,
        status=f"{submission.status}{f': {submission.why}' if submission.why else ''}",
    )


def publish_submission(job: Job) -> None:
    """Submit, wait for the scores, write the ledger. Raises KaggleError, PublishError and LedgerError."""
    submission, ledger = job.state.submission, job.options.ledger
    if submission.ref is None:
        submit(job)
    if submission.status is None:
        wait_for_scores(job)
    append(ledger, row(job))
    job.state.finished = True
    job.save()
    if submission.status == "ERROR":
        raise PublishError(
            f"Submission {submission.ref} was not scored: {submission.why or 'Kaggle gave no reason'}.\n"
            "It is in the ledger. Fix the kernel, run the sandbox with --rerun, and publish again."
        )
    scores = f"public {submission.public or '-'}, private {submission.private or '-'}"
    job.say("scored", f"{scores}; a row in {short(str(ledger))}")
