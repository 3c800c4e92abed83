"""What each verb of `python -m train` takes."""

from pathlib import Path
from typing import Any

from train import verbs
from train.argument_types import at_least_one, folder_of, folds_of, view_of


def add_data_verbs(commands: Any) -> None:
    """simulate, store, doctor, folds, show."""
    verb = commands.add_parser(
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
    verb.set_defaults(run=verbs.run_simulate)

    verb = commands.add_parser(
        "store",
        help="the recordings as flat arrays that training reads",
        description=(
            "Write the recordings of train.csv to DIR/store as two flat float32 arrays with an index. Recordings whose "
            "files did not change are not read again. `run` does this by itself for the recordings its input looks "
            "at. Example: python -m train store --competition data/hms"
        ),
    )
    verb.add_argument("--competition", type=Path, required=True, metavar="DIR", help="folder with train.csv")
    verb.add_argument("--store", type=Path, metavar="STORE", help="another place for it (default: DIR/store)")
    verb.add_argument("--workers", type=at_least_one, metavar="N", help="threads that read (default: 4)")
    verb.set_defaults(run=verbs.run_store)

    verb = commands.add_parser(
        "doctor",
        help="is the data sound: files, labels, folds",
        description=(
            "Read every recording once and say what is missing, damaged, flat, doubled or contradictory, how bad that "
            "is and what to do. Ends with 0 when training can start, with 1 when not. "
            "Example: python -m train doctor --competition data/hms --json doctor.json"
        ),
    )
    verb.add_argument("--competition", type=folder_of, required=True, metavar="DIR", help="folder with train.csv")
    verb.add_argument("--json", type=Path, metavar="FILE", help="also write every case and number there")
    verb.add_argument("--workers", type=at_least_one, metavar="N", help="threads that read (default: two a core)")
    which = verb.add_mutually_exclusive_group()
    which.add_argument(
        "--folds", type=folds_of, default=5, metavar="N_OR_FILE", help="how many, or a table of them (default: 5)"
    )
    which.add_argument("--test-only", action="store_true", help="the test set alone: there is no train.csv")
    verb.set_defaults(run=verbs.run_doctor)

    verb = commands.add_parser(
        "folds",
        help="a table of the folds, patient by patient",
        description=(
            "Write patient_id and fold of every patient of train.csv to FILE, stratified by consensus, or with "
            "--published as in the seed repository, to compare with its scores. "
            "Example: python -m train folds --competition data/hms --out folds.csv --published"
        ),
    )
    verb.add_argument("--competition", type=Path, required=True, metavar="DIR", help="folder with train.csv")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write, e.g. folds.csv")
    verb.add_argument("--published", action="store_true", help="the seed repository's folds, hardly stratified")
    verb.add_argument("--folds", type=int, default=5, metavar="N", help="how many, from 2 (default: 5)")
    verb.set_defaults(run=verbs.run_folds)

    verb = commands.add_parser(
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
        help="TOML files (default: those of --runs, or all of train/configs)",
    )
    verb.add_argument("--runs", type=Path, nargs="+", default=[], metavar="RUN", help="adds out-of-fold predictions")
    verb.add_argument(
        "--augmented",
        action="store_true",
        help="also SHOWN/EEG_ID-augmented.png: what training makes of the window, beside other EEGs of its class",
    )
    verb.add_argument("--out", type=Path, default=Path("shown"), metavar="SHOWN", help="where they go (default: shown)")
    verb.set_defaults(run=verbs.run_show)


def add_training_verbs(commands: Any) -> None:
    """experiments, run, measure."""
    verb = commands.add_parser(
        "experiments",
        help="all configs: what was published of them, and local results",
        description=(
            "A line for each config of train/configs and each published ensemble of train/blends: input, model, loss, "
            "augmentation, epochs, published scores, and out-of-fold KL of its run in RUNS beside the class prior. "
            "Example: python -m train experiments --runs runs"
        ),
    )
    verb.add_argument("--runs", type=Path, metavar="RUNS", help="folder of run folders: adds their results")
    verb.add_argument(
        "--truth", type=Path, metavar="CSV", help="a simulation's truth/train_probabilities.csv: adds the floor"
    )
    verb.add_argument("--markdown", action="store_true", help="as a table of markdown, as in docs/experiments.md")
    verb.set_defaults(run=verbs.run_experiments)

    verb = commands.add_parser(
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
    verb.add_argument(
        "--folds",
        default="all",
        help="'all' or some of them, as in 0,1; 'full': one model of all rows; 'pairs': models that never saw two "
        "folds, for pseudo labels (default: all)",
    )
    verb.add_argument("--seeds", type=at_least_one, default=1, metavar="N", help="models of each (default: 1)")
    verb.add_argument("--fold-table", type=Path, metavar="FILE", help="patient_id, fold (csv or parquet): other folds")
    verb.add_argument("--as-published", action="store_true", help="bring back the faults of the published run")
    verb.add_argument("--pseudo", type=Path, metavar="RUN", help="pseudo labels from the models of another run")
    verb.add_argument("--resume", action="store_true", help="continue RUNS/<config name>, or add folds and seeds to it")
    verb.add_argument("--tensorboard", action="store_true", help="also write TensorBoard's files to the run folder")
    verb.add_argument(
        "--spread",
        choices=("batches", "folds"),
        default="batches",
        help="under torchrun: all processes share each batch, or each trains models of its own (default: batches)",
    )
    verb.add_argument(
        "--pretrained",
        type=Path,
        metavar="FILE",
        help="backbone weights from a file instead of timm's hub (safetensors or state dict)",
    )
    verb.set_defaults(run=verbs.run_train)

    verb = commands.add_parser(
        "measure",
        help="what configs cost on this machine",
        description=(
            "Time some steps of each config's training, each in a process of its own, on noise that lies on the device "
            "(no competition is needed), and extrapolate to the competition: rows a second, memory, hours of all "
            "folds. Example: python -m train measure train/configs/kaggle-*.toml --steps 20"
        ),
    )
    verb.add_argument("configs", type=Path, nargs="+", metavar="CONFIG", help="TOML files, e.g. from train/configs")
    verb.add_argument("--steps", type=at_least_one, default=5, metavar="N", help="measured of each kind (default: 5)")
    verb.add_argument(
        "--batch-size", type=at_least_one, metavar="B", help="instead of the configs' own, to save memory or time"
    )
    verb.add_argument("--json", type=Path, metavar="FILE", help="also write every number there")
    verb.add_argument("--markdown", action="store_true", help="as a table of markdown, as in docs/real-data.md")
    verb.set_defaults(run=verbs.run_measure)


def add_judging_verbs(commands: Any) -> None:
    """evaluate, blend, views, report, export."""
    verb = commands.add_parser(
        "evaluate",
        help="out-of-fold scores beside prior and uniform",
        description=(
            "KL of each run's out-of-fold predictions, last and best epoch apart, beside the class prior and uniform: "
            "on all label rows, on those with at least 10 votes (with a 95 % interval over patients), on one row per "
            "EEG, by class and by fold; of several runs also how far each is from the first. "
            "Example: python -m train evaluate runs/kaggle-b2 runs/wave-bipolar"
        ),
    )
    verb.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="run folders of the same competition; the first is compared to",
    )
    verb.add_argument(
        "--truth", type=Path, metavar="CSV", help="a simulation's truth/train_probabilities.csv: adds the floor"
    )
    verb.add_argument("--json", type=Path, metavar="FILE", help="also write every number there")
    verb.set_defaults(run=verbs.run_evaluate)

    verb = commands.add_parser(
        "blend",
        help="combine models: five ways, each scored nested, and the simplest that is as good as the best",
        description=(
            "Fit plain mean, geometric mean, convex weights, log-linear weights and a small stacker on rows with at "
            "least 10 votes, score each nested with a 95 % interval over patients, and write the simplest one that the "
            "noise does not tell from the best. Example: python -m train blend runs/* --out infer/blend.json"
        ),
    )
    verb.add_argument("sources", type=Path, nargs="+", metavar="RUN_OR_PARQUET", help="run folders or parquet files")
    verb.add_argument(
        "--labels",
        type=Path,
        metavar="PARQUET",
        help="votes and folds for parquet files that have none, matched on all id columns (..._id) that they share",
    )
    verb.add_argument(
        "--group",
        metavar="COLUMN",
        help="what is resampled and must not cross folds (default: patient_id, or eeg_id where there is none)",
    )
    verb.add_argument(
        "--views",
        type=view_of,
        nargs="+",
        default=[],
        metavar="VIEW",
        help="what the kernel also looks at, as far as time allows: mirror, +4 (seconds later), mirror-4 ...",
    )
    verb.add_argument("--hours", type=float, metavar="H", help="what a run of the kernel may take (default: 8.5)")
    verb.add_argument("--json", type=Path, metavar="FILE", help="also write every number there")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="the blend file, e.g. infer/blend.json")
    verb.set_defaults(run=verbs.run_blend)

    verb = commands.add_parser(
        "views",
        help="what further views of each recording are worth",
        description=(
            "Predict the held-out rows of a run again, mirrored or a little later as the kernel would see them, and "
            "give the KL of each view and of their means with paired 95 % intervals over patients. "
            "Example: python -m train views runs/kaggle-b2 --competition data/hms --views mirror +4"
        ),
    )
    verb.add_argument("run_folder", type=Path, metavar="RUN", help="a run folder with finished folds")
    verb.add_argument("--competition", type=Path, required=True, metavar="DIR", help="folder with train.csv")
    verb.add_argument("--views", type=view_of, nargs="+", required=True, metavar="VIEW", help="as in `blend`")
    verb.add_argument("--store", type=Path, metavar="STORE", help="where the recordings are (default: DIR/store)")
    verb.add_argument("--json", type=Path, metavar="FILE", help="also write every number there")
    verb.add_argument("--out", type=Path, metavar="PARQUET", help="also the means over all views, to blend them")
    verb.set_defaults(run=verbs.run_views)

    verb = commands.add_parser(
        "report",
        help="one page of everything that is known of runs and their blend",
        description=(
            "Write one HTML file that opens offline: what score to expect, beside prior and floor; training curves; KL "
            "by class, votes, patient and fold; confusion, reliability, blend, differences; the worst and best "
            "recordings. Example: python -m train report runs/* infer/blend.json --out report.html"
        ),
    )
    verb.add_argument(
        "sources", type=Path, nargs="+", metavar="RUN_OR_BLEND", help="run folders, and one blend file of them"
    )
    verb.add_argument("--out", type=Path, required=True, metavar="HTML", help="the page to write, e.g. report.html")
    verb.add_argument("--competition", type=Path, metavar="DIR", help="folder with train_eegs: draws the recordings")
    verb.add_argument(
        "--truth", type=Path, metavar="CSV", help="a simulation's truth/train_probabilities.csv: adds the floor"
    )
    verb.add_argument("--doctor", type=Path, metavar="JSON", help="what `doctor --json` wrote: adds data quality")
    verb.add_argument("--ledger", type=Path, metavar="CSV", help="of kernels/publish.py: adds the submissions")
    verb.set_defaults(run=verbs.run_report)

    verb = commands.add_parser(
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
    verb.set_defaults(run=verbs.run_export)
