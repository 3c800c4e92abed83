"""The sandbox: what a kernel sees on Kaggle, what becomes of it, what is said about it."""

import hashlib
import json
import os

import pytest
from sandbox_stage import HEAD, PROJECT, SLUG, Stage, namespaces_refused, need_namespaces


@pytest.fixture(params=["namespace", "guard"])
def isolation(request):
    if request.param == "namespace":
        need_namespaces()
    return request.param


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


PLACES = {
    "plain": (f"{SLUG}/test.csv", f"{SLUG}/test_eegs/1.parquet", "hms-tiny/manifest.json"),
    "nested": (
        f"competitions/{SLUG}/test.csv",
        f"competitions/{SLUG}/test_eegs/1.parquet",
        "datasets/someone/hms-tiny/manifest.json",
    ),
}


@pytest.mark.parametrize("layout", PLACES)
def test_a_good_kernel_passes(stage, isolation, layout):
    places = sorted(PLACES[layout])
    done = stage.run(
        f"""
print("reading")
found = [os.path.join(at, name) for at, _, names in os.walk(INPUT, followlinks=True) for name in names]
assert sorted(os.path.relpath(path, INPUT) for path in found) == {places}, found
assert all(Path(path).read_bytes() for path in found)
assert Path.cwd() == KAGGLE.resolve() / "working"
import tempfile
Path(tempfile.mkdtemp(), "scratch").write_text("x")
Path("extra").mkdir()
Path("extra/plot.txt").write_text("x")
Path("report.json").write_text('{{"rows": 2}}')
answer()
""",
        *("--layout", layout, "--isolation", isolation),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reading\n" in done.stdout and stage.log() == "reading\n"
    assert (stage.out / "submission.csv").read_text() == "eeg_id,x\n1,2\n3,4\n"
    report = stage.report()
    assert report["ok"] and report["exit_code"] == 0 and not report["timed_out"]
    assert (report["isolation"], report["layout"], report["submission_rows"]) == (isolation, layout, 2)
    assert report["outputs"] == ["extra/plot.txt", "report.json", "submission.csv"]
    assert report["kernel"] == {"rows": 2} and len(report["kernel_sha256"]) == 64


def test_mixed_layouts_go_by_turns(stage):
    second = stage.add_dataset("second", "someone/hms-second")
    source = "print(sorted(p.parent.relative_to(INPUT).as_posix() for p in INPUT.glob('**/manifest.json')))\nanswer()\n"
    done = stage.run(source, "--layout", "mixed", datasets=[stage.dataset, second])
    assert done.returncode == 0 and stage.log() == "['datasets/someone/hms-tiny', 'hms-second']\n"


def test_the_report_says_what_ran(stage):
    """Publishing asks for a run of exactly these bytes."""
    stage.add_dataset("second", "someone/hms-second")
    stage.run("answer()\n", "--isolation", "guard", datasets=[stage.dataset, stage.folder / "second"])
    first = stage.report()
    code = (stage.kernel / "kernel.py").read_bytes()
    assert first["kernel_sha256"] == hashlib.sha256(code).hexdigest()
    assert set(first["datasets"]) == {"hms-tiny", "hms-second"} and len(set(first["datasets"].values())) == 2
    (stage.dataset / "dataset-metadata.json").write_text('{"id": "another/hms-tiny"}')  # not content
    stage.run("answer()\n", "--isolation", "guard")
    assert stage.report()["datasets"] == {"hms-tiny": first["datasets"]["hms-tiny"]}
    (stage.dataset / "manifest.json").write_text("changed")
    stage.run("answer()\n", "--isolation", "guard")
    assert stage.report()["datasets"]["hms-tiny"] != first["datasets"]["hms-tiny"]
    (stage.dataset / "folder").mkdir()  # an upload would drop it
    assert stage.run("answer()\n", "--isolation", "guard").returncode == 0
    assert stage.report()["datasets"] == {"hms-tiny": None}


def test_what_cannot_be_read_is_the_kernels_business(stage, isolation):
    """A pipe nobody writes to, links that lead nowhere or in a circle, a file without permission."""
    eegs = stage.competition / "test_eegs"
    os.mkfifo(eegs / "2.parquet")
    (eegs / "3.parquet").symlink_to(eegs / "gone.parquet")
    (eegs / "4.parquet").symlink_to(eegs / "4.parquet")
    (eegs / "5.parquet").write_text("secret")
    (eegs / "5.parquet").chmod(0)
    (stage.competition / "test_spectrograms").symlink_to(stage.competition / "gone")
    os.mkfifo(stage.competition / "example.csv")
    source = f"""
place = INPUT / 'competitions' / '{SLUG}'
assert (place / 'example.csv').is_fifo() and (place / 'test_eegs' / '2.parquet').is_fifo()
print(sorted(path.name for path in place.iterdir()), sorted(path.name for path in (place / 'test_eegs').iterdir()))
try: print((place / 'test_eegs' / '5.parquet').read_text())
except PermissionError: print("not permitted")
answer()
"""
    done = stage.run(source, "--isolation", isolation)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_spectrograms is a link that leads nowhere: not mounted" in done.stdout
    names = [f"{number}.parquet" for number in range(1, 6)]
    assert stage.log().split("\n")[0] == f"['example.csv', 'test.csv', 'test_eegs'] {names}"
    root_in_the_guard = isolation == "guard" and os.geteuid() == 0  # the namespace takes root's privileges away
    assert stage.log().split("\n")[1] == ("secret" if root_in_the_guard else "not permitted")


def notebook(*cells):
    """The JSON of a notebook of (cell type, source)."""
    return json.dumps({"cells": [{"cell_type": kind, "source": source} for kind, source in cells]})


def test_a_notebook_runs_as_its_code_cells(stage, isolation):
    cells = [("markdown", "# not code"), ("code", ["X = 'joined'\n", "Y = X"]), ("code", HEAD), ("code", "print(Y)")]
    (stage.kernel / "kernel.ipynb").write_text(notebook(*cells, ("code", "if __name__ == '__main__': answer()")))
    stage.change_metadata(code_file="kernel.ipynb", kernel_type="notebook")
    done = stage.run("", "--isolation", isolation)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stage.log() == "joined\n" and stage.report()["submission_rows"] == 2
    digest = hashlib.sha256((stage.kernel / "kernel.ipynb").read_bytes()).hexdigest()
    assert stage.report()["kernel_sha256"] == digest


def test_environment_is_clean_and_says_rerun_only_when_asked(stage, isolation):
    source = "print(sorted(os.environ))\nprint(os.environ.get('KAGGLE_IS_COMPETITION_RERUN'))\nanswer()\n"
    env = os.environ | {"PYTHONPATH": str(PROJECT), "KAGGLE_KEY": "secret"}
    stage.run(source, "--isolation", isolation, "--rerun", env=env)
    assert stage.log().endswith("]\n1\n")
    assert "PYTHONPATH" not in stage.log() and "KAGGLE_KEY" not in stage.log()
    done = stage.run(source, "--isolation", isolation, "--quiet", env=env)
    assert stage.log().endswith("]\nNone\n") and "None" not in done.stdout


@pytest.mark.slow
def test_the_time_limit_ends_the_kernel_and_its_children(stage, isolation):
    start = "import subprocess\nsubprocess.Popen(['sleep', '10000'])" if isolation == "namespace" else ""
    source = f"answer()\n{start}\nprint('started')\nimport time\ntime.sleep(10000)\n"
    done = stage.run(source, "--isolation", isolation, "--hours", "0.004")
    assert done.returncode == 1 and "time limit" in done.stdout
    report = stage.report()
    assert report["timed_out"] and not report["ok"] and report["exit_code"] == -9
    assert report["seconds"] >= 0.004 * 3600
    assert stage.log() == "started\n"  # written while it ran


def test_a_child_left_behind_does_not_hold_the_sandbox(stage):
    need_namespaces()
    source = "import subprocess\nsubprocess.Popen(['sleep', '10000'])\nanswer()\n"
    assert stage.run(source, "--isolation", "namespace").returncode == 0


def test_failing_exits(stage, isolation):
    assert stage.run("answer()\nsys.exit(1)\n", "--isolation", isolation).returncode == 1
    assert stage.report()["exit_code"] == 1 and not stage.report()["ok"]
    done = stage.run("Path('other.csv').write_text('x')\n", "--isolation", isolation)
    assert done.returncode == 1 and "left no submission.csv" in done.stdout
    assert stage.report()["outputs"] == ["other.csv"] and stage.report()["submission_rows"] is None
    assert not (stage.out / "submission.csv").exists()  # nor that of the run before


def test_a_kernel_that_tells_of_a_failure_has_not_passed(stage):
    source = "answer()\nPath('report.json').write_text('{\"failure\": %s}')\n"
    done = stage.run(source % '\\"no disk\\"')
    assert done.returncode == 1 and "says that it did not end well (no disk)" in done.stdout
    assert stage.report()["submission_rows"] is not None and not stage.report()["ok"]
    assert stage.run(source % "null").returncode == 0


def test_auto_uses_the_best_allowed(stage):
    stage.run("answer()\n")
    assert stage.report()["isolation"] == ("guard" if namespaces_refused() else "namespace")


def assert_not_run(stage, message, *options, **arguments):
    done = stage.run("answer()\n", *options, **arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("sandbox: not run. ") and message in done.stderr


def test_refuses_unusable_kernels(stage):
    for internet in (True, "false", None):
        stage.change_metadata(enable_internet=internet)
        assert_not_run(stage, "the competition demands false")
    stage.change_metadata(competition_sources=[])
    assert_not_run(stage, "name exactly one")
    stage.change_metadata(code_file="gone.py")
    assert_not_run(stage, "run python kernels/build.py")
    stage.change_metadata(kernel_type="notebook")
    assert_not_run(stage, "kernel_type is notebook, but kernel.py is a script; Kaggle would refuse it: write script")
    (stage.kernel / "kernel.ipynb").write_text("{}")
    stage.change_metadata(code_file="kernel.ipynb", kernel_type="notebook")
    assert_not_run(stage, "kernel.ipynb is no notebook")
    (stage.kernel / "kernel-metadata.json").write_text("[1]")
    assert_not_run(stage, "is not a JSON object")
    (stage.kernel / "kernel-metadata.json").unlink()
    assert_not_run(stage, "give a kernel folder")


def test_refuses_unusable_inputs(stage):
    assert_not_run(stage, "is no folder", datasets=[stage.folder / "none"])
    twin = stage.add_dataset("twin", "another/hms-tiny")
    assert_not_run(stage, "both have the slug hms-tiny", datasets=[stage.dataset, twin])
    (twin / "dataset-metadata.json").write_text('{"id": "hms-tiny"}')
    assert_not_run(stage, "write OWNER/SLUG", datasets=[twin])
    link = stage.competition / "test_eegs" / "2.parquet"
    link.symlink_to(stage.competition / "truth" / "votes.csv")
    assert_not_run(stage, "make it a hard link")


def test_says_what_kaggle_would_mount_otherwise(stage):
    extra = stage.add_dataset("extra", "someone/hms-extra")
    done = stage.run("answer()\n", "--isolation", "guard", "--datasets", str(extra))
    assert "hms-extra is not in the kernel's dataset_sources" in done.stdout
    stage.change_metadata(dataset_sources=["OWNER/hms-tiny", "OWNER/hms-gone"])
    done = stage.run("answer()\n", "--isolation", "guard")
    assert done.returncode == 0 and "hms-gone is in the kernel's dataset_sources but not" in done.stdout
