"""How the kaggle command line fails: what it prints, what that means, what to do. First match counts.

The exit code says little: a push that lost its datasets ends with 0, and so does a version that was not made. So what a
command printed is read whichever way it ended. Lines that kaggle prints at exit code 0 are looked for at the start of
a line only, so that no file name, message or log in its answer can be taken for one.
"""

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Failure:
    """One row of the table; \\1 in `what` is the pattern's first group."""

    name: str
    pattern: str
    what: str
    do: str
    again: bool = False  # passes by itself: a command that only reads is repeated after a wait
    command: str = ""  # only for commands that begin so
    quiet: bool = False  # kaggle ends with exit code 0 all the same


INSTALL = "Install it into this environment: pip install 'kaggle>=2.2.5' six (make does)."
LOG_IN = (
    "Log in with `kaggle auth login`, or put an API token where kaggle looks for it (KAGGLE_API_TOKEN, "
    "~/.kaggle/access_token); `kaggle config view` shows whether it is found."
)
SOURCES = "Nothing was submitted, but a kernel version without its sources was made."
RESUME = "Run the same command with --resume"


def of(command: str, quiet: bool, *failures: Failure) -> tuple[Failure, ...]:
    """These failures, for commands that begin so. quiet: kaggle ends with exit code 0 all the same."""
    return tuple(replace(failure, command=command, quiet=quiet) for failure in failures)


FAILURES = (
    Failure("not installed", r"kaggle: command not found", "The kaggle command is not installed.", INSTALL),
    Failure("module missing", r"No module named '([\w.]+)'", "The kaggle command lacks the package \\1.", INSTALL),
    Failure(
        "interrupted",
        r"^User cancelled operation",
        "The kaggle command was interrupted.",
        f"{RESUME}.",
        quiet=True,
    ),
    Failure(
        "credentials",
        r"Authentication required to call the Kaggle API|Invalid credentials!|401 Client Error",
        "Kaggle knows no credentials of yours, or refuses them (401).",
        LOG_IN,
    ),
    Failure(
        "rate limit",
        r"You have been rate limited|429 Client Error|Too Many Requests",
        "Kaggle takes no more requests for a while (429).",
        f"Wait some minutes. {RESUME}.",
        again=True,
    ),
    Failure(
        "server",
        r"This is a problem on Kaggle's side|\b5\d\d Server Error",
        "Kaggle answered with an error of its own (5xx).",
        f"Wait; www.kaggle.com reports outages. {RESUME}.",
        again=True,
    ),
    Failure(
        "connection",
        r"Max retries exceeded|Connection aborted|Connection broken|Remote end closed|Connection reset|"
        r"Connection refused|Read timed out|ConnectTimeout|ProxyError|NameResolutionError|IncompleteRead|"
        r"ConnectionError|ChunkedEncodingError|InvalidChunkLength",
        "The connection to Kaggle broke, or there is none.",
        f"Look after the network (and the proxy, if there is one). {RESUME}.",
        again=True,
    ),
    Failure(
        "no answer",
        r"^no answer within (\d+) s",
        "Kaggle did not answer within \\1 s.",
        f"Look after the network. {RESUME}.",
        again=True,
    ),
    *of(
        "datasets",
        True,
        Failure(
            "upload failed",
            r"Upload unsuccessful: (.+)",
            "\\1 could not be uploaded: the version was not made, or made without it.",
            f"{RESUME}: it looks at what Kaggle holds and sends what is missing.",
        ),
        Failure(
            "dataset name taken",
            r"^Dataset creation error: .*already in use.*",
            "Another dataset of yours has this slug or this title.",
            "Change the title in dataset-metadata.json, or delete the other. Then start again with --restart.",
        ),
        Failure(
            "dataset refused",
            r"^Dataset (?:version )?creation error: ?(.*)",
            "Kaggle refused the dataset: \\1.",
            f"Fix what it names. {RESUME}.",
        ),
    ),
    *of(
        "kernels push",
        True,
        Failure(
            "dataset source dropped",
            r"^The following are not valid dataset sources[^:]*: (.*)",
            f"Kaggle attached no dataset \\1: no such slug, not ready, or not yours. {SOURCES}",
            f"See that `kaggle datasets status` finds each and that ids are OWNER/SLUG. {RESUME}: it pushes again.",
        ),
        Failure(
            "competition source dropped",
            r"^The following are not valid competition sources[^:]*: (.*)",
            f"Kaggle did not attach the competition \\1: its rules are not accepted, or no such slug. {SOURCES}",
            f"Accept the rules on the competition's page (tab Rules). {RESUME}: it pushes again.",
        ),
        Failure(
            "kernel title taken",
            r"^Kernel push error: .*already in use.*",
            "Another kernel of yours has this title, or its slug is not the one that this title makes.",
            f"Rename or delete the other on Kaggle. {RESUME}.",
        ),
        Failure(
            "kernel not found",
            r"^Kernel push error: .*(?:Notebook|Kernel) not found.*",
            "Kaggle finds no such kernel of this owner, or an old id_no names another.",
            "Take id_no out of kernel-metadata.json and see that the owner is you. Then --restart.",
        ),
        Failure(
            "gpu quota",
            r"^Kernel push error: .*(?:session count|GPU quota|quota).*",
            "All your GPU sessions are taken, or this week's GPU hours are used up.",
            f"End another session, or wait (`kaggle quota` shows the hours). {RESUME}.",
        ),
        Failure(
            "push refused",
            r"^Kernel push error: ?(.*)",
            "Kaggle refused the kernel: \\1.",
            f"Fix what it names. {RESUME}.",
        ),
    ),
    *of(
        "kernels",
        False,
        Failure(
            "kernel not accessible",
            r"Cannot access kernel '([^']+)'",
            "Kaggle shows no kernel \\1 to you (401 or 403): a wrong owner or slug, or not yet visible.",
            f"See that it is on your Kaggle page, and `kaggle config view`. {RESUME}.",
        ),
    ),
    *of(
        "competitions submit",
        False,
        Failure(
            "daily limit",
            r"(?i)(?:daily|per day|today|submission).{0,40}limit|limit.{0,40}(?:daily|per day|today|submission)|"
            r"(?:all|maximum).{0,40}daily submissions|no submissions? (?:left|remaining)",
            "All submissions of today are used.",
            f"A new day begins at 0:00 UTC. {RESUME} then: it submits the same kernel version.",
        ),
        Failure(
            "version not complete",
            r"(?i)not (?:yet )?(?:been )?complete|still running|has not finished",
            "The kernel version has not run to its end.",
            f"Wait. {RESUME}.",
        ),
        Failure(
            "submission refused",
            r"400 Client Error|Bad Request",
            "Kaggle refused the submission (400): the daily limit, internet on, or a version that is not complete.",
            f"See the competition's page under Submissions. {RESUME}.",
        ),
        Failure(
            "submission target",
            r"Could not find competition|The resource was not found|404 Client Error",
            "Kaggle finds no such competition, kernel or kernel version (404), or takes no more submissions.",
            f"See that the kernel version is on your Kaggle page. {RESUME}.",
        ),
    ),
    *of(
        "competitions",
        False,
        Failure(
            "rules",
            r"You don't have access to this resource|403 Client Error",
            "Kaggle refuses this competition to you (403): its rules are not accepted.",
            f"Accept them on the competition's page (tab Rules). {RESUME}.",
        ),
    ),
    Failure(
        "forbidden",
        r"You don't have access to this resource|403 Client Error|Permission '[\w.]+' was denied",
        "Kaggle refuses this to you (403): not yours, or not there.",
        f"See the owner and the slug, and who `kaggle config view` says you are. {RESUME}.",
    ),
    Failure(
        "not found",
        r"The resource was not found|404 Client Error",
        "Kaggle finds no such thing (404).",
        f"See the owner and the slug. {RESUME}.",
    ),
)
UNKNOWN = Failure("unknown", "", "kaggle failed in a way that is not known here.", f"Fix what it names. {RESUME}.")
BY_NAME = {failure.name: failure for failure in FAILURES}
ABSENT = ("forbidden", "not found")  # how Kaggle answers for what is not there, or not yet


def recognise(command: str, printed: str, exit_code: int) -> tuple[Failure, str] | None:
    """The failure and what happened, or None where the command did what it should. `command`: without "kaggle"."""
    for failure in FAILURES:
        if command.startswith(failure.command) and (exit_code or failure.quiet):
            found = re.search(failure.pattern, printed, re.MULTILINE)
            if found:
                groups = found.groups() or ("",)
                return failure, failure.what.replace("\\1", (groups[0] or "").strip(" .'\""))
    return (UNKNOWN, UNKNOWN.what) if exit_code else None
