"""One submission of the kernel's version, its scores, and its row in the ledger."""

import re
from datetime import UTC, datetime

from publishing.job import Job, PublishError
from publishing.kaggle_command import PAGE, entries_in, short
from publishing.kernel_push import SUBMISSION
from publishing.ledger import Row, append


def submit_words(job: Job, version: int | str) -> list[str]:
    words = ["competitions", "submit", job.publication.competition, "-f", SUBMISSION]
    return [*words, "-k", job.kernel, "-v", str(version), "-m", job.publication.message]


def find(job: Job) -> int | None:
    """The number of this publication's submission, found by its message."""
    words = ("competitions", "submissions", job.publication.competition, "--page-size", str(PAGE), "--format", "json")
    entries = entries_in(job.kaggle.read(*words), f"kaggle {' '.join(words)}")
    found = [entry["ref"] for entry in entries if job.publication.mark in (entry["description"] or "")]
    return int(found[0]) if found else None


def refuse_without_allowance(job: Job) -> int | None:
    """How many submissions there were ever; None where Kaggle does not tell. Raises PublishError when today's are used
    up. All zero: not on a team yet, or no answer to rely upon, which is no limit."""
    limits = job.kaggle.read("competitions", "submission-limits", job.publication.competition)
    counts = {name: int(count) for name, count in re.findall(r"^([A-Z][a-z ]+): (\d+)", limits, re.MULTILINE)}
    if counts.get("Remaining today") == 0 and counts.get("Submissions today", 0) > 0:
        raise PublishError(
            f"All {counts['Submissions today']} submissions of today are used.\n"
            "A new day begins at 0:00 UTC. Run the same command with --resume then: it submits the same kernel version."
        )
    return counts.get("Lifetime submissions") if any(counts.values()) else None


def refuse_where_it_may_have_arrived(job: Job) -> None:
    """Before the first attempt: note how many submissions there are. Before any other: raises PublishError unless
    Kaggle tells that there is none more by now, or the user does (--resend). What refused the first attempt proves
    nothing: the kaggle client repeats requests, and the second may be refused because the first arrived."""
    facts, ever = job.publication.submission, refuse_without_allowance(job)
    if not facts.asked or job.resend:
        facts.asked, facts.ever, job.resend = True, ever, False
        job.save()
        return
    if ever is not None and ever == facts.ever:
        return
    told = (
        f"Kaggle does not tell how many submissions there are, so that {job.publication.message!r} may have arrived."
        if None in (ever, facts.ever)
        else f"Kaggle counted {facts.ever} submissions before {job.publication.message!r} was sent, counts {ever} now, "
        "and lists none with this message."
    )
    raise PublishError(
        f"{told}\nLook at your submissions on Kaggle. --resume looks again and sends nothing while this is so; when it "
        "is not among them, --resume --resend sends it again."
    )


def submit(job: Job) -> None:
    """Raises KaggleError and PublishError."""
    facts, version = job.publication.submission, job.publication.kernel.version
    if facts.asked:  # submitted, or about to be, when the last run ended
        for _ in job.looks():
            facts.ref = find(job)
            if facts.ref:
                job.say("submission", f"{facts.ref} had arrived")
                job.save()
                return

    def send() -> str:
        refuse_where_it_may_have_arrived(job)
        return job.kaggle.change(*submit_words(job, version or 0))

    answer = job.send("submission", send, lambda: find(job))
    if isinstance(answer, str):
        told = re.search(r"^Submission ref: (\d+)", answer, re.MULTILINE)
        answer = int(told.group(1)) if told else job.until("the submission is listed", lambda: find(job))
    facts.ref = answer
    job.say("submission", f"{facts.ref} of kernel version {version}: {job.publication.message}")
    job.save()


def scored(job: Job) -> None:
    """Wait for the scores. Raises PublishError when that takes too long."""
    facts = job.publication.submission

    def ended() -> dict[str, str] | None:
        printed = job.kaggle.read("competitions", "submission", str(facts.ref))
        lines = re.findall(r"^(Status|Error|Public Score|Private Score): +(.*(?:\n {4,}.*)*)", printed, re.MULTILINE)
        found = {name: " ".join(text.split()) for name, text in lines}
        if "Status" not in found:
            raise PublishError(f"kaggle told no status of submission {facts.ref}: {printed.strip()}")
        return found if found["Status"].upper() in ("COMPLETE", "ERROR") else None

    found = job.until(f"submission {facts.ref} is scored", ended)
    facts.status, facts.why = found["Status"].upper(), found.get("Error", "")
    facts.public, facts.private = found.get("Public Score", ""), found.get("Private Score", "")
    job.save()


def row(job: Job) -> Row:
    publication, facts = job.publication, job.publication.submission
    versions = (f"{slug}@{dataset.version}" for slug, dataset in sorted(publication.datasets.items()))
    return Row(
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        git_commit=publication.git_commit,
        kernel_sha256=publication.kernel_sha256,
        kernel_version=str(publication.kernel.version),
        datasets=" ".join(versions),
        weights_sha256=publication.weights_sha256,
        blend=publication.blend,
        nested_cv=publication.nested_cv,
        public_score=facts.public,
        private_score=facts.private,
        message=publication.message,
        status=f"{facts.status}{f': {facts.why}' if facts.why else ''}",
    )


def publish_submission(job: Job) -> None:
    """Submit, wait for the scores, write the ledger. Raises KaggleError, PublishError and LedgerError."""
    facts = job.publication.submission
    if facts.ref is None:
        submit(job)
    if facts.status is None:
        scored(job)
    append(job.ledger, row(job))
    job.publication.finished = True
    job.save()
    if facts.status == "ERROR":
        raise PublishError(
            f"Submission {facts.ref} was not scored: {facts.why or 'Kaggle gave no reason'}.\n"
            "It is in the ledger. Mend the kernel, run the sandbox with --rerun, and publish again."
        )
    job.say(
        "scored", f"public {facts.public or '-'}, private {facts.private or '-'}; a row in {short(str(job.ledger))}"
    )
