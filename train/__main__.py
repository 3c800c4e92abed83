"""python -m train VERB: from a competition folder to weights and a blend."""

import argparse
import signal
import sys
from pathlib import Path

from common.errors import KitError
from common.memory import keep_freed_memory


def run_simulate(arguments: argparse.Namespace) -> None:
    from train.simulate.files import simulate_competition

    simulate_competition(arguments.directory, arguments.patients, arguments.seed)


def run_store(arguments: argparse.Namespace) -> None:
    from train.labels import read_train_table
    from train.store_build import gibibytes, hold_half
    from train.store_index import HALVES, STORE, end_of, values_file

    store = arguments.store or arguments.competition / STORE
    table = read_train_table(arguments.competition)
    for half in HALVES:
        lock, entries = hold_half(half, arguments.competition, store, table[half.column], arguments.workers)
        lock.close()
        size = gibibytes(end_of(entries.values(), half))
        print(f"{values_file(store, half)}: {len(entries)} recordings, {size}")


def run_train(arguments: argparse.Namespace) -> None:
    from common.config import load_experiment
    from train.run import run_experiment

    experiment = load_experiment(arguments.config)
    run = run_experiment(
        experiment,
        arguments.competition,
        arguments.out,
        arguments.folds,
        arguments.resume,
        arguments.pretrained,
        arguments.store,
        arguments.store_on_gpu,
    )
    print(f"wrote {run}; see how it did: python -m train evaluate {run}")


def run_show(arguments: argparse.Namespace) -> None:
    from train.show import show

    show(
        arguments.eeg_ids,
        arguments.competition,
        arguments.out,
        arguments.split,
        arguments.config,
        arguments.runs,
        arguments.label,
        arguments.augmented,
    )


def run_evaluate(arguments: argparse.Namespace) -> None:
    from train.evaluate import as_text, evaluate

    print(as_text(evaluate(arguments.runs, arguments.truth)))


def run_blend(arguments: argparse.Namespace) -> None:
    from common.files import write_via
    from train.blend import fit_blend, read_out_of_fold

    blend = fit_blend(read_out_of_fold(arguments.sources, arguments.labels, arguments.group))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = blend.model_dump_json(indent=1) + "\n"
    write_via(arguments.out, lambda path: path.write_text(text, encoding="utf-8"))
    print(f"{blend.rows} rows with many votes; nested KL, each fold scored by weights fitted on the others:")
    for candidate in blend.candidates:
        print(f"  {candidate.name:8} {candidate.nested_kl:.4f}{'  <- chosen' if candidate.chosen else ''}")
    for name, weight in blend.models.items():
        print(f"  {weight:.3f} {name}")
    print(f"wrote {arguments.out}")


def run_export(arguments: argparse.Namespace) -> None:
    from train.export import export

    for run in arguments.runs:
        print(f"wrote {export(run, arguments.out)}")


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(text)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = verbs.add_parser(
        "simulate",
        help="make an HMS-shaped competition with known truth",
        description=(
            "Write a competition folder of simulated EEG, spectrograms and votes to DIR, and the answers of its hidden "
            "test to DIR/truth. The same seed gives the same files. Example: python -m train simulate demo/competition "
            "--patients 60 --seed 1"
        ),
    )
    verb.add_argument("directory", type=Path, metavar="DIR", help="folder to write; must not hold anything else")
    verb.add_argument("--patients", type=int, required=True, metavar="N", help="patients; a quarter are hidden test")
    verb.add_argument("--seed", type=int, required=True, metavar="S", help="any whole number from 0")
    verb.set_defaults(run=run_simulate)

    verb = verbs.add_parser(
        "store",
        help="the recordings as flat arrays that training reads",
        description=(
            "Write the recordings of train.csv to DIR/store as two flat float32 arrays with an index. What is there "
            "and still fits the files stays; ended at any moment, the same command goes on. `run` does this by itself "
            "for the recordings its input looks at. Example: python -m train store --competition data/hms"
        ),
    )
    verb.add_argument("--competition", type=Path, required=True, metavar="DIR", help="folder with train.csv")
    verb.add_argument("--store", type=Path, metavar="STORE", help="another place for it (default: DIR/store)")
    verb.add_argument("--workers", type=at_least_one, metavar="N", help="processes that read (default: the cores)")
    verb.set_defaults(run=run_store)

    verb = verbs.add_parser(
        "show",
        help="pictures of EEGs and of what models see of them",
        description=(
            "Write SHOWN/EEG_ID-eeg.png (the 50 s in double banana, spectrograms, votes) and SHOWN/EEG_ID-inputs.png "
            "(each config's input with its axes). Example: python -m train show 1234567 --competition data/hms"
        ),
    )
    verb.add_argument("eeg_ids", type=int, nargs="+", metavar="EEG_ID", help="eeg_id of train.csv or test.csv")
    verb.add_argument(
        "--competition", type=Path, required=True, metavar="DIR", help="folder with train.csv or test.csv"
    )
    verb.add_argument("--split", choices=("train", "test"), help="look only there (default: train, then test)")
    verb.add_argument("--label", type=int, metavar="LABEL_ID", help="its window (default: the one with most votes)")
    verb.add_argument(
        "--config",
        type=Path,
        nargs="+",
        default=[],
        metavar="CONFIG",
        help="TOML files (default: all of train/configs)",
    )
    verb.add_argument("--runs", type=Path, nargs="+", default=[], metavar="RUN", help="adds out-of-fold predictions")
    verb.add_argument(
        "--augmented", action="store_true", help="also SHOWN/EEG_ID-augmented.png: what training makes of the window"
    )
    verb.add_argument("--out", type=Path, default=Path("shown"), metavar="SHOWN", help="where they go (default: shown)")
    verb.set_defaults(run=run_show)

    verb = verbs.add_parser(
        "run",
        help="train the folds of one experiment",
        description=(
            "Train one config of train/configs and write RUNS/<config name>/ with weights, epochs and out-of-fold "
            "predictions. Example: python -m train run train/configs/kaggle-b2.toml --competition DIR --out runs"
        ),
    )
    verb.add_argument("config", type=Path, metavar="CONFIG", help="a TOML file, e.g. from train/configs")
    verb.add_argument("--competition", type=Path, required=True, metavar="DIR", help="folder with train.csv")
    verb.add_argument("--out", type=Path, required=True, metavar="RUNS", help="where run folders go")
    verb.add_argument(
        "--store", type=Path, metavar="STORE", help="where the stored recordings are, or are put (default: DIR/store)"
    )
    verb.add_argument(
        "--store-on-gpu", action="store_true", help="copy them to the GPU whole: no reading while training"
    )
    verb.add_argument("--folds", default="all", help="'all' or some of them, as in 0,1 (default: all)")
    verb.add_argument("--resume", action="store_true", help="continue RUNS/<config name> after its last whole epoch")
    verb.add_argument(
        "--pretrained",
        type=Path,
        metavar="FILE",
        help="backbone weights from a file instead of timm's hub (safetensors or state dict)",
    )
    verb.set_defaults(run=run_train)

    verb = verbs.add_parser(
        "evaluate",
        help="out-of-fold scores beside prior and uniform",
        description=(
            "KL of each run's out-of-fold predictions, last and best epoch apart, beside the class prior and uniform. "
            "Example: python -m train evaluate runs/kaggle-b2 runs/wave-bipolar"
        ),
    )
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders of the same competition")
    verb.add_argument(
        "--truth", type=Path, metavar="CSV", help="a simulation's truth/train_probabilities.csv: adds the floor"
    )
    verb.set_defaults(run=run_evaluate)

    verb = verbs.add_parser(
        "blend",
        help="fit the weights of the models",
        description=(
            "Fit convex weights on out-of-fold rows with at least 10 votes, score them nested beside the plain mean, "
            "and write the better to a blend file. Example: python -m train blend runs/* --out infer/blend.json"
        ),
    )
    verb.add_argument("sources", type=Path, nargs="+", metavar="RUN_OR_PARQUET", help="run folders or parquet files")
    verb.add_argument(
        "--labels",
        type=Path,
        metavar="PARQUET",
        help="votes and folds for parquet files that have none, matched on eeg_id, eeg_sub_id, label_id",
    )
    verb.add_argument("--group", metavar="COLUMN", help="column that must not cross folds (default: patient_id)")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="the blend file, e.g. infer/blend.json")
    verb.set_defaults(run=run_blend)

    verb = verbs.add_parser(
        "export",
        help="write runs as Kaggle dataset folders",
        description=(
            "Write WEIGHTS/hms-<name>/ per run: config.json, fold0.safetensors ..., manifest.json with checksums and "
            "scores, dataset-metadata.json. Publish them with `kaggle datasets create -p WEIGHTS/hms-<name>`. "
            "Example: python -m train export runs/kaggle-b2 --out weights"
        ),
    )
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    verb.add_argument("--out", type=Path, required=True, metavar="WEIGHTS", help="where dataset folders go")
    verb.set_defaults(run=run_export)
    return top


def main() -> int:
    arguments = parser().parse_args()
    keep_freed_memory()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # an ended command clears up too
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (KitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
