"""The verbs of `python -m train`: a function each. Its signature is what may be typed, its docstring the help.

Bodies import what they need when they run, so that --help waits for nothing.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter, Token, validators

from common.command_line import Count, Help, Whole, application
from train.engine.options import RunOptions, Store

app = application("python -m train", "From a competition folder to weights and a blend.")

# ---- what several verbs take


def folds_of(_: Any, tokens: list[Token]) -> int | Path:
    """How many folds, or a file with a table of them."""
    text = tokens[0].value
    if text.isdecimal() and int(text) >= 2:
        return int(text)
    if not Path(text).is_file():
        raise ValueError(f"{text} is neither a whole number from 2 nor a file")
    return Path(text)


def view_of(text: str) -> Any:
    """A View from mirror, +4 or mirror-4: mirrored, so many seconds later, or both. Raises ValueError."""
    from common.tta import View

    found = re.fullmatch(r"(mirror)? ?([+-]\d+(?:\.\d+)?)?(?: s)?", text)
    try:
        return View(mirror=bool(found[1]), shift=float(found[2] or 0))
    except (TypeError, ValueError):
        raise ValueError(f"{text} is no view: mirror, +4, mirror-4; even seconds up to 20") from None


def check_views(_: Any, texts: tuple[str, ...]) -> None:
    for text in texts:
        view_of(text)


Competition = Annotated[Path, Help("folder with train.csv")]
Runs = Annotated[list[Path], Help("run folders")]
Truth = Annotated[Path | None, Help("a simulation's truth/train_probabilities.csv: adds the Bayes floor")]
Json = Annotated[Path | None, Help("also write every number there")]
Folds = Annotated[int | Path, Parameter(converter=folds_of, n_tokens=1, help="how many, or a table of them")]
Views = Annotated[tuple[str, ...], Parameter(name=("--tta", "--views"), validator=check_views)]
DEFAULTS = RunOptions()
OneOf = Parameter(group=Group("One of", validator=validators.mutually_exclusive))


def save_json(file: Path | None, values: dict[str, Any]) -> None:
    from common.files import write_json

    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, values)
        print(f"wrote {file}")


# ---- data


@app.command
def simulate(
    directory: Annotated[Path, Help("folder to write; must not hold anything else")],
    /,
    *,
    patients: Annotated[Whole, Help("how many; a quarter of them are the hidden test")],
    seed: Annotated[Whole, Help("any whole number from 0")],
) -> None:
    """Make an HMS-shaped competition with known truth.

    Writes simulated EEG, spectrograms and votes to DIRECTORY, and the answers of its hidden test to DIRECTORY/truth.
    The same seed gives the same files.

    Example: python -m train simulate demo/competition --patients 60 --seed 1
    """
    from train.simulate.files import simulate_competition

    simulate_competition(directory, patients, seed)


@app.command
def store(
    *,
    competition: Competition,
    store: Store = None,
    workers: Annotated[Count | None, Help("threads that read (default: 4)")] = None,
) -> None:
    """Write the recordings as flat arrays that training reads.

    Two float32 arrays with an index. Recordings whose files did not change are not read again. `run` does this by
    itself for the recordings its input looks at.

    Example: python -m train store --competition data/hms
    """
    from common.parallel import READERS
    from train.data.labels import label_rows
    from train.data.recording_kinds import RECORDING_KINDS
    from train.data.store_build import STORE, gibibytes, open_store, values_file
    from train.data.windows import check_first_files

    place, rows = store or competition / STORE, label_rows(competition)
    for kind in RECORDING_KINDS:
        check_first_files(kind, competition, rows)
    for kind in RECORDING_KINDS:
        values, entries = open_store(kind, competition, place, rows[kind.column], workers or READERS)
        print(f"{values_file(place, kind)}: {len(entries)} recordings, {gibibytes(values.nbytes)}")


@app.command
def doctor(
    *,
    competition: Annotated[Competition, Parameter(validator=validators.Path(exists=True, file_okay=False))],
    json: Json = None,
    workers: Annotated[Count | None, Help("threads that read (default: two a core)")] = None,
    folds: Annotated[Folds, OneOf] = 5,
    test_only: Annotated[bool, OneOf, Help("the test set alone: there is no train.csv")] = False,
) -> None:
    """Say whether the data is sound: files, labels, folds.

    Reads every recording once and says what is missing, damaged, flat, doubled or contradictory, how bad that is and
    what to do. Ends with 0 when training can start, with 1 when not.

    Example: python -m train doctor --competition data/hms --json doctor.json
    """
    from train.doctor.check import doctor as examine
    from train.doctor.findings import DoctorError
    from train.doctor.text import as_text

    if json:
        json.parent.mkdir(parents=True, exist_ok=True)  # a place that cannot be is named before the work
    report = examine(competition, folds, workers, test_only)
    print(as_text(report))
    save_json(json, report.as_values())
    if not report.can_start:
        raise DoctorError(f"{'predicting' if report.test_only else 'training'} cannot start on {competition}")


@app.command
def folds(
    *,
    competition: Competition,
    out: Annotated[Path, Help("the table to write, e.g. folds.csv")],
    published: Annotated[bool, Help("the seed repository's folds, hardly stratified")] = False,
    folds: Annotated[Whole, Help("how many, from 2")] = 5,
) -> None:
    """Write a table of the folds, patient by patient.

    patient_id and fold of every patient of train.csv, stratified by consensus, or with --published as in the seed
    repository, to compare with its scores.

    Example: python -m train folds --competition data/hms --out folds.csv --published
    """
    from train.data.folds import make_folds, write_folds
    from train.data.published_folds import published_folds

    write_folds(competition, out, published_folds if published else make_folds, folds)


@app.command
def show(
    eeg_ids: Annotated[list[Whole], Help("eeg_id of train.csv or test.csv")],
    /,
    *,
    competition: Annotated[Path, Help("folder with train.csv or test.csv")],
    split: Annotated[Literal["train", "test"] | None, Help("look only there (default: train, then test)")] = None,
    label: Annotated[Whole | None, Help("label_id of its window (default: the one with most votes)")] = None,
    config: Annotated[tuple[Path, ...], Help("TOML files (default: those of --runs, or all of train/configs)")] = (),
    runs: Annotated[tuple[Path, ...], Help("run folders: adds their out-of-fold predictions")] = (),
    augmented: Annotated[bool, Help("also what training makes of the window, beside others of its class")] = False,
    out: Annotated[Path, Help("where the pictures go")] = Path("shown"),
) -> None:
    """Draw EEGs and what models see of them.

    Writes OUT/EEG_ID-eeg.png (the 50 s in double banana, spectrograms, votes), -inputs.png (each config's input with
    its axes) and with --augmented -augmented.png.

    Example: python -m train show 1234567 --competition data/hms
    """
    from train.plots.show import show as draw

    draw(eeg_ids, competition, out, split, list(config), list(runs), label, augmented)


# ---- training


@app.command
def experiments(
    *,
    runs: Annotated[Path | None, Help("folder of run folders: adds their results")] = None,
    truth: Truth = None,
    markdown: Annotated[bool, Help("as a table of markdown, as in docs/experiments.md")] = False,
) -> None:
    """List all configs: what was published of them, and local results.

    A line for each config of train/configs and each published ensemble of train/blends: input, model, loss,
    augmentation, epochs, published scores, and out-of-fold KL of its run beside the class prior.

    Example: python -m train experiments --runs runs
    """
    from train.experiments.table import as_markdown, as_text, other_runs, table_of

    table = table_of(runs, truth)
    print(as_markdown(table) if markdown else as_text(table))
    if runs and (others := other_runs(runs, table)):
        print(f"runs of configs that are not in train/configs (see evaluate): {', '.join(others)}")


@app.command
def run(
    config: Annotated[Path, Help("a TOML file, e.g. from train/configs")],
    /,
    *,
    competition: Competition,
    out: Annotated[Path, Help("where run folders go")],
    as_published: Annotated[bool, Help("bring back the faults of the published run")] = False,
    options: RunOptions = DEFAULTS,
) -> None:
    """Train the folds of one experiment.

    Writes OUT/<config name>/ with weights, epochs and out-of-fold predictions. Ended at any moment, the same command
    with --resume goes on.

    Example: python -m train run train/configs/kaggle-b2.toml --competition data/hms --out runs
    """
    from train.engine.published import as_published as with_faults
    from train.engine.run import run_experiment
    from train.experiment import load_experiment

    experiment = load_experiment(config)
    folder = run_experiment(with_faults(experiment) if as_published else experiment, competition, out, options)
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"wrote {folder}; see how it did: python -m train evaluate {folder}")


@app.command
def measure(
    configs: Annotated[list[Path], Help("TOML files, e.g. from train/configs")],
    /,
    *,
    steps: Annotated[Count, Help("measured of each kind")] = 5,
    batch_size: Annotated[Count | None, Help("instead of the configs' own, to save memory or time")] = None,
    json: Json = None,
    markdown: Annotated[bool, Help("as a table of markdown, as in docs/real-data.md")] = False,
) -> None:
    """Measure what configs cost here: seconds a step, memory, hours.

    Times some steps of each config's training, each in a process of its own, on noise that lies on the device (no
    competition is needed), and extrapolates to all folds of the competition.

    Example: python -m train measure train/configs/kaggle-b2.toml train/configs/kaggle-ast.toml --steps 20
    """
    from common.errors import KitError
    from train.experiments.cost import as_text, as_values, measure_costs

    costs, failed = measure_costs(configs, steps, batch_size)
    if costs:
        print(as_text(costs, markdown))
    save_json(json, as_values(costs))
    if failed:
        raise KitError(f"{len(failed)} of {len(configs)} configs were not measured: {', '.join(failed)}")


# ---- judging


@app.command
def evaluate(runs: Runs, /, *, truth: Truth = None, json: Json = None) -> None:
    """Score runs out of fold, beside prior and uniform.

    KL of each run's predictions, last and best epoch apart: on all label rows, on those with at least 10 votes (with a
    95 % interval over patients), on one row per EEG, by class and by fold; of several runs of the same competition also
    how far each is from the first.

    Example: python -m train evaluate runs/kaggle-b2 runs/wave-bipolar
    """
    from train.evaluate.runs import as_values
    from train.evaluate.runs import evaluate as score
    from train.evaluate.text import as_text

    evaluation = score(runs, truth)
    print(as_text(evaluation))
    save_json(json, as_values(evaluation))


@app.command
def blend(
    sources: Annotated[list[Path], Help("run folders or parquet files")],
    /,
    *,
    out: Annotated[Path, Help("the blend file, e.g. infer/blend.json")],
    labels: Annotated[Path | None, Help("votes and folds of parquet files without, matched by their ids")] = None,
    group: Annotated[str | None, Help("column that crosses no fold (default: patient_id, else eeg_id)")] = None,
    tta: Annotated[Views, Help("what the kernel also looks at, time allowing: mirror, +4 (s later), mirror-4")] = (),
    hours: Annotated[float | None, Help("what a run of the kernel may take (default: 8.5)")] = None,
    json: Json = None,
) -> None:
    """Combine models: five ways, and the simplest that is as good as the best.

    Fits plain mean, geometric mean, convex weights, log-linear weights and a small stacker on rows with at least 10
    votes, scores each nested with a 95 % interval over patients, and writes the simplest one that the noise does not
    tell from the best.

    Example: python -m train blend runs/kaggle-b2 runs/wave-bipolar --out infer/blend.json
    """
    from common.files import write_text
    from train.blend.diagnostics import diagnose
    from train.blend.out_of_fold import read_out_of_fold
    from train.blend.select import fit_blend
    from train.blend.text import as_text
    from train.engine.run_folder import CONFIG, read_run

    oof = read_out_of_fold(sources, labels, group)
    fitted = fit_blend(oof, tuple(map(view_of, tta)), hours)
    diagnostics = diagnose(fitted)
    runs = [read_run(source) for source in sources if (source / CONFIG).is_file()]
    diagnostics["warnings"] += [
        f"{run.name}: best epoch, chosen on the fold that scores it: all scores of it are optimistic"
        for run in runs
        if run.training.checkpoint == "best"
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, fitted.blend.model_dump_json(indent=1, exclude_none=True) + "\n")
    print(as_text(diagnostics, fitted.blend))
    print(f"wrote {out}")
    save_json(json, diagnostics)


def tta(
    run: Annotated[Path, Help("a run folder with finished folds")],
    /,
    *,
    competition: Competition,
    tta: Annotated[Views, Help("as in `blend`")],
    store: Store = None,
    json: Json = None,
    out: Annotated[Path | None, Help("a parquet file: also the means over all views, to blend them")] = None,
) -> None:
    """Say what test-time augmentation (TTA) is worth.

    Predicts the held-out rows of a run again, mirrored or a little later as the kernel would see them, and gives the
    KL of each view and of their means with paired 95 % intervals over patients.

    Example: python -m train tta runs/kaggle-b2 --competition data/hms --tta mirror +4
    """
    from common.tta import PLAIN
    from train.engine.checkpoint import write_whole
    from train.evaluate.tta import as_oof, as_text, predict_tta, tta_worth

    views = (PLAIN, *(view for view in dict.fromkeys(map(view_of, tta)) if view != PLAIN))
    rows, predictions = predict_tta(run, views, competition, store, only_many=out is None)
    worth = tta_worth(run, views, rows, predictions)
    print(as_text(worth))
    save_json(json, worth)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, as_oof(rows, predictions).write_parquet)
        print(f"wrote {out}")


app.command(tta)
app.command(tta, name="views", show=False)  # its former name


@app.command
def report(
    sources: Annotated[list[Path], Help("run folders, and one blend file of them")],
    /,
    *,
    out: Annotated[Path, Help("the page to write, e.g. report.html")],
    competition: Annotated[Path | None, Help("folder with train_eegs: draws the recordings")] = None,
    truth: Truth = None,
    doctor: Annotated[Path | None, Help("what `doctor --json` wrote: adds data quality")] = None,
    ledger: Annotated[Path | None, Help("the csv of kernels/publish.py: adds the submissions")] = None,
) -> None:
    """Write one page of everything that is known of runs and their blend.

    One HTML file that opens offline: what score to expect, beside prior and Bayes floor; training curves; KL by class,
    votes, patient and fold; confusion, reliability, blend, differences; the worst and best recordings.

    Example: python -m train report runs/kaggle-b2 infer/blend.json --out report.html
    """
    from train.report.page import write_report

    write_report(sources, out, competition, truth, doctor, ledger)
    print(f"wrote {out}; it opens in any browser, without network")


@app.command
def export(runs: Runs, /, *, out: Annotated[Path, Help("where dataset folders go")]) -> None:
    """Write runs as Kaggle dataset folders.

    OUT/hms-<name>/ per run: config.json, fold0.safetensors ..., manifest.json with checksums and scores,
    dataset-metadata.json. Publish them with `kaggle datasets create -p OUT/hms-<name>`.

    Example: python -m train export runs/kaggle-b2 --out weights
    """
    from train.export import export as export_run

    for run in runs:
        print(f"wrote {export_run(run, out)}")
