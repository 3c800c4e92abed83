"""The commands as a user meets them: help, examples that work, errors in one or two lines without a traceback."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import PROJECT, command

import infer.__main__
import train.__main__
from common.command_line import parse

MAINS = {"train": train.__main__, "infer": infer.__main__}
VERBS = [
    *(("train", verb) for verb in ("simulate", "store", "doctor", "folds", "show", "experiments", "run", "measure")),
    *(("train", verb) for verb in ("evaluate", "blend", "tta", "report", "export")),
    *(("infer", verb) for verb in ("submit", "validate", "score")),
]


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Help is as wide as the terminal, at most 120."""
    monkeypatch.setenv("COLUMNS", "120")


def asked(room, *words):
    """What the words ask for, by the names of the verb's parameters."""
    return parse(MAINS[room].app, words).keywords


def help_of(capsys, room, *verb):
    parse(MAINS[room].app, [*verb, "--help"])()
    return capsys.readouterr().out


# ---- help


@pytest.mark.parametrize("room", MAINS)
def test_help_of_a_room_lists_its_verbs(room, capsys):
    shown = help_of(capsys, room)
    listed = re.findall(r"(?m)^  ([a-z]+)  +[A-Z].+\.$", shown)
    assert sorted(listed) == sorted(verb for place, verb in VERBS if place == room)


@pytest.mark.parametrize(("room", "verb"), VERBS)
def test_help_says_what_to_give_and_its_example_can_be_typed(room, verb, capsys, tmp_path, monkeypatch):
    (tmp_path / "data" / "hms").mkdir(parents=True)  # what some verbs look for at once
    monkeypatch.chdir(tmp_path)
    shown = help_of(capsys, room, verb)
    assert shown.startswith(f"usage: python -m {room} {verb} ")
    assert shown.isascii() and "\x1b" not in shown and max(map(len, shown.splitlines())) <= 120
    example = re.search(rf"(?m)^Example: python -m {room} ({verb} .+)$", shown)
    parse(MAINS[room].app, shlex.split(example[1]))
    options = re.findall(r"(?m)^  (-.+|[A-Z_]+  .+)$", shown)
    assert options and all(re.search(r"\S  +\S", line) for line in options), "an option is not explained"


def test_no_help_waits_for_torch():
    probe = (
        "import sys, train.cli, infer.__main__; from common.command_line import parse; "
        f"rooms = dict(train=train.cli, infer=infer.__main__); "
        f"[parse(rooms[room].app, [verb, '--help'])() for room, verb in {VERBS}]; "
        "print({'torch', 'numpy', 'polars', 'pydantic'} & {*sys.modules})"
    )
    done = command("-c", probe)
    assert done.stdout.endswith("\nset()\n"), done.stderr


# ---- what is typed


@pytest.mark.parametrize("name", ['["b", "c"]', '{"d": 1}', "# e", "%f", "--g", "-h", "für i", "~", "k=l", "C:\\m"])
def test_paths_arrive_as_they_are(name):
    found = asked("train", "export", f"--out={name}", "--", name, "x")
    assert found["out"] == Path(name)
    assert parse(train.__main__.app, ["export", f"--out={name}", "--", name, "x"]).args == ([Path(name), Path("x")],)


def test_options_of_several_words():
    given = ["submit", "--competition", "C", "--out", "o.csv"]
    for words in ("--weights A B", "--weights A --weights B"):
        assert asked("infer", *given, *words.split())["weights"] == [Path("A"), Path("B")]
    blend = ["blend", "r", "s", "--out", "o"]
    for words in ("--tta mirror -4 +2", "--views mirror -4 +2", "--views mirror --tta -4 +2"):
        assert asked("train", *blend, *words.split())["tta"] == ("mirror", "-4", "+2")
    show = parse(train.__main__.app, ["show", "--runs", "A", "B", "--competition", "C", "1", "2"])
    assert show.args == ([1, 2],) and show.keywords["runs"] == (Path("A"), Path("B"))


def test_tta_answers_to_its_former_name():
    words = ["runs/a", "--competition", "C", "--views", "mirror"]
    new, old = (parse(train.__main__.app, [verb, *words]) for verb in ("tta", "views"))
    assert (new.func, new.args, new.keywords) == (old.func, old.args, old.keywords)


def test_the_default_blend_is_the_one_of_the_kernel():
    assert infer.__main__.DEFAULT_BLEND == PROJECT / "infer" / "blend.json" and infer.__main__.DEFAULT_BLEND.is_file()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("train", "A verb is missing: one of simulate, store,"),
        ("infer", "A verb is missing: one of submit, validate, score."),
        ("train exprot", 'Did you mean "export"?'),
        ("infer run", 'Unknown command "run"'),
        ("infer submit", "--competition requires an argument"),
        ("infer score a.csv", "SOLUTION requires an argument"),
        ("train export a --uot w", "Did you mean --out?"),
        ("train export a --out b --out c", "--out specified multiple times"),
        ("train blend a --out b --views", "requires at least 1"),
        ("train blend a --out b --views 3", "3 is no view: mirror, +4, mirror-4"),
        ("train simulate d --patients 3.5 --seed 1", "3.5 is not a whole number"),
        ("train run a --competition d --out r --seeds 0", "0 is not a whole number from 1"),
        ("train run a --competition d --out r --spread x", 'Choose from: "batches", "folds"'),
        ("train folds --competition d --out r --no-published", "Unknown option"),
    ],
)
def test_wrong_usage(words, text, capsys):
    room, *rest = words.split()
    with pytest.raises(SystemExit) as end:
        parse(MAINS[room].app, rest)
    error, usage = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and error.startswith("error: ") and text in error
    assert usage.startswith(f"usage: python -m {room}") and usage.endswith("--help")


# ---- what goes wrong


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


def test_run_with_a_mistake_in_the_config(say, config, tmp_path):
    right = config.read_text()
    for wrong, text in (('bakbone = "b0"\n', "did you mean 'backbone'?"), ("backbone = \n", "line 5")):
        config.write_text(right + wrong)
        outcome = say("train", "run", config, "--competition", tmp_path, "--out", tmp_path / "runs")
        assert_error(outcome, "tiny.toml", text)
    outcome = say("train", "run", tmp_path / "no.toml", "--competition", tmp_path, "--out", tmp_path / "runs")
    assert_error(outcome, "no.toml", "No such file")
    assert not (tmp_path / "runs").exists()


def test_run_with_an_unknown_backbone(say, road, config, tmp_path):
    config.write_text(config.read_text().replace("test_convnext", "test_convnxt") + "[training]\nfolds = 2\n")
    outcome = say("train", "run", config, "--competition", road.competition, "--out", tmp_path / "runs")
    assert_error(outcome, "timm has no model named 'test_convnxt'", "test_convnext")


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


def test_an_error_of_a_real_process_has_no_traceback(tmp_path):
    done = command("-m", "infer", "validate", tmp_path / "no.csv", "--competition", tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: no.csv: not a readable csv") and done.stderr.count("\n") == 1


def test_train_says_how_threads_wait_before_torch_is_loaded():
    probe = """
import os, sys
from train.__main__ import app, main
os.environ.pop("OMP_WAIT_POLICY", None)
app.command(lambda: print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules), name="probe")
sys.argv = ["train", "probe"]
main()
"""
    assert command("-c", probe).stdout == "passive False\n"
