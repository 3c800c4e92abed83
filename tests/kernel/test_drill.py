"""The fault drill, as the command a user types, and that it can fail."""

import json
import shutil

import pytest
from conftest import command

import drill
from drilling.faults import CASES, expected
from drilling.hidden_test import BASE, ID
from drilling.outcomes import Outcome


def words(road, out):
    given = ("--competition", road.competition, "--datasets", road.weights, "--blend", road.blend_file)
    return [*map(str, given), "--out", str(out)]


@pytest.fixture(scope="module")
def drilled(road, tmp_path_factory):
    """What the command said, and where it left its results."""
    out = tmp_path_factory.mktemp("drill")
    done = command("kernels/drill.py", *words(road, out))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, out


@pytest.mark.slow
def test_every_fault_is_stood(drilled):
    said, out = drilled
    facts = json.loads((out / "results.json").read_text())
    names = [one["fault"] for one in facts["faults"]]
    assert set(CASES) - set(facts["skipped"]) <= set(names) and len(set(names)) == len(names) >= 90
    assert facts["ok"] and all(one["ok"] for one in facts["faults"])
    assert facts["answered"] == facts["rows"] == 10 + len(CASES) + 1  # one of the faults is a row twice
    assert facts["identical"] == facts["sound"] == 10 and not facts["different"]
    counts = f"{len(names)} faults, all of them as they must be; {facts['rows']} of {facts['rows']} rows answered"
    assert f"{counts}, 10 of 10 sound rows identical to the clean run" in said
    lines = {line[:36].strip(): line for line in said.split("\n") if line.startswith("  ")}
    assert "other models answered" in lines["reading hangs"] and lines["reading hangs"].endswith(" ok")
    assert not [path for path in out.rglob("*") if path.is_fifo()]  # would hold up whoever searches the folder


def change_line(eeg_id, change):
    """A change of one EEG's line in submission.csv."""

    def tamper(folder):
        path = folder / "submission.csv"
        lines = path.read_text().splitlines()
        place = next(n for n, line in enumerate(lines) if line.startswith(f"{eeg_id},"))
        lines[place : place + 1] = change(lines[place])
        path.write_text("\n".join(lines) + "\n")

    return tamper


def change_report(change):
    def tamper(folder):
        report = json.loads((folder / "report.json").read_text())
        change(report["kernel"])
        (folder / "report.json").write_text(json.dumps(report))

    return tamper


def last_digit(line):
    """The probabilities moved by less than any tolerance."""
    head, *cells = line.split(",")
    return [",".join([head, repr(float(cells[0]) + 2e-16), *cells[1:]])]


def forget(kind, name):
    def change(kernel):
        kernel[kind] = [entry for entry in kernel[kind] if entry["eeg_id"] != str(ID[name])]

    return change_report(change)


def uniform(line):
    return [",".join([line.split(",")[0], *["0.25"] * 2, *["0.125"] * 4])]


def blame_the_base(kernel):
    kernel["repaired"].append({"eeg_id": str(BASE), "what": "EEG: nothing"})


TAMPERED = {
    "a sound row, by the last digit": (change_line(BASE, last_digit), "NOT THE CLEAN RUN'S: 9000000000000000000: "),
    "a sound row that is missing": (change_line(BASE, lambda line: []), "92 of 93 rows answered, 9 of 10 sound"),
    "a row twice too often": (change_line(ID["no T3"], lambda line: [line] * 2), "no T3: 2 rows for 1 of test.csv"),
    "a wrong row": (change_line(ID["double"], uniform), "double: the answer is not that of the sound recording"),
    "no prior": (change_line(ID["both gone"], uniform), "both gone: the answer is not the prior"),
    "a fault not named": (
        forget("repaired", "zero"),
        "zero: the report must say: EEG: no channel varies; it says: nothing",
    ),
    "a sound row blamed": (change_report(blame_the_base), f"{BASE}: the report says EEG: nothing"),
    "a fold not named": (
        change_report(lambda kernel: kernel.update(dropped=[x for x in kernel["dropped"] if "truncated" not in x])),
        "a fold cut short: the report must say",
    ),
    "a sound fold left out": (
        change_report(lambda kernel: kernel["dropped"].append("hms-tiny-wave/fold0.safetensors is missing")),
        "not broken: ['hms-tiny-wave/fold0.safetensors is missing']",
    ),
    "another ensemble": (
        change_report(lambda kernel: kernel["models"]["tiny-wave"].update(folds=1)),
        "both mount layouts at once: models with weight and folds",
    ),
}


@pytest.fixture
def replay(road, drilled, tmp_path, monkeypatch, capsys):
    """What the same command prints on the recorded runs, of which the broken one is changed."""

    def run(tamper):
        def run_sandbox(folder, competition, datasets, *options):
            shutil.copytree(drilled[1] / folder.name, folder, dirs_exist_ok=True)
            if folder.name == "broken":
                tamper(folder)
            return Outcome(folder)

        monkeypatch.setattr(drill, "run_sandbox", run_sandbox)
        monkeypatch.setattr(drill, "build_kernel", lambda *_: None)
        assert drill.main(words(road, tmp_path)) == 1
        assert json.loads((tmp_path / "results.json").read_text())["ok"] is False
        return capsys.readouterr().out

    return run


@pytest.mark.slow
@pytest.mark.parametrize("what", TAMPERED)
def test_what_is_wrong_is_found(replay, what):
    tamper, complaint = TAMPERED[what]
    printed = replay(tamper)
    assert complaint in printed and "drill: FAILED in" in printed


@pytest.mark.slow
def test_a_kernel_that_fails_fails_the_drill(road, tmp_path, monkeypatch, capsys):
    def broken_kernel(folder, models, blend):
        folder.mkdir(parents=True)
        meta = {"code_file": "kernel.py", "enable_internet": False, "competition_sources": ["hms"]}
        (folder / "kernel-metadata.json").write_text(json.dumps(meta))
        (folder / "kernel.py").write_text("raise RuntimeError('no answer')\n")

    monkeypatch.setattr(drill, "build_kernel", broken_kernel)
    assert drill.main(words(road, tmp_path)) == 1
    said = capsys.readouterr().err
    assert "drill: FAILED. sandbox: FAILED: the kernel ended with exit code 1" in said
    assert said.rstrip().endswith("RuntimeError: no answer") and not (tmp_path / "stage").exists()


@pytest.mark.parametrize("missing", ["--competition", "--blend", "--datasets"])
def test_a_missing_demo_is_answered_with_what_to_do(road, tmp_path, capsys, missing):
    given = words(road, tmp_path / "out")
    given[given.index(missing) + 1] = str(tmp_path / "none")
    assert drill.main(given) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"drill: not run. {tmp_path / 'none'}") and not (tmp_path / "out").exists()
    assert "make demo" in said or "python -m train export" in said


EEG, SPECTROGRAM, BOTH = (True, False), (False, True), (True, True)


@pytest.mark.parametrize(
    ("fault", "needs", "answer"),
    [
        ("no file", {"a": EEG}, "prior"),
        ("no file", {"a": SPECTROGRAM}, None),
        ("no file", {"b": EEG, "c": BOTH, "a": EEG, "d": SPECTROGRAM}, "blend without a, b, c"),
        ("too short to rebuild from", {"a": EEG, "b": SPECTROGRAM}, "blend without b"),
        ("too short to rebuild from", {"a": EEG}, None),
        ("both gone", {"a": EEG, "b": SPECTROGRAM}, "prior"),
        ("spectrogram gone", {"a": SPECTROGRAM}, None),
    ],
)
def test_who_answers_depends_on_what_the_models_need(fault, needs, answer):
    found = expected(CASES[fault], needs)["fallbacks"]
    assert [entry[0] for entry in found] == ([answer] if answer else [])
