"""The seed's ideas side by side on one simulated competition, small enough for two cores.

    python kernels/small_experiments.py        everything under experiments-small/, in about forty minutes on two cores

Simulates a competition, trains the configs of kernels/small two at a time, scores them out of fold beside prior and
floor, blends them, answers the hidden test, and says which claims of the seed show here. Ended at any moment, the same
command goes on with what is left.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from common.metric import kl_divergence, vote_shares
from common.schema import VOTES
from demo import ROOT, command, result_table, show, verdict, write_blend_of_one
from train.candidates import nested_kl
from train.engine.run_folder import probability_columns, read_oof
from train.out_of_fold import read_out_of_fold
from train.scores import interval, many_votes, resampled_means

CONFIGS = sorted((ROOT / "kernels" / "small").glob("*.toml"))
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
    """Run commands, `at_once` at a time with a core each; a line when one begins and ends. Ends if one fails."""
    logs.mkdir(exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # threads of two programs on one core wait for each other
    waiting, running = deque(commands.items()), {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name, words = waiting.popleft()
                print(f"  {name}: begins", flush=True)
                with (logs / f"{name}.log").open("ab") as log:
                    process = subprocess.Popen(
                        [sys.executable, *map(str, words)], cwd=ROOT, env=environment, stdout=log, stderr=log
                    )
                running[name] = (process, time.monotonic())
            time.sleep(0.2)
            for name, (process, started) in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    if process.returncode:
                        end = (logs / f"{name}.log").read_text(errors="replace").splitlines()[-5:]
                        where = f"{name} ended with exit code {process.returncode}; {logs / name}.log ends:"
                        sys.exit("\n".join([where, *end]))
                    print(f"  {name}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    finally:
        for process, _ in running.values():  # of a call that was ended, or of which one failed
            process.terminate()
            process.wait()


def walk_the_road(folder: Path, patients: int, seed: int, at_once: int) -> None:
    """All commands in order; what an earlier call has finished stays."""
    competition, runs, weights, blend = (folder / name for name in ("competition", "runs", "weights", "blend.json"))
    seconds: dict[str, float] = {}
    train, infer = ("-m", "train"), ("-m", "infer")
    command("simulate", seconds, *train, "simulate", competition, "--patients", str(patients), "--seed", str(seed))
    command("store", seconds, *train, "store", "--competition", competition)
    where = ("--competition", competition, "--out", runs)
    print(f"\ntraining {len(CONFIGS)} experiments, {at_once} at a time; their output: {folder.name}/logs", flush=True)
    run_together({path.stem: (*train, "run", path, *where, "--resume") for path in CONFIGS}, folder / "logs", at_once)
    run_folders = [runs / name for name in NAMES]
    truth = competition / "truth" / "train_probabilities.csv"
    command("score", seconds, *train, "evaluate", *run_folders, "--truth", truth)
    command("blend", seconds, *train, "blend", *run_folders, "--out", blend)
    command("export", seconds, *train, "export", *run_folders, "--out", weights)
    submit = (*infer, "submit", "--competition", competition)
    alone = write_blend_of_one(folder, blend)
    answers = {BLEND: (weights, blend, folder / "submission.csv")}
    answers |= {name: (weights / f"hms-{name}", alone, folder / "alone" / f"hms-{name}.csv") for name in NAMES}
    print("\nanswering the hidden test", flush=True)
    run_together(
        {
            f"submit {name}": (*submit, "--weights", given, "--blend", file, "--out", out)
            for name, (given, file, out) in answers.items()
        },
        folder / "logs",
        at_once,
    )


def losses(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """KL of each label row with many votes, out of fold, of each model and of the nested blend; and its patient."""
    found, patient = {}, np.array([])
    for name in NAMES:
        oof = read_oof(folder / "runs" / name).sort("label_id")
        votes = oof.select(VOTES).to_numpy()
        kl = kl_divergence(vote_shares(votes), oof.select(probability_columns("last")).to_numpy())
        found[name], patient = kl[many_votes(votes)], oof["patient_id"].to_numpy()[many_votes(votes)]
    together = read_out_of_fold([folder / "runs" / name for name in NAMES], None, None)
    order = np.argsort(pl.read_parquet(folder / "runs" / NAMES[0] / "oof.parquet")["label_id"].to_numpy())
    found[BLEND] = nested_kl(together, "convex")[order][together.many[order]]
    return found, patient


def judge(folder: Path) -> list[dict[str, str | float]]:
    """Each claim with its difference, the 95 % interval over patients, and what that says."""
    kl, patient = losses(folder)
    best = min(NAMES, key=lambda name: kl[name].mean())
    judged = []
    for claim in CLAIMS:
        than = best if claim.than == "best" else claim.than
        difference = kl[claim.better] - kl[than]
        low, high = interval(resampled_means(difference[None], patient)[:, 0])
        says = "shows" if high < 0 else "the opposite shows" if low > 0 else "not told apart"
        judged.append(
            {
                "claim": claim.text,
                "pair": f"{claim.better} - {than}",
                "difference": float(difference.mean()),
                "low": low,
                "high": high,
                "says": says,
                "published": claim.published,
            }
        )
    return judged


def as_lines(judged: list[dict[str, str | float]]) -> list[str]:
    lines = ["Claims, as differences of KL on rows with >= 10 votes out of fold, with 95 % intervals over patients:"]
    for found in judged:
        numbers = f"{found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
        lines.append(f"  {found['claim']:46} {numbers}  {found['says']:18} published: {found['published']}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=240, help="patients to simulate (default: 240)")
    parser.add_argument("--seed", type=int, default=3, help="seed of the simulation (default: 3)")
    parser.add_argument("--at-once", type=int, default=min(2, os.cpu_count() or 1), help="experiments at a time")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "experiments-small", help="folder (default: experiments-small)"
    )
    options = parser.parse_args()
    if options.patients < 24 or options.seed < 0 or options.at_once < 1:
        parser.error("--patients must be at least 24, --seed at least 0, --at-once at least 1")
    folder, started = options.out.resolve(), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    walk_the_road(folder, options.patients, options.seed, options.at_once)
    table = result_table(folder, NAMES, folder / "submission.csv")
    judged = judge(folder)
    show(table)
    print("\n" + "\n".join([*verdict(table, NAMES)[0], "", *as_lines(judged)]))
    print(f"\ntotal {(time.monotonic() - started) / 60:.1f} minutes; all of it under {folder.name}/")
    facts = {"patients": options.patients, "seed": options.seed, "table": table.to_dicts(), "claims": judged}
    (folder / "results.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
