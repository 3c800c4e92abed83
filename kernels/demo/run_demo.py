"""From a simulated competition to a leaderboard, by the commands a user would type.

    python kernels/demo/run_demo.py   everything under demo/, in about seven minutes on two cores

Simulates a competition, trains the two smoke experiments, scores them out of fold, fits the blend, exports the
weights, builds the kernel, runs it in the sandbox on the hidden test, scores its submission.csv, and publishes to a
stand-in of Kaggle.
"""

import argparse
import shlex
import shutil
import sys
import time

from common.files import write_json
from results import ROOT, print_table, result_table, run_command, verdict, write_blend_of_one

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
    "report.html": "all results as one page, to look at in a browser",
    "results.json": "this table",
}


def commands(patients: int, seed: int) -> list[tuple[str, str]]:
    """Step and command, in order."""
    runs, datasets = (
        " ".join(f"{place}{name}" for name in EXPERIMENTS) for place in ("demo/runs/", "demo/weights/hms-")
    )
    given, answer = "--competition demo/competition", "demo/sandbox/submission.csv"
    truth, solution = (f"demo/competition/truth/{name}.csv" for name in ("train_probabilities", "solution"))
    server = f"kernels/fake_kaggle/kaggle_server.py --root demo/kaggle {given} --solution {solution}"
    publish = f"kernels/publish.py --kernel demo/kernel --datasets {datasets} --blend demo/blend.json {given}"
    publish += " --sandbox demo/sandbox --out demo/publish --poll 0.5"
    facts = f"--truth {truth} --doctor demo/doctor.json --ledger demo/publish/ledger.csv"
    train = [
        (f"train {name}", f"-m train run train/configs/{name}.toml {given} --out demo/runs") for name in EXPERIMENTS
    ]
    alone = [
        f"-m infer submit {given} --weights demo/weights/hms-{name} --blend demo/alone/blend.json"
        f" --out demo/alone/hms-{name}.csv"
        for name in EXPERIMENTS
    ]
    return [
        ("simulate", f"-m train simulate demo/competition --patients {patients} --seed {seed}"),
        *train,
        ("score and blend", f"-m train evaluate {runs} --truth {truth}"),
        ("score and blend", f"-m train blend {runs} --out demo/blend.json"),
        ("export and build", f"-m train export {runs} --out demo/weights"),
        ("export and build", "kernels/build.py --blend demo/blend.json --out demo/kernel"),
        ("kernel in the sandbox", f"kernels/sandbox.py demo/kernel {given} --datasets {datasets} --out demo/sandbox"),
        ("validate and score", f"-m infer validate {answer} {given}"),
        ("validate and score", f"-m infer score {answer} {solution}"),
        ("publish to a stand-in", f"{server} -- python {publish}"),
        ("publish to a stand-in", "kernels/publish.py history --ledger demo/publish/ledger.csv"),
        ("report", f"-m train doctor {given} --folds 2 --json demo/doctor.json"),
        ("report", f"-m train report {runs} demo/blend.json {given} {facts} --out demo/report.html"),
        *(("each model alone", words) for words in alone),
    ]


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
    seconds: dict[str, float] = {}
    for step, words in commands(options.patients, options.seed):
        if step == "each model alone":
            write_blend_of_one(demo)
        seconds[step] = seconds.get(step, 0.0) + run_command(*shlex.split(words))
    table = result_table(demo, EXPERIMENTS, demo / "sandbox" / "submission.csv")
    lines, as_promised = verdict(table, EXPERIMENTS)
    print_table(table)
    print("\n" + "\n".join(lines))
    print("\nminutes: " + ", ".join(f"{step} {spent / 60:.1f}" for step, spent in seconds.items()))
    print(f"total {(time.monotonic() - started) / 60:.1f} minutes. Written to demo/:")
    for place, what in PLACES.items():
        print(f"  demo/{place:13} {what}")
    facts = {"table": table.to_dicts(), "seconds": {step: round(spent, 1) for step, spent in seconds.items()}}
    write_json(demo / "results.json", facts)
    return 0 if as_promised else 1


if __name__ == "__main__":
    sys.exit(main())
