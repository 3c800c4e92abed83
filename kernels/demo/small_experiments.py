"""The seed's ideas side by side on one simulated competition, small enough for two cores.

    python kernels/demo/small_experiments.py        everything under experiments-small/, about 40 minutes on two cores

Simulates a competition, trains the configs of kernels/demo/small two at a time, scores them out of fold beside class
prior and Bayes floor, blends them, answers the hidden test, and says which claims of the seed show here. Ended at any
moment, the same command goes on with what is left.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.files import write_json
from common.metric import kl_divergence, vote_shares
from results import ROOT, print_table, result_table, run_command, verdict, write_blend_of_one
from train.blend.methods import nested_kl
from train.blend.out_of_fold import read_out_of_fold
from train.evaluate.scores import interval, resampled_means
from train.tables import aligned

CONFIGS = sorted((ROOT / "kernels" / "demo" / "small").glob("*.toml"))
NAMES = tuple(path.stem for path in CONFIGS)
BLEND = "blend"


@dataclass(frozen=True)
class Claim:
    """That `better` scores lower than `than` on rows with at least 10 votes; what was published for it."""

    text: str
    better: str
    than: str
    published: str


CLAIMS = (
    Claim("global features beat the four panels", "small-global", "small-baseline", ".743 to .732, plain heads"),
    Claim("percentiles beside the image help", "small-percentiles", "small-baseline", ".753 to .710, on EEG images"),
    Claim("the loss by votes helps", "small-vote-log", "small-baseline", "by .02"),
    Claim("two stages help where votes are many", "small-two-stage", "small-baseline", ".375 to .239, others' runs"),
    Claim("spectrograms of 10 minutes beat those of 50 s", "small-baseline", "small-eeg-mel", ".729 against .753"),
    Claim("waves as an image beat their spectrogram", "small-raw-image", "small-eeg-mel", "by .022, others' runs"),
    Claim("the EEG net keeps up with its spectrogram", "small-wave", "small-eeg-mel", "none"),
    Claim("the blend beats the best of its models", BLEND, "best", "leaderboard .42 to .38"),
)


def run_together(commands: dict[str, Sequence[str | Path]], logs: Path, at_once: int) -> None:
    """Run commands, `at_once` at a time with a core each. If one fails, those that run end first, then all ends."""
    logs.mkdir(exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # threads of two programs on one core wait for each other

    def run(name: str) -> None:
        print(f"  {name}: begins", flush=True)
        started, words, log = time.monotonic(), [sys.executable, *map(str, commands[name])], logs / f"{name}.log"
        with log.open("ab") as out:
            code = subprocess.run(words, cwd=ROOT, env=environment, stdout=out, stderr=out).returncode
        if code:
            end = log.read_text(errors="replace").splitlines()[-5:]
            raise ChildProcessError("\n".join([f"{name} ended with exit code {code}; {log} ends:", *end]))
        print(f"  {name}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)

    with ThreadPoolExecutor(at_once) as pool:
        try:
            for done in as_completed([pool.submit(run, name) for name in commands]):
                done.result()
        except ChildProcessError as error:
            pool.shutdown(cancel_futures=True)
            sys.exit(str(error))


def run_all(folder: Path, patients: int, seed: int, at_once: int) -> None:
    """All commands in order; what an earlier call has finished stays."""
    competition, runs, weights, blend = (folder / name for name in ("competition", "runs", "weights", "blend.json"))
    given, train, logs = ("--competition", competition), ("-m", "train"), folder / "logs"
    run_command(*train, "simulate", competition, "--patients", str(patients), "--seed", str(seed))
    run_command(*train, "store", *given)
    print(f"\ntraining {len(CONFIGS)} experiments, {at_once} at a time; their output: {folder.name}/logs", flush=True)
    words = (*given, "--out", runs, "--resume")
    run_together({path.stem: (*train, "run", path, *words) for path in CONFIGS}, logs, at_once)
    run_folders = [runs / name for name in NAMES]
    run_command(*train, "evaluate", *run_folders, "--truth", competition / "truth" / "train_probabilities.csv")
    run_command(*train, "blend", *run_folders, "--out", blend)
    run_command(*train, "export", *run_folders, "--out", weights)
    alone = write_blend_of_one(folder)
    answers = {BLEND: (weights, blend, folder / "submission.csv")}
    answers |= {name: (weights / f"hms-{name}", alone, folder / "alone" / f"hms-{name}.csv") for name in NAMES}
    print("\nanswering the hidden test", flush=True)
    submit = {
        f"submit {name}": ("-m", "infer", "submit", *given, "--weights", weights_of, "--blend", file, "--out", out)
        for name, (weights_of, file, out) in answers.items()
    }
    run_together(submit, logs, at_once)


def losses(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """KL of each label row with many votes, out of fold, of each model and of the nested blend; and its patient."""
    oof = read_out_of_fold([folder / "runs" / name for name in NAMES], None, None)
    target = vote_shares(oof.votes)
    kl = dict(zip(oof.names, (kl_divergence(target, predicted) for predicted in oof.predictions), strict=True))
    kl[BLEND] = nested_kl(oof, "convex")
    return {name: values[oof.many] for name, values in kl.items()}, oof.group[oof.many]


def compare(folder: Path) -> list[dict[str, str | float]]:
    """Each claim with its difference, the 95 % interval over patients, and what that says."""
    kl, patient = losses(folder)
    best = min(NAMES, key=lambda name: kl[name].mean())
    found = []
    for claim in CLAIMS:
        than = best if claim.than == "best" else claim.than
        difference = kl[claim.better] - kl[than]
        low, high = interval(resampled_means(difference[None], patient)[:, 0])
        says = "shows" if high < 0 else "the opposite shows" if low > 0 else "not told apart"
        facts = {"claim": claim.text, "pair": f"{claim.better} - {than}", "difference": float(difference.mean())}
        found.append(facts | {"low": low, "high": high, "says": says, "published": claim.published})
    return found


def as_lines(compared: list[dict[str, str | float]]) -> list[str]:
    lines = []
    for one in compared:
        numbers = f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
        lines.append([str(one["claim"]), numbers, str(one["says"]), f"published: {one['published']}"])
    head = "Claims, as differences of KL on rows with >= 10 votes out of fold, with 95 % intervals over patients:"
    return [head, *aligned(lines, left=4)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=240, help="patients to simulate (default: 240)")
    parser.add_argument("--seed", type=int, default=3, help="seed of the simulation (default: 3)")
    parser.add_argument("--at-once", type=int, default=min(2, os.cpu_count() or 1), help="experiments at a time")
    folder_help = "folder (default: experiments-small)"
    parser.add_argument("--out", type=Path, default=ROOT / "experiments-small", help=folder_help)
    options = parser.parse_args()
    if options.patients < 24 or options.seed < 0 or options.at_once < 1:
        parser.error("--patients must be at least 24, --seed at least 0, --at-once at least 1")
    folder, started = options.out.resolve(), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    run_all(folder, options.patients, options.seed, options.at_once)
    table = result_table(folder, NAMES, folder / "submission.csv")
    compared = compare(folder)
    print_table(table)
    print("\n" + "\n".join([*verdict(table, NAMES)[0], "", *as_lines(compared)]))
    print(f"\ntotal {(time.monotonic() - started) / 60:.1f} minutes; all of it under {folder.name}/")
    facts = {"patients": options.patients, "seed": options.seed, "table": table.to_dicts(), "claims": compared}
    write_json(folder / "results.json", facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
