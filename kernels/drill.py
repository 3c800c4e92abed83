"""The fault drill: one broken hidden test, every fault at once, run as Kaggle would, before Kaggle does.

Takes a competition's test set and trained datasets, breaks copies of both in every way known, runs the kernel in the
sandbox as the hidden re-run, and beside it on the sound ones. Every row must be answered, every fault be named in the
report, and every sound row be the clean run's to the last digit.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

from common.blend import Blend, BlendError, load_blend
from common.files import write_json
from common.inputs.base import needs_eeg, needs_spectrogram
from common.schema import TEST_TABLE
from common.weights import WeightsError, find_weights, read_manifest
from drilling.broken_datasets import break_datasets
from drilling.damage import forbidden
from drilling.faults import CASES, READ_SECONDS, Needs
from drilling.hidden_test import DrillError, write_hidden_test
from drilling.outcomes import Outcome, count_answered, count_identical, dataset_findings, recording_finding
from train.tables import aligned

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo"
HOURS = "1"  # more than any drill takes; a kernel that hangs is ended
STAGE, RESULTS = "stage", "results.json"


class KernelFailure(Exception):
    """The kernel did not end well. The message has the end of its log."""


def read_given(competition: Path, blend: Path, datasets: Sequence[Path]) -> tuple[Blend, dict[str, Path], Needs]:
    """The blend; model -> its folder; model -> whether it needs EEG, spectrogram. Raises DrillError."""
    for path, what in ((competition / TEST_TABLE, "a competition folder"), (blend, "a blend file")):
        if not path.is_file():
            instead = "give --competition, --datasets and --blend, or run `make demo`, which leaves them behind"
            raise DrillError(f"{path} is missing: {what} is needed; {instead}.")
    folders, needs = {}, {}
    try:
        for folder in find_weights(list(datasets)):
            experiment = read_manifest(folder)[1]
            if experiment.name in folders:
                raise DrillError(f"{folders[experiment.name]} and {folder} hold the same model; give one of them.")
            folders[experiment.name] = folder
            needs[experiment.name] = needs_eeg(experiment.input), needs_spectrogram(experiment.input)
        return load_blend(blend), folders, needs
    except (WeightsError, BlendError) as error:
        raise DrillError(f"{error}.") from error


def halves(names: Sequence[str], whole: float) -> dict[str, float]:
    """Shares of a whole, each half of the one before: sums and ratios of them are exact, so equal answers are equal."""
    shares = [whole / 2**number for number in range(1, len(names) + 1)]
    return dict(zip(names, [*shares[:-1], shares[-1] * 2], strict=True))


def build_kernel(folder: Path, models: dict[str, float], blend: Blend) -> None:
    """The kernel with a blend of these models; prior and views are those of `blend`."""
    folder.mkdir(parents=True)
    given = json.loads(blend.model_dump_json(include={"prior", "views"}))
    file = folder.parent / "blend.json"
    file.write_text(json.dumps({"models": models, **given, "read_seconds": READ_SECONDS}, indent=1), encoding="utf-8")
    command = [sys.executable, str(ROOT / "kernels" / "build.py"), "--blend", str(file), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DrillError(done.stderr.strip())


def run_sandbox(folder: Path, competition: Path, datasets: Sequence[Path], *options: str) -> Outcome:
    """Run folder/kernel. Raises DrillError where it could not be run, KernelFailure where it did not end well."""
    command = [sys.executable, str(ROOT / "kernels" / "sandbox.py"), str(folder / "kernel"), "--quiet"]
    command += ["--competition", str(competition), "--datasets", *map(str, datasets), "--out", str(folder)]
    done = subprocess.run([*command, "--hours", HOURS, *options], capture_output=True, text=True)
    if done.returncode == 2:
        raise DrillError(done.stderr.strip())
    if done.returncode:
        log = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().split("\n")
        raise KernelFailure("\n  ".join([done.stdout.strip().split("\n")[-1], "The log ends:", *log[-8:]]))
    return Outcome(folder)


def report_progress(words: str, started: float) -> None:
    print(f"drill: {words} ({time.monotonic() - started:.0f} s)", flush=True)


def drill(options: argparse.Namespace) -> dict[str, Any]:
    """Break, run, compare; the facts that results.json holds."""
    started, out = time.monotonic(), options.out
    blend, models, needs = read_given(options.competition, options.blend, options.datasets)
    for name in (STAGE, "broken", "clean"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / RESULTS).unlink(missing_ok=True)
    stage, broken, clean = out / STAGE, out / "broken", out / "clean"
    sound = write_hidden_test(options.competition, stage / "sound" / "competition", {})
    write_hidden_test(options.competition, stage / "broken" / "competition", CASES)
    datasets, lost, faults = break_datasets(models, stage / "broken")
    made = f"{len(CASES)} recordings beside {len(sound)} sound ones, {len(faults)} datasets or folds"
    report_progress(f"broken: {made}", started)
    build_kernel(clean / "kernel", halves(list(models), 1.0), blend)
    build_kernel(broken / "kernel", halves(list(models), 0.5) | halves(lost, 0.5), blend)
    clean_run = run_sandbox(clean, stage / "sound" / "competition", list(models.values()), "--layout", "plain")
    report_progress("the clean run is done", started)
    run = run_sandbox(broken, stage / "broken" / "competition", datasets, "--layout", "mixed", "--rerun")
    report_progress("the run on what is broken is done", started)
    skipped = impossible_cases(run)
    findings = [
        recording_finding(name, case, needs, run, blend.prior) for name, case in CASES.items() if name not in skipped
    ]
    findings += dataset_findings(faults, run, clean_run)
    answered, rows = count_answered(run, stage / "broken" / "competition" / TEST_TABLE)
    identical, different = count_identical(run, clean_run, sound)
    return {
        "ok": answered == rows and identical == len(sound) and all(one.problem is None for one in findings),
        "faults": [asdict(one) | {"ok": one.problem is None} for one in findings],
        "skipped": skipped,
        "answered": answered,
        "rows": rows,
        "identical": identical,
        "sound": len(sound),
        "different": different,
        "isolation": run.sandbox["isolation"],
        "seconds": round(time.monotonic() - started, 1),
    }


def impossible_cases(run: Outcome) -> list[str]:
    """The names of those that the sandbox could not bring about: root in the guard may read every file."""
    if os.geteuid() != 0 or run.sandbox["isolation"] != "guard":  # a namespace takes that privilege away
        return []
    return [name for name, case in CASES.items() if forbidden in (case.eeg, case.spectrogram)]


def as_table(facts: dict[str, Any]) -> list[str]:
    lines = [["fault", "what became of it", "named in the report (ID: the EEG's)", ""]]
    for group, members in itertools.groupby(facts["faults"], key=itemgetter("group")):
        lines.append([f"{group}:", "", "", ""])
        for one in members:
            named = textwrap.shorten(one["named"] or "nothing to name", 56, placeholder=" ...")
            lines.append([f"  {one['fault']}", one["became"], named, "ok" if one["ok"] else "NOT OK"])
    bad = [one for one in facts["faults"] if not one["ok"]]
    notes = [f"  skipped: {name}: root in the guard may read every file" for name in facts["skipped"]]
    notes += ["", *(f"NOT OK: {one['fault']}: {one['problem']}" for one in bad)]
    notes += [f"NOT THE CLEAN RUN'S: {what}" for what in facts["different"]]
    counts = (
        f"{facts['answered']} of {facts['rows']} rows answered, {facts['identical']} of {facts['sound']} sound rows"
    )
    handled = f"{len(bad)} of them NOT" if bad else "all of them"
    notes.append(f"{len(facts['faults'])} faults, {handled} as they must be; {counts} identical to the clean run")
    return [*aligned(lines, left=4), *notes]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python kernels/drill.py",
        description=__doc__,
        epilog="Exit code 0: all is as it must be; 1: something is not; 2: the drill was not run.\n"
        "example, after `make demo`:\n  python kernels/drill.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--competition", type=Path, default=DEMO / "competition", metavar="DIR", help="default: demo/competition")
    what = "weights folders, or a folder of such folders; default: demo/weights"
    add("--datasets", type=Path, nargs="+", default=[DEMO / "weights"], metavar="DIR", help=what)
    add("--blend", type=Path, default=DEMO / "blend.json", metavar="FILE", help="for its prior and views")
    add("--out", type=Path, default=DEMO / "drill", metavar="DIR", help="where the results go; default: demo/drill")
    add("--keep", action="store_true", help=f"leave what was broken in OUT/{STAGE}; beware of its pipes")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    try:
        facts = drill(options)
    except (DrillError, OSError) as error:
        print(f"drill: not run. {error}", file=sys.stderr)
        return 2
    except KernelFailure as error:
        print(f"drill: FAILED. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("drill: interrupted", file=sys.stderr)
        return 130
    finally:
        if not options.keep:  # its pipes would hold up whoever searches the folder
            shutil.rmtree(options.out / STAGE, ignore_errors=True)
    print("\n" + "\n".join(as_table(facts)))
    write_json(options.out / RESULTS, facts)
    print(f"drill: {'passed' if facts['ok'] else 'FAILED'} in {facts['seconds']:.0f} s: {options.out / RESULTS}")
    return 0 if facts["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
