"""From weights to a scored submission: drives the official `kaggle` command, step by step, and never twice.

    python kernels/publish.py --competition data/hms              everything; --dry-run shows what it would do
    python kernels/publish.py --competition data/hms --resume     goes on where it was ended
    python kernels/publish.py history                             CV beside leaderboard

datasets create or version -> ready, at the expected version, as sent -> kernels push -> complete -> output valid
-> competitions submit -> scored -> a row in the ledger. docs/publishing.md describes every step and refusal.
"""

import argparse
import io
import shlex
import signal
import sys
from pathlib import Path

from common.errors import KitError
from infer.test_table import CompetitionError, read_test_table
from publishing.bundle import Refused, default_datasets, prepare_upload, read_bundle
from publishing.job import Job, PublishError
from publishing.kaggle_command import Kaggle, KaggleError, log_in
from publishing.kernel_push import publish_kernel, push_words
from publishing.ledger import refuse_unusable, table
from publishing.secret_scan import secret_in
from publishing.state import STATE, StateError, begin, choose, load, sole_publisher
from publishing.submission import count_submissions, publish_submission, submit_words
from publishing.uploads import differences, is_public, look, publish_dataset, send_words
from train.provenance import kit_commit
from train.report.ledger import LedgerError, read_ledger

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("datasets", "kernel", "submit")
LONGEST_MESSAGE = 150  # Kaggle keeps the message whole
ATTEMPTS = 3  # when the connection breaks


def look_before(job: Job, parts: tuple[str, ...]) -> None:
    """What only Kaggle knows and would stand in the way later. Raises Refused, PublishError and KaggleError."""
    if "datasets" in parts and not job.options.public:
        waiting = [slug for slug, dataset in job.state.datasets.items() if dataset.version is None]
        seen = [slug for slug in waiting if look(job, slug) and is_public(job, slug)]
        if seen:
            raise Refused([f"{slug} is public on Kaggle: make it private there, or give --public." for slug in seen])
    if "submit" in parts and not job.state.submission.asked:
        count_submissions(job)


def show_plan(job: Job, parts: tuple[str, ...]) -> None:
    """The commands that would be run. Asks Kaggle, changes nothing."""
    plan: list[list[str | Path]] = []
    if "datasets" in parts:
        for dataset in job.bundle.datasets:
            remote = look(job, dataset.slug)
            if remote and remote.status == "ready" and not differences(job, dataset.slug, dataset.folder):
                job.say(dataset.slug, f"Kaggle holds these bytes as version {remote.version}: nothing to upload")
            else:
                plan.append(send_words(job, dataset.slug, remote is not None))
    if "kernel" in parts:
        plan += [push_words(job), ["kernels", "status", job.kernel], ["kernels", "output", job.kernel]]
    if "submit" in parts:
        plan += [[*submit_words(job, "VERSION")], ["competitions", "submissions", job.state.competition]]
    print("It would run, and nothing was sent:")
    for words in plan:
        print(f"$ kaggle {shlex.join(map(str, words))}")


def run_parts(job: Job, parts: tuple[str, ...]) -> None:
    """Raises PublishError and KaggleError."""
    if "datasets" in parts or "kernel" in parts:
        for slug in job.state.datasets:
            publish_dataset(job, slug, may_upload="datasets" in parts)
    if "kernel" in parts:
        publish_kernel(job)
    if "submit" in parts:
        if not job.state.kernel.complete:
            raise PublishError("No kernel version of this publication has run yet: --only kernel first.")
        publish_submission(job)
    if not job.state.finished:
        job.state.parked = not job.state.submission.asked
        job.save()
        print(f"Done as far as --only {parts[0]} goes: {job.state.reached()}.")


def publish(options: argparse.Namespace, lock: int | None) -> None:
    """Raises KitError: Refused and StateError before anything is sent, others later."""
    parts = (options.only,) if options.only else PARTS
    scratch = None if options.dry_run else options.out / "kaggle"
    kaggle = Kaggle(pause=min(2.0, options.poll), lock=lock, scratch=scratch)
    read_test_table(options.competition)  # what the output is compared with, found out now
    user = log_in(kaggle)
    datasets = options.datasets or default_datasets(options.blend, ROOT / "weights")
    bundle = read_bundle(options.kernel, datasets, options.blend, options.sandbox, user)
    fresh = begin(bundle, user, options.message, kit_commit() or "")
    state = choose(None if options.restart else load(options.out / STATE), fresh, options.resume)
    if state.finished:
        print(f"Nothing to go on with: {state.message!r} is published and in the ledger.")
        return
    if options.message and not state.submission.asked:
        state.message = fresh.message
    try:
        refuse_unusable(options.ledger)
    except LedgerError as error:
        raise Refused([str(error)]) from error
    job = Job(kaggle, bundle, state, options)
    look_before(job, parts)
    if options.dry_run:
        show_plan(job, parts)
        return
    prepare_upload(bundle, user, options.out / "upload")
    job.save()
    for _ in range(ATTEMPTS - 1):
        try:
            return run_parts(job, parts)
        except KaggleError as error:  # every step looks first whether what it sends arrived
            if not error.failure.again:
                raise
            print(f"{error.failure.what} Going on from where it broke.")
            job.state = load(options.out / STATE) or state  # what was not written down is not known, as after an end
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
    add("--public", action="store_true", help="new datasets become public; public ones are allowed")
    add("--message", metavar="TEXT", help="of the submission; a unique mark is added")
    add("--wait-minutes", type=float, default=720.0, metavar="N", help="longest wait for one thing (default: 720)")
    add("--poll", type=float, default=30.0, metavar="SECONDS", help="between two looks at Kaggle (default: 30)")
    options = parser.parse_args(argv)
    options.ledger = options.ledger or options.out / "ledger.csv"
    if options.resume and options.restart:
        parser.error("--resume goes on, --restart begins anew: give one of them")
    if options.resend and not options.resume:
        parser.error("--resend sends again what a publication before may have sent: give --resume with it")
    message = options.message or ""
    if len(message) > LONGEST_MESSAGE or not message.isprintable() or message.startswith("-"):
        parser.error(f"--message must be one line of at most {LONGEST_MESSAGE} characters that does not begin with -")
    if found := secret_in(message.encode("utf-8", "surrogatepass")):
        parser.error(f"--message is public on Kaggle, and holds {found}")
    if not all(0 < number < float("inf") for number in (options.wait_minutes, options.poll)):
        parser.error("--wait-minutes and --poll must be above 0 and finite")
    return options


def history(argv: list[str]) -> int:
    from publishing.ledger_plot import plot  # matplotlib takes its time

    parser = argparse.ArgumentParser(prog="python kernels/publish.py history", description="CV beside leaderboard.")
    parser.add_argument("--ledger", type=Path, default=ROOT / "runs" / "ledger.csv", metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="default: beside the ledger, as .png")
    options = parser.parse_args(argv)
    rows = read_ledger(options.ledger) if options.ledger.exists() else []
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
    for stream in (sys.stdout, sys.stderr):  # whatever a file or a message is called, it can be printed
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
        again = shlex.join([*(word for word in argv if word not in ("--resume", "--restart")), "--resume"])
        print(f"\nInterrupted. Go on with: python kernels/publish.py {again}", file=sys.stderr)
        return 130
    except (Refused, StateError, CompetitionError) as error:
        print(f"Not published. {error}", file=sys.stderr)
        return 2
    except (KitError, OSError) as error:
        print(f"Not published to the end. {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
