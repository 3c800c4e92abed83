"""python -m infer VERB: from a competition folder and weights to a submission, checked and scored."""

import argparse
import os
import sys
from pathlib import Path

from common.errors import KitError
from common.memory import keep_freed_memory
from infer.validate import SubmissionError, score, validate

DEFAULT_BLEND = Path(__file__).parent / "blend.json"


def run_submit(arguments: argparse.Namespace) -> None:
    from common.blend import load_blend  # here, not above: torch takes seconds the other verbs need not wait for
    from common.weights import find_weights
    from infer.report import write_report
    from infer.submit import submit

    folders = find_weights(arguments.weights)
    for target in filter(None, (arguments.out, arguments.report)):  # found out now, not after the prediction
        target.parent.mkdir(parents=True, exist_ok=True)
        if (target.exists() and not target.is_file()) or not os.access(target.parent, os.W_OK):
            raise SubmissionError(f"{target} cannot be written: it is no file, or its folder is read-only")
    report = submit(arguments.competition, folders, load_blend(arguments.blend), arguments.out)
    print("\n".join(report.lines()))
    if arguments.report:
        write_report(arguments.report, report)
    rows = validate(arguments.out, arguments.competition)
    print(f"wrote {arguments.out}: {rows} rows, valid")


def run_validate(arguments: argparse.Namespace) -> None:
    print(f"{arguments.submission}: {validate(arguments.submission, arguments.competition)} rows, valid")


def run_score(arguments: argparse.Namespace) -> None:
    kl, rows = score(arguments.submission, arguments.solution)
    print(f"KL {kl:.6f} over {rows} rows")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m infer", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = verbs.add_parser(
        "submit",
        help="predict the test set of a competition folder",
        description=(
            "Predict every row of DIR/test.csv from DIR/test_eegs and DIR/test_spectrograms. Recordings that "
            "cannot be read get a named fallback; a missing spectrogram is rebuilt from its EEG. Example: "
            "python -m infer submit --competition demo/competition --weights demo/weights --out submission.csv"
        ),
    )
    verb.add_argument("--competition", type=Path, required=True, metavar="DIR", help="folder with test.csv")
    verb.add_argument(
        "--weights",
        type=Path,
        required=True,
        nargs="+",
        action="extend",
        metavar="DIR",
        help="folders written by `python -m train export`, or a folder of such folders",
    )
    verb.add_argument(
        "--blend",
        type=Path,
        default=DEFAULT_BLEND,
        metavar="FILE",
        help="blend file of `python -m train blend`; default: infer/blend.json, as in the kernel",
    )
    verb.add_argument("--out", type=Path, required=True, metavar="CSV", help="the submission to write")
    verb.add_argument("--report", type=Path, metavar="JSON", help="also write what happened as JSON")
    verb.set_defaults(run=run_submit)

    verb = verbs.add_parser(
        "validate",
        help="would the competition accept this submission?",
        description=(
            "Hold a submission against test.csv: columns, ids as often as test.csv has them, finite values in "
            "0 ... 1, rows that sum to 1. Exit code 0 when it is right, 1 with every reason when it is not. "
            "Example: python -m infer validate submission.csv --competition demo/competition"
        ),
    )
    verb.add_argument("submission", type=Path, help="the submission.csv")
    verb.add_argument("--competition", type=Path, required=True, metavar="DIR", help="folder with test.csv")
    verb.set_defaults(run=run_validate)

    verb = verbs.add_parser(
        "score",
        help="score a submission against known answers",
        description=(
            "Mean KL divergence as the competition computes it. The solution holds eeg_id and six columns of vote "
            "shares or counts; a simulated competition has one in DIR/truth/solution.csv. Example: "
            "python -m infer score submission.csv demo/competition/truth/solution.csv"
        ),
    )
    verb.add_argument("submission", type=Path, help="the submission.csv")
    verb.add_argument("solution", type=Path, help="the solution.csv")
    verb.set_defaults(run=run_score)
    return top


def main() -> int:
    arguments = parser().parse_args()
    keep_freed_memory()
    try:
        arguments.run(arguments)
    except (KitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
