"""What can go wrong on the way to the stand-in, and how files travel all the same."""

import json
import os
import shlex
import subprocess
import urllib.request
import zipfile

import pytest
from conftest import command
from kaggle_stage import KAGGLE, Stage

from kaggle_server import COMPETITION, Fault


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    with stage.server:
        yield stage


def test_faults(stage):
    """Each kind, as the client tells it."""
    faults = stage.server.faults
    hints = {401: "Authentication required", 403: "no 403", 404: "no 404", 429: "been rate limited", 500: "no 500"}
    for code, hint in hints.items():
        faults[:] = [Fault("GetDatasetStatus", "status", code=code, message=f"no {code}")]
        ended, *said = stage.kaggle("datasets", "status", "newcomer/hms-demo")
        assert ended == 1 and hint in "".join(said)
    faults[:] = [Fault("StartBlobUpload", "status", code=429, headers={"Retry-After": "0"})]
    faults.append(Fault("PUT /upload/fold0", "status", code=400))
    said = stage.said("datasets", "create", "-p", stage.dataset)
    assert "Upload unsuccessful: fold0.safetensors" in said and stage.server.datasets == {}
    assert "Will retry in 0.0 seconds" in said
    faults.clear()
    stage.server.rules.loses = {"fold0.safetensors"}
    stage.upload()
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
    stage.upload()
    victim = subprocess.Popen(["sleep", "100"])
    stage.server.faults.append(Fault("SaveKernel", kind, pid=victim.pid))
    assert stage.kaggle("kernels", "push", "-p", stage.kernel)[0] == 1
    assert victim.wait(timeout=10) == -9
    assert len(stage.server.kernels) == saved


def test_an_upload_that_breaks_off_goes_on(stage):
    """The client asks what arrived and sends the rest."""
    stage.server.faults.append(Fault("PUT /upload/fold0", "half"))
    said = stage.said("datasets", "create", "-p", stage.dataset)
    assert "Already uploaded 1499 bytes. Will resume upload at 1500." in said
    sent = [one["status"] for one in stage.server.requests if one["what"] == "PUT /upload/fold0.safetensors"]
    assert sent == [503, 308, 200]
    token = stage.server.datasets["newcomer/hms-demo"]["versions"][0]["files"]["fold0.safetensors"]
    assert stage.server.rules.blob_path(token).read_bytes() == (stage.dataset / "fold0.safetensors").read_bytes()


def test_a_download_that_breaks_off_goes_on(stage):
    """From the last MiB that arrived: the client writes no less."""
    content = os.urandom(3 << 20)
    (stage.dataset / "fold0.safetensors").write_bytes(content)
    stage.upload()
    stage.server.faults.append(Fault("GET /download", "half"))
    words = ("datasets", "download", "newcomer/hms-demo", "-f", "fold0.safetensors", "-p", "down")
    code, out, error = stage.kaggle(*words)
    assert code == 0 and "Resuming from 1048576 bytes" in out, out + error
    assert stage.server.count("GET /download") == 2
    assert (stage.folder / "down" / "fold0.safetensors").read_bytes() == content


def test_files_in_pages_and_in_archives(stage):
    stage.server.rules.cuts = {"fold0.safetensors"}
    stage.upload()
    listed = stage.said("datasets", "files", "newcomer/hms-demo", "--page-size", "2")
    assert "Next Page Token = 2" in listed and "2999" in listed and "manifest" not in listed
    stage.kaggle("datasets", "download", "newcomer/hms-demo", "--unzip", "-p", "down")
    names = sorted(path.name for path in (stage.folder / "down").iterdir())
    assert names == ["empty.txt", "fold0.safetensors", "manifest.json"]
    assert stage.kaggle("competitions", "download", COMPETITION, "-p", "data", "-q")[0] == 0
    with zipfile.ZipFile(stage.folder / "data" / f"{COMPETITION}.zip") as archive:
        assert {name for name in archive.namelist() if not name.endswith("/")} == {"test.csv", "test_eegs/1.parquet"}
    stage.kaggle("competitions", "download", COMPETITION, "-f", "test_eegs/1.parquet", "-p", "data", "-q")
    assert (stage.folder / "data" / "test_eegs" / "1.parquet").read_text() == "test_eegs/1.parquet"
    assert "truth" not in stage.said("competitions", "files", COMPETITION)
    stage.outcome = stage.outcome | {"files": dict.fromkeys(("a.csv", "b.csv", "c.csv"), stage.submission)}
    stage.push()
    stage.said("kernels", "status", "newcomer/hms-inference")
    stage.kaggle("kernels", "output", "newcomer/hms-inference", "-p", "out", "--page-size", "2")
    assert {path.name for path in (stage.folder / "out").glob("*.csv")} == {"a.csv", "b.csv", "c.csv"}


def test_a_defect_of_the_stand_in_looks_like_one(stage, monkeypatch):
    monkeypatch.setattr(stage.server.rules, "dataset_status", lambda body: {}["lost"])
    code, _, error = stage.kaggle("datasets", "status", "newcomer/hms-demo")
    assert code == 1 and "The stand-in broke: KeyError('lost')" in error
    assert stage.kaggle("datasets", "list")[0] == 1  # what it does not know, it says
    assert "does not know ListDatasets" in stage.said("datasets", "list")


def test_faults_from_outside(stage):
    """By a request, or in a file for the command: it kills what it runs, and says so as a shell does."""
    faults = [{"match": "GetDatasetStatus", "kind": "status", "code": 403, "message": "not you"}]
    urllib.request.urlopen(f"{stage.server.address}/stand-in/faults", json.dumps(faults).encode()).read()
    assert "not you" in stage.said("datasets", "status", "newcomer/hms-demo")
    file, root = stage.folder / "faults.json", stage.folder / "other"
    file.write_text(json.dumps([{"match": "GetDatasetStatus", "kind": "kill"}]))
    words = ("--root", root, "--competition", stage.competition, "--solution", stage.solution, "--faults", file)
    ask = f"{shlex.quote(str(KAGGLE))} datasets status newcomer/hms-demo"
    done = command("kernels/fake_kaggle/kaggle_server.py", *words, "--", "bash", "-c", f"{ask}; echo survived")
    assert done.returncode == 128 + 9 and "survived" not in done.stdout, done.stdout + done.stderr
    journal = [json.loads(line) for line in (root / "requests.jsonl").read_text().splitlines()]
    assert [(one["what"], one["status"]) for one in journal] == [("DatasetApiService/GetDatasetStatus", 0)]
