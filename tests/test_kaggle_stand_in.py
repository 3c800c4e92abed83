"""The stand-in against the unmodified client: the chain by plain commands, the rules, the faults."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import command
from kaggle_stand_in import COMPETITION, Fault, StandIn

from common.schema import SUBMISSION_COLUMNS, VOTES
from infer.validate import score

KAGGLE = Path(sys.executable).with_name("kaggle")


class Stage:
    """A dataset and a kernel to push, a server whose kernels answer with a given submission.csv."""

    def __init__(self, folder):
        self.folder = folder
        shares = {vote: [1.0, 2.0, 1.0, 3.0] if vote == VOTES[0] else [1.0] * 4 for vote in VOTES}
        self.solution, self.submission = folder / "solution.csv", folder / "submission.csv"
        pl.DataFrame({"eeg_id": [1, 2, 3, 4], **shares}).write_csv(self.solution)
        even = pl.DataFrame({"eeg_id": [1, 2, 3, 4], **{vote: [1 / 6] * 4 for vote in VOTES}})
        even.select(SUBMISSION_COLUMNS).write_csv(self.submission)
        self.outcome = {"ok": True, "message": "", "log": "hello\n", "files": {"submission.csv": self.submission}}
        self.dataset, self.kernel = folder / "weights", folder / "kernel"
        self.dataset.mkdir()
        for name, content in (("fold0.safetensors", os.urandom(3000)), ("manifest.json", b"{}"), ("empty.txt", b"")):
            (self.dataset / name).write_bytes(content)
        (self.dataset / "dataset-metadata.json").write_text(
            json.dumps({"id": "newcomer/hms-demo", "title": "HMS Demo", "licenses": [{"name": "CC0-1.0"}]})
        )
        self.kernel.mkdir()
        (self.kernel / "kernel.py").write_text("print(1)")
        self.write_kernel()
        self.server = StandIn(
            folder / "kaggle",
            competition=folder,
            solution=self.solution,
            runner=lambda *_: self.outcome,
            ready_polls=0,
            run_polls=0,
            score_polls=0,
        )

    def write_kernel(self, **changes):
        meta = {
            "id": "newcomer/hms-inference",
            "title": "Hms Inference",
            "code_file": "kernel.py",
            "language": "python",
            "kernel_type": "script",
            "enable_internet": False,
            "dataset_sources": ["newcomer/hms-demo"],
            "competition_sources": [COMPETITION],
        }
        (self.kernel / "kernel-metadata.json").write_text(json.dumps(meta | changes))

    def kaggle(self, *words, **environment):
        done = subprocess.run(
            [KAGGLE, *map(str, words)],
            env=self.server.environment(**environment),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def said(self, *words, **environment):
        return "".join(map(str, self.kaggle(*words, **environment)[1:]))

    def submit(self, version="1"):
        words = ("-k", "newcomer/hms-inference", "-f", "submission.csv", "-v", version, "-m", "first", "-q")
        return self.kaggle("competitions", "submit", COMPETITION, *words)


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    with stage.server:
        yield stage


def upload(stage):
    assert stage.kaggle("datasets", "create", "-p", stage.dataset, "-q")[0] == 0
    assert stage.kaggle("datasets", "status", "newcomer/hms-demo")[1].strip() == "ready"


def push(stage):
    code, out, _ = stage.kaggle("kernels", "push", "-p", stage.kernel)
    assert code == 0
    return out


def test_the_chain_by_plain_commands(stage):
    stage.server.rules.ready_polls = stage.server.rules.run_polls = stage.server.rules.score_polls = 1
    stage.server.client_warning = True  # on stdout, before what one wants to parse
    assert "username: newcomer" in stage.said("config", "view")
    assert stage.kaggle("datasets", "status", "newcomer/hms-demo")[0] == 1
    assert "is being created" in stage.said("datasets", "create", "-p", stage.dataset)
    for status in ("blobs_received", "ready"):
        found = stage.kaggle("datasets", "status", "newcomer/hms-demo", "--format", "json")[1]
        assert json.loads(found[found.index("{") :]) == {"status": status, "current_version_number": 1}
    (stage.dataset / "manifest.json").write_text('{"second": 2}')
    assert "version is being created" in stage.said("datasets", "version", "-p", stage.dataset, "-m", "again")
    listed = stage.kaggle("-W", "datasets", "files", "newcomer/hms-demo", "--format", "json", "--page-size", "200")[1]
    sizes = {one["name"]: one["size"] for one in json.loads(listed[listed.index("[") :])}
    assert sizes == {"empty.txt": 0, "fold0.safetensors": 3000, "manifest.json": 13}
    stage.kaggle("datasets", "download", "newcomer/hms-demo", "-f", "manifest.json", "-p", "down")
    assert (stage.folder / "down" / "manifest.json").read_text() == '{"second": 2}'
    assert "Kernel version 1 successfully pushed" in push(stage)
    for status in ("RUNNING", "COMPLETE"):
        assert f'"KernelWorkerStatus.{status}"' in stage.said("kernels", "status", "newcomer/hms-inference")
    stage.kaggle("kernels", "output", "newcomer/hms-inference", "-p", "out")
    assert (stage.folder / "out" / "submission.csv").read_bytes() == stage.submission.read_bytes()
    assert json.loads((stage.folder / "out" / "hms-inference.log").read_text())[0]["data"] == "hello\n"
    assert stage.submit()[0] == 0
    for status in ("PENDING", "COMPLETE"):
        shown = stage.kaggle("competitions", "submissions", COMPETITION, "--format", "json")[1]
        found = json.loads(shown[shown.index("[") :])
        assert [(one["description"], one["status"]) for one in found] == [("first", f"SubmissionStatus.{status}")]
    # Rows 1 and 3 are public, 2 and 4 private; both are the metric's.
    for rows, key in (([1, 3], "publicScore"), ([2, 4], "privateScore")):
        for name in ("solution", "submission"):
            frame = pl.read_csv(stage.folder / f"{name}.csv")
            frame.filter(pl.col("eeg_id").is_in(rows)).write_csv(stage.folder / f"part-{name}.csv")
        kl, _ = score(stage.folder / "part-submission.csv", stage.folder / "part-solution.csv")
        assert float(found[0][key]) == pytest.approx(kl, abs=6e-6)
    assert "KAGGLE_KEY" not in json.dumps(stage.server.requests) and "Basic" not in json.dumps(stage.server.requests)


def test_state_survives_the_server(stage):
    upload(stage)
    again = StandIn(stage.folder / "kaggle", competition=stage.folder, solution=stage.solution, ready_polls=0)
    assert again.datasets.keys() == {"newcomer/hms-demo"} and len(again.datasets["newcomer/hms-demo"]["versions"]) == 1


def test_rules_of_datasets(stage):
    upload(stage)
    assert "already in use" in stage.said("datasets", "create", "-p", stage.dataset, "-q")
    stage.server.rules.ready_polls = 5
    code, _, error = stage.kaggle("datasets", "version", "-p", stage.dataset, "-m", "early", "-q")
    assert code == 1 and "denied" in error  # the first is still being processed
    assert stage.server.count("CreateDatasetVersion") == 0


def test_rules_of_kernels(stage):
    stage.write_kernel(title="Another Title")
    assert "not valid dataset sources" in push(stage)  # and the push went through
    assert list(stage.server.kernels) == ["newcomer/another-title"]
    stage.write_kernel(competition_sources=["titanic"])
    assert "not valid competition sources" in push(stage)
    (stage.kernel / "kernel.py").write_text("#" * 1_000_001)
    assert "Kernel push error: Maximum source size exceeded" in push(stage)


def test_rules_of_submissions(stage):
    upload(stage)
    assert stage.submit()[0] == 1  # no such kernel
    push(stage)
    assert "not complete" in stage.submit()[2]
    stage.said("kernels", "status", "newcomer/hms-inference")
    stage.server.rules.rules_accepted = False
    assert "rules" in stage.submit()[2]
    stage.server.rules.rules_accepted = True
    stage.server.rules.submissions_a_day = 0
    assert "daily submission limit" in stage.submit()[2]
    stage.write_kernel(enable_internet=True)
    push(stage)
    stage.said("kernels", "status", "newcomer/hms-inference")
    assert "internet" in stage.submit("2")[2]
    assert stage.server.submissions == []


def test_a_kernel_that_fails_and_a_submission_that_fails(stage):
    upload(stage)
    stage.outcome = {"ok": False, "message": "exit code 1", "log": "Traceback\nWeightsError: fold0", "files": {}}
    push(stage)
    said = stage.said("kernels", "status", "newcomer/hms-inference")
    assert "KernelWorkerStatus.ERROR" in said and "exit code 1" in said
    stage.outcome = {"ok": True, "message": "", "log": "", "files": {"submission.csv": stage.submission}}
    push(stage)
    stage.said("kernels", "status", "newcomer/hms-inference")
    stage.submission.write_text("eeg_id\n1\n")
    assert stage.submit("2")[0] == 0
    found = stage.said("competitions", "submission", str(stage.server.submissions[0]["ref"]))
    assert "ERROR" in found and "Submission Scoring Error" in found


def test_faults(stage):
    """Each kind, as the client tells it."""
    faults = stage.server.faults
    faults += [Fault("GetDatasetStatus", "status", code=code, message=f"no {code}") for code in (401, 429)]
    assert stage.kaggle("datasets", "status", "newcomer/hms-demo")[0] == 1
    faults.clear()
    faults.append(Fault("PUT /upload/fold0", "status", code=400))
    said = stage.said("datasets", "create", "-p", stage.dataset)
    assert "Upload unsuccessful: fold0.safetensors" in said and stage.server.datasets == {}
    faults.clear()
    stage.server.rules.loses = {"fold0.safetensors"}
    upload(stage)
    assert set(stage.server.datasets["newcomer/hms-demo"]["versions"][0]["files"]) == {"manifest.json", "empty.txt"}
    faults[:] = [Fault("CreateDatasetVersion", "body", body={"status": "Error", "error": "no space left"})]
    assert "no space left" in stage.said("datasets", "version", "-p", stage.dataset, "-m", "x", "-q")
    faults[:] = [Fault("ListSubmissions", "instead", nth=1, last=2, body={"submissions": []})]
    for _ in range(2):
        assert "No submissions found" in stage.said("competitions", "submissions", COMPETITION, "--format", "json")
    faults[:] = [Fault("GetDatasetStatus", "drop")]
    assert stage.kaggle("datasets", "status", "newcomer/hms-demo")[0] == 1
    with pytest.raises(ValueError, match="a fault of kind 'flood'"):
        Fault("x", "flood")


@pytest.mark.parametrize(("kind", "saved"), [("kill", 0), ("kill-after", 1)])
def test_a_process_is_killed_at_a_request(stage, kind, saved):
    upload(stage)
    victim = subprocess.Popen(["sleep", "100"])
    stage.server.faults.append(Fault("SaveKernel", kind, pid=victim.pid))
    assert stage.kaggle("kernels", "push", "-p", stage.kernel)[0] == 1
    assert victim.wait(timeout=10) == -9
    assert len(stage.server.kernels) == saved


def test_a_pushed_kernel_is_really_run_and_scored(road, tmp_path):
    """By the command, with the kit's own kernel and weights."""
    built = command("kernels/build.py", "--blend", road.blend_file, "--out", tmp_path / "kernel")
    assert built.returncode == 0, built.stderr
    for folder in (tmp_path / "kernel", *road.datasets):
        copy = tmp_path / "upload" / folder.name
        copy.mkdir(parents=True)
        for file in folder.iterdir():
            text = file.read_bytes()
            (copy / file.name).write_bytes(text.replace(b"OWNER", b"newcomer") if file.suffix == ".json" else text)
    names = [folder.name for folder in road.datasets]
    script = [
        "set -e",
        *(f"kaggle datasets create -q -p upload/{name}" for name in names),
        *(f"kaggle datasets status newcomer/{name}; kaggle datasets status newcomer/{name}" for name in names),
        "kaggle kernels push -p upload/kernel",
        "until kaggle kernels status newcomer/hms-inference | grep COMPLETE; do sleep 1; done",
        f"kaggle competitions submit {COMPETITION} -q -k newcomer/hms-inference -f submission.csv -v 1 -m real",
        f"until kaggle competitions submissions {COMPETITION} --format json | grep COMPLETE; do sleep 1; done",
        f"kaggle competitions submissions {COMPETITION} --format json",
    ]
    (tmp_path / "chain.sh").write_text("\n".join(["cd " + str(tmp_path), *script]))
    words = ("--root", tmp_path / "kaggle", "--competition", road.competition)
    words += ("--solution", road.competition / "truth" / "solution.csv")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = command(
        "tests/kaggle_stand_in.py", *words, "--", "bash", tmp_path / "chain.sh", env=os.environ | {"PATH": path}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    scores = [float(line.split('"')[3]) for line in done.stdout.splitlines() if "Score" in line][-2:]
    words = ("--weights", road.weights, "--blend", road.blend_file, "--out", tmp_path / "own.csv")
    assert command("-m", "infer", "submit", "--competition", road.competition, *words).returncode == 0
    whole, rows = score(tmp_path / "own.csv", road.competition / "truth" / "solution.csv")
    parts = ((rows + 1) // 2 * scores[0] + rows // 2 * scores[1]) / rows
    assert parts == pytest.approx(whole, abs=1e-4)
