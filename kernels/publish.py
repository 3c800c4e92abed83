"""From weights to a scored submission: drives the official `kaggle` command, step by step, and never twice.

    python kernels/publish.py --competition data/hms              everything; --dry-run shows what it would do
    python kernels/publish.py --competition data/hms --resume     goes on where it was ended
    python kernels/publish.py history                             CV beside leaderboard

datasets create or version -> ready, at the expected version, as sent -> kernels push -> complete -> output valid
-> competitions submit -> scored -> a row in the ledger. docs/publishing.md tells of every step and refusal.
"""

import argparse
import io
import re
import shlex
import signal
import sys
from pathlib import Path

from publishing.job import Job, PublishError
from publishing.kaggle_command import OLDEST, Kaggle, KaggleError
from publishing.kaggle_failures import BY_NAME, INSTALL
from publishing.leaks import secret_in_text
from publishing.ledger import LedgerError, read_ledger, refuse_unusable, table
from publishing.ledger_plot import plot
from publishing.parcel import Parcel, Refused, default_datasets, pack, stage
from publishing.publication import (
    Publication,
    PublicationError,
    begin,
    differences,
    load,
    save,
    sole_publisher,
    take_up,
)
from publishing.pushes import publish_kernel, push_words
from publishing.submission import publish_submission, refuse_without_allowance, submit_words
from publishing.uploads import differences as remote_differences
from publishing.uploads import is_public, look, publish_dataset, send_words

from common.errors import KitError
from infer.rows import CompetitionError, read_test_table
from train.provenance import kit_commit

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("datasets", "kernel", "submit")
LONGEST_MESSAGE = 150  # Kaggle keeps the message whole


def log_in(kaggle: Kaggle) -> str:
    """Who kaggle is logged in as; it must be a version that knows what is needed. Raises KaggleError."""
    printed = kaggle.read("--version")
    found = re.search(r"Kaggle CLI (\d+)\.(\d+)\.(\d+)", printed)
    if not found or tuple(map(int, found.groups())) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise PublishError(f"The kaggle command is {printed.strip()!r}; {oldest} or newer is needed.\n{INSTALL}")
    user = re.search(r"^- username: (\S+)", kaggle.read("config", "view"), re.MULTILINE)
    if not user or user.group(1) == "None":
        raise KaggleError(BY_NAME["credentials"], "kaggle config view", "kaggle is not logged in: it names no user.")
    return user.group(1)


def look_before(job: Job, parts: tuple[str, ...]) -> None:
    """What only Kaggle knows and would stand in the way later. Raises Refused, PublishError and KaggleError."""
    if "datasets" in parts and not job.public:
        waiting = [slug for slug, facts in job.publication.datasets.items() if facts.version is None]
        seen = [slug for slug in waiting if look(job, slug) and is_public(job, slug)]
        if seen:
            raise Refused([f"{slug} is public on Kaggle: make it private there, or give --public." for slug in seen])
    if "submit" in parts and not job.publication.submission.asked:
        refuse_without_allowance(job)


def show_plan(job: Job, parts: tuple[str, ...]) -> None:
    """The commands that would be run. Asks Kaggle, changes nothing."""
    plan: list[list[str | Path]] = []
    if "datasets" in parts:
        for dataset in job.parcel.datasets:
            remote = look(job, dataset.slug)
            if remote and remote.status == "ready" and not remote_differences(job, dataset.slug, dataset.folder):
                job.say(dataset.slug, f"Kaggle holds these bytes as version {remote.version}: nothing to upload")
            else:
                plan.append(send_words(job, dataset.slug, remote is not None))
    if "kernel" in parts:
        plan += [push_words(job), ["kernels", "status", job.kernel], ["kernels", "output", job.kernel]]
    if "submit" in parts:
        plan += [[*submit_words(job, "VERSION")], ["competitions", "submissions", job.publication.competition]]
    print("It would run, and nothing was sent:")
    for words in plan:
        print(f"$ kaggle {shlex.join(map(str, words))}")


def run_parts(job: Job, parts: tuple[str, ...]) -> None:
    """Raises PublishError and KaggleError."""
    if "datasets" in parts or "kernel" in parts:
        for slug in job.publication.datasets:
            publish_dataset(job, slug, may_upload="datasets" in parts)
    if "kernel" in parts:
        publish_kernel(job)
    if "submit" in parts:
        if not job.publication.kernel.complete:
            raise PublishError("No kernel version of this publication has run yet: --only kernel first.")
        publish_submission(job)
    if not job.publication.finished:
        job.publication.parked = not job.publication.submission.asked
        job.save()
        print(f"Done as far as --only {parts[0]} goes: {job.publication.reached()}.")


def make_job(options: argparse.Namespace, kaggle: Kaggle, parcel: Parcel, publication: Publication) -> Job:
    upload = options.out / "upload"
    slugs = [*(dataset.slug for dataset in parcel.datasets), parcel.kernel.slug]
    return Job(
        kaggle=kaggle,
        parcel=parcel,
        publication=publication,
        state=options.out / "publication.json",
        places={slug: upload / slug for slug in slugs},
        published=options.out / "published",
        competition=options.competition,
        ledger=options.ledger or options.out / "ledger.csv",
        poll=options.poll,
        minutes=options.wait_minutes,
        public=options.public,
        resend=options.resend,
    )


def publish(options: argparse.Namespace, lock: int | None) -> None:
    """Raises KitError: Refused and PublicationError before anything is sent, others later."""
    parts = (options.only,) if options.only else PARTS
    scratch = None if options.dry_run else options.out / "kaggle"
    kaggle = Kaggle(pause=min(2.0, options.poll), lock=lock, scratch=scratch)
    read_test_table(options.competition)  # what the output is held against, found out now
    owner = log_in(kaggle)
    datasets = options.datasets or default_datasets(options.blend, ROOT / "weights")
    parcel = pack(options.kernel, datasets, options.blend, options.sandbox, owner, options.public, options.max_gb)
    fresh = begin(parcel, owner, options.message, kit_commit() or "")
    state = options.out / "publication.json"
    old = None if options.restart else load(state)
    publication = take_up(old, fresh, differences(old, parcel, owner) if old else [], options.resume)
    if publication.finished:
        print(f"Nothing to go on with: {publication.message!r} is published and in the ledger.")
        return
    if options.message and not publication.submission.asked:
        publication.message = fresh.message
    job = make_job(options, kaggle, parcel, publication)
    try:
        refuse_unusable(job.ledger)
    except LedgerError as error:
        raise Refused([str(error)]) from error
    look_before(job, parts)
    if options.dry_run:
        show_plan(job, parts)
        return
    stage(parcel, owner, options.out / "upload")
    save(state, publication)
    run_parts(job, parts)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python kernels/publish.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--competition", type=Path, required=True, metavar="DIR", help="competition folder, for its test.csv")
    add("--kernel", type=Path, default=ROOT / "kernels" / "hms-inference", metavar="DIR", help="what build.py made")
    add("--datasets", type=Path, nargs="+", metavar="DIR", help="default: weights/hms-NAME of the blend's models")
    add("--blend", type=Path, default=ROOT / "infer" / "blend.json", metavar="FILE", help="default: infer/blend.json")
    add("--sandbox", type=Path, default=ROOT / "runs" / "sandbox", metavar="DIR", help="the sandbox run of all this")
    add("--out", type=Path, default=ROOT / "runs", metavar="DIR", help="state, uploads, output (default: runs)")
    add("--ledger", type=Path, metavar="FILE", help="default: ledger.csv in --out")
    add("--dry-run", action="store_true", help="check everything, show the commands, send nothing")
    add("--only", choices=PARTS, help="one part; the next goes on from it")
    add("--resume", action="store_true", help="go on with a publication that was ended")
    add("--restart", action="store_true", help="leave an unfinished publication as it is and begin another")
    add("--resend", action="store_true", help="with --resume: you looked, and the submission is not on Kaggle")
    add("--public", action="store_true", help="new datasets become public; public ones and kernels are allowed")
    add("--message", metavar="TEXT", help="of the submission; a unique mark is added")
    add("--max-gb", type=float, default=20.0, help="refuse larger weights (default: 20)")
    add("--wait-minutes", type=float, default=720.0, metavar="N", help="longest wait for one thing (default: 720)")
    add("--poll", type=float, default=30.0, metavar="SECONDS", help="between two looks at Kaggle (default: 30)")
    options = parser.parse_args(argv)
    if options.resume and options.restart:
        parser.error("--resume goes on, --restart begins anew: give one of them")
    if options.resend and not options.resume:
        parser.error("--resend sends again what a publication before may have sent: give --resume with it")
    message = options.message or ""
    if len(message) > LONGEST_MESSAGE or not message.isprintable() or message.startswith("-"):
        parser.error(f"--message must be one line of at most {LONGEST_MESSAGE} characters that does not begin with -")
    if found := secret_in_text(message):
        parser.error(f"--message is public on Kaggle, and holds {found}")
    if not all(0 < number < float("inf") for number in (options.max_gb, options.wait_minutes, options.poll)):
        parser.error("--max-gb, --wait-minutes and --poll must be above 0 and finite")
    return options


def history(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python kernels/publish.py history", description="CV beside leaderboard.")
    parser.add_argument("--ledger", type=Path, default=ROOT / "runs" / "ledger.csv", metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="default: beside the ledger, as .png")
    options = parser.parse_args(argv)
    rows = read_ledger(options.ledger)
    if not rows:
        print(f"{options.ledger} has no publications yet.")
        return 0
    print(table(rows))
    picture = options.plot or options.ledger.with_suffix(".png")
    if picture.resolve() == options.ledger.resolve():
        parser.error("--plot is the ledger itself: give another file")
    print(f"plot: {picture}" if plot(rows, picture) else "no plot: no row has both a nested CV and a score")
    return 0


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):  # whatever a file or a message is called, it can be told
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for stop in (signal.SIGTERM, signal.SIGHUP):  # end as with Ctrl-C
        signal.signal(stop, signal.default_int_handler)
    try:
        if argv[:1] == ["history"]:
            return history(argv[1:])
        options = parse(argv)
        if options.dry_run:
            publish(options, lock=None)
        else:
            with sole_publisher(options.out) as lock:
                publish(options, lock)
    except KeyboardInterrupt:
        again = [word for word in argv if word not in ("--resume", "--restart")]
        print(
            f"\nInterrupted. Go on with: python kernels/publish.py {shlex.join([*again, '--resume'])}", file=sys.stderr
        )
        return 130
    except (Refused, PublicationError, CompetitionError) as error:
        print(f"Not published. {error}", file=sys.stderr)
        return 2
    except (KitError, OSError) as error:
        print(f"Not published to the end. {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
