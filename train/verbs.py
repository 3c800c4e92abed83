"""What each verb of `python -m train` does; a verb imports what it needs when it runs."""

import argparse
import os
import sys
from pathlib import Path


def run_simulate(arguments: argparse.Namespace) -> None:
    from train.simulate.files import simulate_competition

    simulate_competition(arguments.directory, arguments.patients, arguments.seed)


def run_store(arguments: argparse.Namespace) -> None:
    from train.labels import label_rows
    from train.store_build import gibibytes, hold_half
    from train.store_index import HALVES, STORE, end_of, values_file
    from train.windows import check_first_files

    store = arguments.store or arguments.competition / STORE
    rows = label_rows(arguments.competition)
    for half in HALVES:
        check_first_files(half, arguments.competition, rows)
    for half in HALVES:
        lock, entries = hold_half(half, arguments.competition, store, rows[half.column], arguments.workers)
        lock.close()
        size = gibibytes(end_of(entries.values(), half))
        print(f"{values_file(store, half)}: {len(entries)} recordings, {size}")


def run_doctor(arguments: argparse.Namespace) -> None:
    from train.doctor import doctor
    from train.doctor_findings import DoctorError
    from train.doctor_text import as_text
    from train.run_folder import write_json

    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)  # a place that cannot be is named before the work
    report = doctor(arguments.competition, arguments.folds, arguments.workers, arguments.test_only)
    print(as_text(report))
    if arguments.json:
        write_json(arguments.json, report.as_values())
        print(f"wrote {arguments.json}")
    if not report.can_start:
        raise DoctorError(f"{'predicting' if report.test_only else 'training'} cannot start on {arguments.competition}")


def run_folds(arguments: argparse.Namespace) -> None:
    from train.folds import write_folds

    write_folds(arguments.competition, arguments.out, arguments.published, arguments.folds)


def run_train(arguments: argparse.Namespace) -> None:
    from common.config import load_experiment
    from train.published import as_published
    from train.run import RunOptions, run_experiment

    experiment = load_experiment(arguments.config)
    if arguments.as_published:
        experiment = as_published(experiment)
    options = RunOptions(
        folds=arguments.folds,
        seeds=arguments.seeds,
        resume=arguments.resume,
        pretrained=arguments.pretrained,
        store=arguments.store,
        store_on_gpu=arguments.store_on_gpu,
        fold_table=arguments.fold_table,
        pseudo=arguments.pseudo,
        tensorboard=arguments.tensorboard,
        one_fold_a_process=arguments.spread == "folds",
    )
    run = run_experiment(experiment, arguments.competition, arguments.out, options)
    if int(os.environ.get("RANK", "0")) == 0:
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


def run_experiments(arguments: argparse.Namespace) -> None:
    from train.experiments import as_markdown, as_text, other_runs, table_of

    table = table_of(arguments.runs, arguments.truth)
    print(as_markdown(table) if arguments.markdown else as_text(table))
    if arguments.runs and (others := other_runs(arguments.runs, table)):
        print(f"runs of configs that are not in train/configs (see evaluate): {', '.join(others)}")


def run_measure(arguments: argparse.Namespace) -> None:
    from train.cost import as_markdown, as_text, as_values, measure_costs
    from train.measure import MeasureError
    from train.run_folder import write_json

    costs, failed = measure_costs(arguments.configs, arguments.steps, arguments.batch_size)
    if costs:
        print(as_markdown(costs) if arguments.markdown else as_text(costs))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, as_values(costs))
        print(f"wrote {arguments.json}", file=sys.stderr)
    if failed:
        raise MeasureError(f"{len(failed)} of {len(arguments.configs)} configs were not measured: {', '.join(failed)}")


def run_evaluate(arguments: argparse.Namespace) -> None:
    from train.evaluate.runs import as_values, evaluate
    from train.evaluate.text import as_text
    from train.run_folder import write_json

    evaluation = evaluate(arguments.runs, arguments.truth)
    print(as_text(evaluation))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, as_values(evaluation))
        print(f"wrote {arguments.json}")


def run_blend(arguments: argparse.Namespace) -> None:
    from common.files import write_via
    from train.blend.diagnostics import diagnose
    from train.blend.out_of_fold import read_out_of_fold
    from train.blend.select import fit_blend
    from train.blend.text import as_text
    from train.run_folder import write_json

    oof = read_out_of_fold(arguments.sources, arguments.labels, arguments.group)
    fitted = fit_blend(oof, tuple(arguments.views), arguments.hours)
    found = diagnose(fitted)
    found["warnings"] += [
        f"{name}: best epoch, chosen on the fold that scores it: all scores of it are optimistic"
        for name in chosen_on_the_fold(arguments.sources)
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = fitted.blend.model_dump_json(indent=1, exclude_none=True) + "\n"
    write_via(arguments.out, lambda path: path.write_text(text, encoding="utf-8"))
    print(as_text(found, fitted.blend))
    print(f"wrote {arguments.out}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, found)
        print(f"wrote {arguments.json}")


def run_views(arguments: argparse.Namespace) -> None:
    from common.tta import PLAIN
    from train.evaluate.tta import as_oof, as_text, predict_tta, tta_worth
    from train.run_folder import write_json
    from train.stages import write_whole

    views = (PLAIN, *(view for view in dict.fromkeys(arguments.views) if view != PLAIN))
    run, only_many = arguments.run_folder, arguments.out is None
    rows, predictions = predict_tta(run, views, arguments.competition, arguments.store, only_many)
    worth = tta_worth(run, views, rows, predictions)
    print(as_text(worth))
    for file, write in ((arguments.json, write_json), (arguments.out, None)):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            write(file, worth) if write else write_whole(file, as_oof(rows, predictions).write_parquet)
            print(f"wrote {file}")


def chosen_on_the_fold(sources: list[Path]) -> list[str]:
    """Those run folders whose predictions are of their best epoch."""
    from train.run_folder import CONFIG, read_run

    runs = [read_run(source) for source in sources if (source / CONFIG).is_file()]
    return [run.name for run in runs if run.training.checkpoint == "best"]


def run_report(arguments: argparse.Namespace) -> None:
    from train.report import Sources, write_report

    given = arguments.competition, arguments.truth, arguments.doctor, arguments.ledger
    write_report(Sources(arguments.sources, *given), arguments.out)
    print(f"wrote {arguments.out}; it opens in any browser, without network")


def run_export(arguments: argparse.Namespace) -> None:
    from train.export import export

    for run in arguments.runs:
        print(f"wrote {export(run, arguments.out)}")
