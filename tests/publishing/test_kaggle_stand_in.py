"""The stand-in against the unmodified client: the chain by plain commands, the rules, real runs."""

import json
from pathlib import Path

import polars as pl
import pytest
from conftest import command
from kaggle_stage import Stage

from common.schema import SUBMISSION_COLUMNS, VOTES
from infer.validate import SubmissionError, score
from kaggle_runs import SandboxRuns
from kaggle_runs import score as score_parts
from kaggle_server import COMPETITION


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    with stage.server:
        yield stage


@pytest.mark.slow
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
    assert "Kernel version 1 successfully pushed" in stage.push()
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


@pytest.mark.slow
def test_rules_of_datasets(stage):
    """A dataset is ready after a while, and changes only then."""
    rules = stage.server.rules
    rules.ready_polls = 1
    ask = ("datasets", "status", "newcomer/hms-demo")
    assert stage.kaggle("datasets", "create", "-p", stage.dataset, "-q", "--public")[0] == 0
    assert stage.said(*ask) == "blobs_received"
    assert "already in use" in stage.said("datasets", "create", "-p", stage.dataset, "-q")
    assert stage.said(*ask) == "ready"
    (stage.dataset / "manifest.json").unlink()
    assert stage.kaggle("datasets", "version", "-p", stage.dataset, "-m", "less", "-q")[0] == 0
    code, _, error = stage.kaggle("datasets", "version", "-p", stage.dataset, "-m", "early", "-q")
    assert code == 1 and "denied" in error and stage.server.count("CreateDatasetVersion") == 1
    dataset = stage.server.datasets["newcomer/hms-demo"]
    assert [len(version["files"]) for version in dataset["versions"]] == [3, 2]  # a version is all there is
    stage.kaggle("datasets", "metadata", "newcomer/hms-demo", "-p", "meta")
    assert json.loads((stage.folder / "meta" / "dataset-metadata.json").read_text()).get("isPrivate", False) is False
    # A kernel gets the newest version that is ready; of a dataset without one, nothing.
    stage.push()
    assert stage.server.kernels["newcomer/hms-inference"]["versions"][0]["mounts"] == ["newcomer/hms-demo/1"]
    rules.ready_polls = 9
    assert "not valid dataset sources" in stage.push()
    stage.write_kernel(id="somebody/hms-inference")
    assert "Kernel push error: Notebook not found" in stage.push()


@pytest.mark.slow
def test_rules_of_submissions(stage):
    stage.upload()
    assert stage.submit()[0] == 1  # no such kernel
    stage.push()
    assert "not complete" in stage.submit()[2]
    stage.said("kernels", "status", "newcomer/hms-inference")
    stage.server.rules.rules_accepted = False
    assert "rules" in stage.submit()[2]
    stage.server.rules.rules_accepted = True
    stage.server.rules.submissions_a_day = 0
    assert "daily submission limit" in stage.submit()[2]
    stage.server.rules.submissions_a_day = 5
    stage.outcome = stage.outcome | {"files": {}}
    stage.write_kernel(enable_internet=True)
    stage.push()
    stage.said("kernels", "status", "newcomer/hms-inference/2")  # each version by its number
    assert "internet" in stage.submit("2")[2]
    stage.write_kernel(competition_sources=[])
    stage.push()
    stage.said("kernels", "status", "newcomer/hms-inference")
    assert "not a data source" in stage.submit("3")[2]
    stage.write_kernel()
    stage.push()
    stage.said("kernels", "status", "newcomer/hms-inference")
    assert "submission.csv was not found" in stage.submit("4")[2]
    assert "notebook and version" in stage.submit("5")[2]
    assert stage.server.submissions == []


RUNS = {
    "nothing": ("print('hello')", {}, (True, "", []), "hello"),
    "raises": ("raise KeyError('fold0')", {}, (False, "Notebook Threw Exception", []), "KeyError: 'fold0'"),
    "hangs": ("while True: pass", {"sessionTimeoutSeconds": 1}, (False, "Notebook Timeout", []), ""),
    "unattached": ("assert not list(INPUT.rglob('test.csv'))\nanswer()", {"competitions": []}, None, ""),
    "public": ("import os\nassert 'KAGGLE_IS_COMPETITION_RERUN' not in os.environ\nanswer()", {}, None, ""),
}
HEAD = """
import os
from pathlib import Path
INPUT = Path(os.environ.get("HMS_KAGGLE_ROOT", "/kaggle")) / "input"
def answer(): Path("submission.csv").write_text(" ".join(sorted(path.name for path in INPUT.rglob("*.*"))))
"""


@pytest.fixture
def runs(stage):
    return SandboxRuns(stage.competition, COMPETITION, stage.folder / "runs")


def version(source, **changes):
    return {
        "source": HEAD + source,
        "kernelType": "script",
        "competitions": [COMPETITION],
        "sessionTimeoutSeconds": None,
        **changes,
    }


@pytest.mark.parametrize("name", RUNS)
def test_how_a_run_ends(runs, name):
    source, changes, end, said = RUNS[name]
    outcome = runs(version(source, **changes), {}, False)
    ok, message, files = end or (True, "", ["submission.csv"])
    assert (outcome["ok"], sorted(outcome["files"])) == (ok, files), outcome["log"]
    assert said in outcome["log"] and (ok or outcome["message"] == message)


def test_a_notebook_is_run_on_what_is_attached(stage, runs):
    cells = [{"cell_type": "code", "source": text} for text in (HEAD, "answer()")]
    notebook = version("", kernelType="notebook") | {"source": json.dumps({"cells": cells})}
    outcome = runs(notebook, {"newcomer/hms-demo": stage.dataset}, True)
    seen = Path(outcome["files"]["submission.csv"]).read_text().split()
    assert seen == ["1.parquet", "empty.txt", "fold0.safetensors", "manifest.json", "test.csv"]


def test_what_the_metric_refuses_is_not_scored(stage):
    frame = pl.read_csv(stage.submission)
    frame.with_columns(pl.lit(0.9).alias(VOTES[0])).select(SUBMISSION_COLUMNS).write_csv(stage.submission)
    with pytest.raises(SubmissionError, match="sum"):
        score_parts(stage.submission, stage.solution)


def test_a_command_runs_with_kaggle_pointed_at_the_server(stage):
    words = ("--root", stage.folder / "other", "--competition", stage.competition, "--solution", stage.solution)
    ask = "import os, sys; print(os.environ['KAGGLE_USERNAME'], os.environ['http_proxy']); sys.exit(7)"
    done = command("kernels/fake_kaggle/kaggle_server.py", *words, "--owner", "me", "--", "python", "-c", ask)
    assert done.returncode == 7 and done.stdout.startswith("me http://127.0.0.1:"), done.stdout + done.stderr
