"""The whole road on a simulated competition, by the commands a user would type.

    python kernels/demo.py            everything under demo/, in about seven minutes on two cores

Simulates a competition, trains the two smoke experiments, scores them out of fold, fits the blend, exports
the weights, builds the kernel, runs it in the sandbox on the hidden test, and scores its submission.csv.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from common.blend import Blend, load_blend
from common.metric import kl_divergence
from common.schema import MANY_VOTES, VOTES
from infer.validate import score
from train.blend.methods import nested_kl
from train.blend.out_of_fold import read_out_of_fold
from train.evaluate.runs import FLOOR, PRIOR, UNIFORM, evaluate

ROOT = Path(__file__).resolve().parents[1]
FEWEST_PATIENTS = 12  # every pattern in both folds
EXPERIMENTS = ("smoke-kaggle-efficientnet", "smoke-wave-bipolar")
PLACES = {
    "competition/": "the simulated competition, its answers in truth/, its recordings for training in store/",
    "runs/": "folds, epochs, oof.parquet",
    "weights/": "dataset folders for `kaggle datasets create`",
    "blend.json": "the fitted blend",
    "kernel/": "the built kernel for `kaggle kernels push`",
    "sandbox/": "submission.csv, report.json, log.txt",
    "publish/": "ledger.csv, its plot, and what the stand-in of Kaggle answered; its own state is in kaggle/",
    "report.html": "all that is known of this, to look at in a browser",
    "results.json": "this table",
}
GAP_TO_CLOSE = 0.30  # of the way from the prior to the floor, on the hidden test


def is_ours(word: str | Path) -> bool:
    return isinstance(word, Path) and word.is_relative_to(ROOT)


def command(stage: str, seconds: dict[str, float], *words: str | Path) -> None:
    """Run one command in the project's root, shown as a user would type it; ends the demo if it fails."""
    shown = [str(word.relative_to(ROOT) if is_ours(word) else word) for word in words]
    print(f"\n$ python {shlex.join(shown)}", flush=True)
    started = time.monotonic()
    done = subprocess.run([sys.executable, *shown], cwd=ROOT)
    seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - started
    if done.returncode:
        sys.exit(f"the command above ended with exit code {done.returncode}")


def walk_the_road(demo: Path, patients: int, seed: int) -> dict[str, float]:
    """All commands in order; seconds by stage."""
    competition, runs, weights, blend = (demo / name for name in ("competition", "runs", "weights", "blend.json"))
    run_folders = [runs / name for name in EXPERIMENTS]
    datasets = [weights / f"hms-{name}" for name in EXPERIMENTS]
    train, infer, seconds = ("-m", "train"), ("-m", "infer"), {}
    command("simulate", seconds, *train, "simulate", competition, "--patients", str(patients), "--seed", str(seed))
    for name in EXPERIMENTS:
        config = ROOT / "train" / "configs" / f"{name}.toml"
        command(f"train {name}", seconds, *train, "run", config, "--competition", competition, "--out", runs)
    truth = competition / "truth"
    command("score and blend", seconds, *train, "evaluate", *run_folders, "--truth", truth / "train_probabilities.csv")
    command("score and blend", seconds, *train, "blend", *run_folders, "--out", blend)
    command("export and build", seconds, *train, "export", *run_folders, "--out", weights)
    command("export and build", seconds, "kernels/build.py", "--blend", blend, "--out", demo / "kernel")
    sandbox = ("kernels/sandbox.py", demo / "kernel", "--competition", competition, "--datasets", *datasets)
    command("kernel in the sandbox", seconds, *sandbox, "--out", demo / "sandbox")
    submission = demo / "sandbox" / "submission.csv"
    command("validate and score", seconds, *infer, "validate", submission, "--competition", competition)
    command("validate and score", seconds, *infer, "score", submission, truth / "solution.csv")
    publish(demo, competition, datasets, blend, seconds)
    found = demo / "doctor.json"
    command("report", seconds, *train, "doctor", "--competition", competition, "--folds", "2", "--json", found)
    facts = ("--competition", competition, "--truth", truth / "train_probabilities.csv", "--doctor", found)
    facts += ("--ledger", demo / "publish" / "ledger.csv", "--out", demo / "report.html")
    command("report", seconds, *train, "report", *run_folders, blend, *facts)
    alone_blend = write_blend_of_one(demo, blend)
    for dataset in datasets:  # each model alone, for the table
        alone = demo / "alone" / f"{dataset.name}.csv"
        command(
            "each model alone",
            seconds,
            *infer,
            "submit",
            "--competition",
            competition,
            "--weights",
            dataset,
            "--blend",
            alone_blend,
            "--out",
            alone,
        )
    return seconds


def publish(demo: Path, competition: Path, datasets: Sequence[Path], blend: Path, seconds: dict[str, float]) -> None:
    """From weights to a ledger row by the real command, on a stand-in of Kaggle's server on this machine."""
    solution, out = competition / "truth" / "solution.csv", demo / "publish"
    stand_in = ("tests/kaggle_stand_in.py", "--root", demo / "kaggle", "--competition", competition)
    words = ("kernels/publish.py", "--kernel", demo / "kernel", "--datasets", *datasets, "--blend", blend)
    words += ("--competition", competition, "--sandbox", demo / "sandbox", "--out", out, "--poll", "0.5")
    stage = "publish to a stand-in"
    command(stage, seconds, *stand_in, "--solution", solution, "--", "python", *words)
    command(stage, seconds, "kernels/publish.py", "history", "--ledger", out / "ledger.csv")


def write_blend_of_one(demo: Path, blend: Path) -> Path:
    """A blend that names no model: the one that is given counts alone."""
    file = demo / "alone" / "blend.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(Blend(models={}, prior=load_blend(blend).prior).model_dump_json(), encoding="utf-8")
    return file


def hidden_kl(competition: Path, answer: np.ndarray) -> float:
    """KL on the hidden test of one and the same answer (6,) for every row."""
    solution = pl.read_csv(competition / "truth" / "solution.csv").select(VOTES).to_numpy()
    return float(kl_divergence(solution, np.tile(answer, (len(solution), 1))).mean())


def result_table(demo: Path, names: Sequence[str], submission: Path) -> pl.DataFrame:
    """Rows: floor, each model, blend, class prior, uniform. Columns: what, oof_all, oof_many, hidden_test.

    `submission` is the blend's answer to the hidden test, demo/alone/hms-NAME.csv each model's.
    """
    competition, truth = demo / "competition", demo / "competition" / "truth"
    solution = truth / "solution.csv"
    run_folders = [demo / "runs" / name for name in names]
    scores = evaluate(run_folders, truth / "train_probabilities.csv").scores
    oof = {row["what"]: row for row in scores.iter_rows(named=True)}
    blend = load_blend(demo / "blend.json")
    chosen = next(candidate.name for candidate in blend.candidates if candidate.chosen)
    together = read_out_of_fold(run_folders, None, None)
    nested = nested_kl(together, chosen)
    floor, prior, uniform = (oof[what] for what in (FLOOR, PRIOR, "uniform"))
    lines = [("floor", floor["kl_all"], floor["kl_many"], score(truth / "probabilities.csv", solution)[0])]
    for name in names:
        row = oof[f"{name} (last epoch)"]
        alone = demo / "alone" / f"hms-{name}.csv"
        lines.append((name, row["kl_all"], row["kl_many"], score(alone, solution)[0]))
    lines.append(("blend (nested)", nested.mean(), nested[together.many].mean(), score(submission, solution)[0]))
    lines.append(("class prior", prior["kl_all"], prior["kl_many"], hidden_kl(competition, np.array(blend.prior))))
    lines.append(("uniform", uniform["kl_all"], uniform["kl_many"], hidden_kl(competition, UNIFORM)))
    return pl.DataFrame(lines, schema=["what", "oof_all", "oof_many", "hidden_test"], orient="row")


def verdict(table: pl.DataFrame, names: Sequence[str]) -> tuple[list[str], bool]:
    """What the hidden test says, and whether it is what the demo promises."""
    hidden = dict(zip(table["what"], table["hidden_test"], strict=True))
    closed = (hidden["class prior"] - hidden["blend (nested)"]) / (hidden["class prior"] - hidden["floor"])
    worse = [name for name in (*names, "blend (nested)") if hidden[name] >= hidden["class prior"]]
    lines = [f"On the hidden test the blend closes {closed:.0%} of the gap from the prior to the floor."]
    lines += [f"NOT better than the class prior there: {', '.join(worse)}"] if worse else []
    return lines, not worse and closed >= GAP_TO_CLOSE


def show(table: pl.DataFrame) -> None:
    width, many = max(map(len, table["what"])), f"oof, >= {MANY_VOTES} votes"
    print(f"\nKL divergence, lower is better\n{'':{width}}  {'oof, all rows':>15}  {many:>15}  {'hidden test':>15}")
    for what, *values in table.iter_rows():
        print(f"{what:{width}}  " + "  ".join(f"{value:15.4f}" for value in values))
    print("oof: out of fold, models after their last epoch; the blend with weights fitted on the other folds")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=90, help="patients to simulate (default: 90)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulation (default: 1)")
    options = parser.parse_args()
    if options.patients < FEWEST_PATIENTS or options.seed < 0:  # before the last demo is removed
        parser.error(f"--patients must be at least {FEWEST_PATIENTS}, --seed at least 0")
    demo, started = ROOT / "demo", time.monotonic()
    shutil.rmtree(demo, ignore_errors=True)
    demo.mkdir()
    seconds = walk_the_road(demo, options.patients, options.seed)
    table = result_table(demo, EXPERIMENTS, demo / "sandbox" / "submission.csv")
    lines, kept = verdict(table, EXPERIMENTS)
    show(table)
    print("\n" + "\n".join(lines))
    print("\nminutes: " + ", ".join(f"{stage} {spent / 60:.1f}" for stage, spent in seconds.items()))
    print(f"total {(time.monotonic() - started) / 60:.1f} minutes. Made under demo/:")
    for place, what in PLACES.items():
        print(f"  demo/{place:13} {what}")
    facts = {"table": table.to_dicts(), "seconds": {stage: round(spent, 1) for stage, spent in seconds.items()}}
    (demo / "results.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
