"""The commands as a user meets them: help, examples that work, errors in one line without a traceback."""

import argparse
import re
import shlex
import shutil
import sys

import polars as pl
import pytest
from conftest import PROJECT, command

import infer.__main__
import train.__main__

MAINS = {"train": train.__main__, "infer": infer.__main__}
VERBS = [
    *(("train", verb) for verb in ("simulate", "store", "doctor", "folds", "show", "experiments", "run", "measure")),
    *(("train", verb) for verb in ("evaluate", "blend", "views", "report", "export")),
    *(("infer", verb) for verb in ("submit", "validate", "score")),
]
EXAMPLE = re.compile(r"Example: python -m (\w+) (.+)$")


def parsers(room):
    """Verb -> its parser."""
    top = MAINS[room].parser()
    return next(a.choices for a in top._actions if isinstance(a, argparse._SubParsersAction))


def test_these_are_all_verbs():
    assert [(room, verb) for room in MAINS for verb in parsers(room)] == VERBS


@pytest.mark.parametrize(("room", "verb"), VERBS)
def test_help_says_what_to_give(room, verb, capsys):
    with pytest.raises(SystemExit) as end:
        MAINS[room].parser().parse_args([verb, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: python -m {room} {verb}" in shown and len(parsers(room)[verb].description) > 60
    for action in parsers(room)[verb]._actions:
        assert action.help, f"{action.dest} is not explained"


@pytest.mark.parametrize(("room", "verb"), VERBS)
def test_the_example_in_the_help_can_be_typed(room, verb, tmp_path, monkeypatch):
    (tmp_path / "data" / "hms").mkdir(parents=True)  # what some verbs look for at once
    monkeypatch.chdir(tmp_path)
    found = EXAMPLE.search(parsers(room)[verb].description)
    if verb in ("simulate", "run", "blend", "submit"):  # the others take little more than folders
        assert found
    if found:
        assert found[1] == room and found[2].startswith(verb + " ")
        MAINS[room].parser().parse_args(shlex.split(found[2]))


@pytest.mark.parametrize("room", MAINS)
def test_help_of_a_room_lists_its_verbs(room, capsys):
    with pytest.raises(SystemExit) as end:
        MAINS[room].parser().parse_args(["--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0 and all(re.search(rf"(?m)^ +{verb}\s+\w", shown) for verb in parsers(room))


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("-m", "train", "--help"), ("simulate", "evaluate", "export")),
        (("kernels/build.py", "--help"), ("examples:", "python kernels/build.py --check")),
        (("kernels/sandbox.py", "--help"), ("example:", "--datasets demo/weights/hms-")),
    ],
    ids=lambda value: value[0].removeprefix("kernels/") if "--help" in value else "",
)
def test_help_of_the_programs(words, shown):
    done = command(*words)
    assert done.returncode == 0 and done.stderr == ""
    assert all(text in done.stdout for text in shown)


@pytest.fixture
def say(monkeypatch, capsys):
    """Runs a command in this process, which already holds torch; gives exit code, output, errors."""

    def run(room, *words):
        monkeypatch.setattr(sys, "argv", [room, *map(str, words)])
        capsys.readouterr()
        code = MAINS[room].main()
        return code, *capsys.readouterr()

    return run


def assert_error(outcome, *texts):
    """One error, which says these texts. (A traceback would be an exception in this process.)"""
    code, _, errors = outcome
    assert code == 1
    assert len(re.findall(r"(?m)^error: ", errors)) == 1 and "Traceback" not in errors
    message = errors[errors.index("error: ") :]
    assert all(text in message for text in texts), message


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text('[model]\nkind = "spectrogram-cnn"\nbackbone = "test_convnext"\npretrained = false\n')
    return path


def test_run_without_a_competition(say, config, tmp_path):
    outcome = say("train", "run", config, "--competition", tmp_path / "nowhere", "--out", tmp_path / "runs")
    assert_error(outcome, "nowhere/train.csv: cannot be read")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("wrong", "texts"),
    [
        ('bakbone = "b0"\n', ("tiny.toml", "model.spectrogram-cnn.bakbone", "did you mean 'backbone'?")),
        ("backbone = \n", ("tiny.toml", "line 5")),
        ("[train]\nfolds = 2\n", ("tiny.toml", "train: unknown key; did you mean 'training'?")),
        ("[training]\nfolds = 1\n", ("tiny.toml", "training.folds", "greater than or equal to 2")),
        ('[input]\nkind = "bipolar-sequence"\n', ("tiny.toml", "goes with model wave-net or")),
    ],
    ids=["key", "syntax", "table", "value", "pair"],
)
def test_run_with_a_mistake_in_the_config(say, road, config, tmp_path, wrong, texts):
    config.write_text(config.read_text() + wrong)
    outcome = say("train", "run", config, "--competition", road.competition, "--out", tmp_path / "runs")
    assert_error(outcome, *texts)
    assert not (tmp_path / "runs").exists()


def test_run_with_an_unknown_backbone(say, road, config, tmp_path):
    config.write_text(config.read_text().replace("test_convnext", "test_convnxt") + "[training]\nfolds = 2\n")
    outcome = say("train", "run", config, "--competition", road.competition, "--out", tmp_path / "runs")
    assert_error(outcome, "timm has no model named 'test_convnxt'", "test_convnext")


def test_run_with_an_unknown_config(say, road, tmp_path):
    outcome = say("train", "run", tmp_path / "no.toml", "--competition", road.competition, "--out", tmp_path)
    assert_error(outcome, "no.toml", "No such file")


@pytest.mark.parametrize("folds", ["2", "0,7", "one", "", "-1"])
def test_run_with_an_unknown_fold(say, road, tmp_path, folds):
    words = ("--competition", road.competition, "--out", tmp_path / "runs", f"--folds={folds}")
    outcome = say("train", "run", road.folder / "tiny-wave.toml", *words)
    assert_error(outcome, f"--folds {folds}: expected 'all', 'full', 'pairs' or numbers from 0 to 1")
    assert not (tmp_path / "runs").exists()


def test_run_into_a_folder_that_exists(say, road, tmp_path):
    shutil.copytree(road.runs[1], tmp_path / "tiny-wave")
    words = (road.folder / "tiny-wave.toml", "--competition", road.competition, "--out", tmp_path)
    assert_error(say("train", "run", *words), "tiny-wave exists", "--resume")
    assert say("train", "run", *words, "--resume")[0] == 0  # all folds are finished


@pytest.mark.parametrize("verb", ["evaluate", "export", "blend"])
@pytest.mark.parametrize("state", ["missing", "unfinished"])
def test_a_run_that_is_not_finished(say, road, tmp_path, verb, state):
    run = tmp_path / "tiny-wave"
    if state == "unfinished":
        run.mkdir()
        shutil.copyfile(road.runs[1] / "config.json", run / "config.json")
    out = {"evaluate": (), "export": ("--out", tmp_path / "w"), "blend": ("--out", tmp_path / "b.json")}[verb]
    assert_error(say("train", verb, run, *out), "tiny-wave", "run")
    assert not (tmp_path / "w").exists() and not (tmp_path / "b.json").exists()


def test_blend_of_the_same_run_twice(say, road, tmp_path):
    outcome = say("train", "blend", road.runs[0], road.runs[0], "--out", tmp_path / "b.json")
    assert_error(outcome, "the same model twice: tiny-image")


def test_evaluate_shows_runs_beside_prior_and_uniform(say, road):
    code, shown, _ = say("train", "evaluate", *road.runs)
    assert code == 0
    assert all(text in shown for text in ("tiny-image (last epoch)", "tiny-wave (last epoch)", "prior", "uniform"))


def test_simulate_into_a_folder_with_other_things(say, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert_error(say("train", "simulate", tmp_path, "--patients", "6", "--seed", "0"), "is no simulation")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_simulate_too_few_patients(say, tmp_path):
    assert_error(say("train", "simulate", tmp_path / "new", "--patients", "2", "--seed", "0"), "4 or more")


def submit(say, road, tmp_path, **changed):
    words = {"competition": road.competition, "weights": road.weights, "blend": road.blend_file} | changed
    given = [word for name, value in words.items() for word in (f"--{name}", value)]
    return say("infer", "submit", *given, "--out", tmp_path / "out.csv")


def test_submit_with_something_missing(say, road, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_error(submit(say, road, tmp_path, competition=tmp_path / "empty"), "empty/test.csv: no such file")
    assert_error(submit(say, road, tmp_path, weights=tmp_path / "empty"), "empty: no manifest.json", "train export")
    assert_error(submit(say, road, tmp_path, weights=tmp_path / "nowhere"), "nowhere: no manifest.json")
    assert_error(submit(say, road, tmp_path, blend=tmp_path / "no.json"), "no.json", "train blend")
    assert_error(submit(say, road, tmp_path, weights=road.datasets[0]), "the blend wants tiny-wave", "--blend")
    (tmp_path / "bad.json").write_text('{"models": {"tiny-wave": 0.5}, "prior": [1]}')
    assert_error(submit(say, road, tmp_path, blend=tmp_path / "bad.json"), "bad.json", "prior must be 6 shares")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("content", ["spectrogram_id,eeg_id,patient_id\n", ""], ids=["header only", "no bytes"])
def test_submit_for_an_empty_test_table(say, road, competition, tmp_path, content):
    (competition / "test.csv").write_text(content)
    code, shown, errors = submit(say, road, tmp_path, competition=competition)
    assert (code, "0 rows, valid" in shown) == (0, True), errors


def test_validate_and_score_exit_with_every_reason(say, road, tmp_path):
    solution, out = road.competition / "truth" / "solution.csv", tmp_path / "out.csv"
    pl.read_csv(solution).with_columns(lpd_vote=pl.lit(2.0), eeg_id=pl.col("eeg_id") + 1).write_csv(out)
    outcome = say("infer", "validate", out, "--competition", road.competition)
    assert_error(outcome, "rows missing", "too many or unknown", "above 1", "do not sum to 1")
    assert_error(say("infer", "score", out, solution), "cannot be scored", "rows missing")
    code, shown, _ = say("infer", "score", solution, solution)
    assert (code, shown) == (0, f"KL 0.000000 over {pl.read_csv(solution).height} rows\n")


@pytest.mark.parametrize("room", MAINS)
@pytest.mark.parametrize("words", [(), ("fly",), ("submit",), ("run",), ("score", "a.csv")], ids=str)
def test_wrong_usage(say, capsys, room, words):
    with pytest.raises(SystemExit) as end:
        say(room, *words)
    assert end.value.code == 2
    assert len(re.findall(r"error: ", capsys.readouterr().err)) == 1


def test_an_error_of_a_real_process_has_no_traceback(tmp_path):
    done = command("-m", "infer", "validate", tmp_path / "no.csv", "--competition", tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: no.csv: not a readable csv") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", ["--weights A B", "--weights A --weights B"])
def test_weights_in_one_option_or_in_several(words):
    given = ["submit", "--competition", "C", "--out", "o.csv", *words.split()]
    assert [str(path) for path in infer.__main__.parser().parse_args(given).weights] == ["A", "B"]


def test_the_default_blend_is_the_one_of_the_kernel():
    arguments = infer.__main__.parser().parse_args(["submit", "--competition", "C", "--weights", "W", "--out", "o"])
    assert arguments.blend == PROJECT / "infer" / "blend.json" and arguments.blend.is_file()


def test_train_says_how_threads_wait_before_torch_is_loaded():
    probe = (
        "import os, sys; os.environ.pop('OMP_WAIT_POLICY', None); from train import __main__, verbs; "
        "verbs.run_folds = lambda _: print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY']); "
        "sys.argv = ['train', 'folds', '--competition', 'x', '--out', 'y']; __main__.main()"
    )
    assert command("-c", probe).stdout == "False passive\n"
