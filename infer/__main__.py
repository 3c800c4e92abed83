"""python -m infer VERB: from a competition folder and weights to a submission, checked and scored."""

import os
import sys
from pathlib import Path
from typing import Annotated

from common.command_line import Help, application, run

app = application("python -m infer", "From a competition folder and weights to a submission, checked and scored.")

DEFAULT_BLEND = Path(__file__).parent / "blend.json"
Competition = Annotated[Path, Help("folder with test.csv")]
Submission = Annotated[Path, Help("the submission.csv")]


@app.command
def submit(
    *,
    competition: Competition,
    weights: Annotated[list[Path], Help("folders that `python -m train export` wrote, or a folder of such folders")],
    blend: Annotated[Path, Help("blend file, if not the kernel's")] = DEFAULT_BLEND,
    out: Annotated[Path, Help("the submission to write")],
    report: Annotated[Path | None, Help("a JSON file: also what happened")] = None,
) -> None:
    """Predict the test set of a competition folder.

    Predicts every row of test.csv from test_eegs and test_spectrograms. Recordings that cannot be read get a named
    fallback; a missing spectrogram is rebuilt from its EEG.

    Example: python -m infer submit --competition demo/competition --weights demo/weights --out submission.csv
    """
    from common.blend import load_blend  # here, not above: torch takes seconds the other verbs need not wait for
    from common.weights import find_weights
    from infer.report import write_report
    from infer.submit import submit as predict
    from infer.validate import SubmissionError
    from infer.validate import validate as check

    folders = find_weights(weights)
    for target in filter(None, (out, report)):  # found out now, not after the prediction
        target.parent.mkdir(parents=True, exist_ok=True)
        if (target.exists() and not target.is_file()) or not os.access(target.parent, os.W_OK):
            raise SubmissionError(f"{target} cannot be written: it is no file, or its folder is read-only")
    done = predict(competition, folders, load_blend(blend), out)
    print("\n".join(done.lines()))
    if report:
        write_report(report, done)
    print(f"wrote {out}: {check(out, competition)} rows, valid")


@app.command
def validate(submission: Submission, /, *, competition: Competition) -> None:
    """Say whether the competition would accept a submission.

    Holds it against test.csv: columns, ids as often as test.csv has them, finite values in 0 ... 1, rows that sum to 1.
    Exit code 0 when it is right, 1 with every reason when it is not.

    Example: python -m infer validate submission.csv --competition demo/competition
    """
    from infer.validate import validate as check

    print(f"{submission}: {check(submission, competition)} rows, valid")


@app.command
def score(submission: Submission, solution: Annotated[Path, Help("the solution.csv")], /) -> None:
    """Score a submission against known answers.

    Mean KL divergence as the competition computes it. The solution holds eeg_id and six columns of vote shares or
    counts; a simulated competition has one in truth/solution.csv.

    Example: python -m infer score submission.csv demo/competition/truth/solution.csv
    """
    from infer.validate import score as mean_kl

    kl, rows = mean_kl(submission, solution)
    print(f"KL {kl:.6f} over {rows} rows")


def main() -> int:
    return run(app, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
