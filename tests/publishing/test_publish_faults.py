"""Each failure of each step: what the publisher says, and that it goes on to exactly one of everything."""

import shutil

import pytest
from publish_stage import OWNER, SLUG, assert_published_once, prepared, publish

from kaggle_server import Fault
from publishing.kaggle_command import Kaggle, KaggleError

NO_SPACE = {"status": "Error", "error": "No space", "url": "x"}
SUBMIT = "competitions submit hms-harmful-brain-activity-classification -f submission.csv -k newcomer/k -v 1 -m x"
GONE = {"files": {}, "log": "reading\nno space left\n", "ok": True, "message": ""}
pytestmark = pytest.mark.slow


@pytest.fixture
def stage_at(tmp_path_factory, tmp_path):
    """A copy of a stage in which this part is done."""
    return lambda part: prepared(tmp_path_factory, part).copy(tmp_path / "stage")


DATASETS = {
    "name taken": (
        Fault("CreateDataset", "instead", body={"status": "Error", "error": "The title is already in use", "url": "x"}),
        "Another dataset of yours has this slug or this title.",
    ),
    "upload fails": (
        Fault("PUT /upload/fold0", "status", code=400, last=99),
        "fold0.safetensors could not be uploaded",
    ),
    "a file is missing": (
        Fault(
            "ListDatasetFiles", "instead", last=5, body={"datasetFiles": [{"name": "config.json", "totalBytes": 16}]}
        ),
        "version 1 on Kaggle is not what was sent: fold0.safetensors is missing; manifest.json is missing. "
        "Run the same command with --resume",
    ),
    "processing fails": (
        Fault("GetDatasetStatus", "body", last=99, body={"status": "FAILED"}),
        "Kaggle could not process hms-tiny (its status is failed).",
    ),
    "never ready": (
        Fault("GetDatasetStatus", "body", last=999, body={"status": "REPROCESSING"}),
        "hms-tiny is ready: not yet after 0.1 minutes.",
    ),
}


def meet_all(stage, server, part, faults):
    """Each fault ends a run that says what happened and what to do; then a run without faults ends well."""
    for name, (fault, said) in faults.items():
        patience = ("--wait-minutes", "0.1") if name.startswith("never") else ()
        code, output = publish(stage, server, part, fault, options=("--resume", *patience))
        assert code == 1 and said in output, f"{name}: {output}"
        # kaggle goes on from its notes on an upload even where the server no longer knows of it.
        assert name != "upload fails" or not (stage.out / "kaggle").exists()
    code, output = publish(stage, server, part, options=("--resume",))
    assert code == 0, output


def test_each_failure_of_the_upload_is_named_and_resume_goes_on(stage_at):
    stage = stage_at(None)
    with stage.kaggle() as server:
        meet_all(stage, server, "datasets", DATASETS)
        # The one that Kaggle could not process, and the one after it.
        assert [len(one["versions"]) for one in server.datasets.values()] == [2]
        assert stage.state()["datasets"][SLUG]["version"] == 2 and stage.state()["parked"]


def test_what_passes_by_itself_is_waited_for(stage_at):
    """Too many requests, Kaggle's own errors, broken connections: on the way to the dataset nothing is done twice."""
    stage = stage_at(None)
    with stage.kaggle() as server:
        server.client_warning = True  # lines before the JSON
        faults = [
            Fault("GetDatasetStatus", "status", code=429, message="Too Many Requests"),
            Fault("GetDataset", "drop", nth=4),
            Fault("CreateDataset", "drop-after"),
            Fault("ListDatasetFiles", "status", code=503, last=2),
        ]
        code, output = publish(stage, server, "datasets", *faults)
        assert code == 0, output
        for said in ("takes no more requests", "connection to Kaggle broke", "error of its own (5xx)", "it arrived"):
            assert said in output, output
        assert [len(one["versions"]) for one in server.datasets.values()] == [1]


def test_changed_weights_make_a_second_version_once(stage_at):
    stage = stage_at("datasets")
    (stage.weights / "fold0.safetensors").write_bytes(b"better" * 100)
    stage.write_weights()
    stage.pass_sandbox()
    with stage.kaggle() as server:
        code, output = publish(stage, server, "datasets", Fault("CreateDatasetVersion", "drop-after"))
        assert code == 0 and "fold0.safetensors has 1,024 bytes instead of 600" in output, output
        versions = server.datasets[f"{OWNER}/{SLUG}"]["versions"]
        assert len(versions) == 2 and stage.state()["datasets"][SLUG]["version"] == 2
        server.datasets[f"{OWNER}/{SLUG}"]["private"] = False
        (stage.weights / "fold0.safetensors").write_bytes(b"best" * 100)
        stage.write_weights()
        stage.pass_sandbox()
        code, output = publish(stage, server, "datasets")
        assert code == 2 and "hms-tiny is public on Kaggle" in output and len(versions) == 2


SAID_BY_THE_CLIENT = [
    ("credentials", "datasets status newcomer/x", Fault("GetDatasetStatus", "status", code=401)),
    ("connection", "kernels push -p {kernel}", Fault("SaveKernel", "drop")),
    ("dataset refused", "datasets create -p {other}", Fault("CreateDataset", "instead", body=NO_SPACE)),
    ("dataset refused", "datasets version -p {weights} -m x", Fault("Version", "instead", body=NO_SPACE)),
    ("kernel not found", "kernels push -p {kernel}", Fault("Save", "instead", body={"error": "Notebook not found"})),
    ("gpu quota", "kernels push -p {kernel}", Fault("Save", "instead", body={"error": "Weekly GPU quota exceeded"})),
    ("forbidden", "kernels push -p {kernel}", Fault("SaveKernel", "status", code=403)),
    ("kernel not accessible", "kernels status newcomer/other/1", Fault("GetKernelSessionStatus", "status", code=403)),
    ("rate limit", SUBMIT, Fault("CreateCodeSubmission", "status", code=429)),
    ("rules", SUBMIT, Fault("CreateCodeSubmission", "status", code=403)),
    ("submission target", SUBMIT, Fault("CreateCodeSubmission", "status", code=404)),
    ("version not complete", SUBMIT, Fault("CreateCodeSubmission", "status", code=400, message="is not complete")),
]


def test_the_words_of_the_real_client(stage_at, monkeypatch):
    stage = stage_at("kernel")
    upload = stage.out / "upload"
    shutil.copytree(upload / SLUG, upload / "other")
    stage.change(upload / "other" / "dataset-metadata.json", id=f"{OWNER}/hms-other", title="HMS Other")
    places = {"kernel": upload / "hms-inference", "weights": upload / SLUG, "other": upload / "other"}
    with stage.kaggle() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        for name, words, fault in SAID_BY_THE_CLIENT:
            server.faults = [fault]
            with pytest.raises(KaggleError) as failed:
                Kaggle().change(*words.format(**places).split())
            assert failed.value.failure.name == name, f"{words}: {failed.value}"


PUSHES = {
    "a dataset is dropped": (
        Fault("SaveKernel", "body", body={"invalidDatasetSources": [f"{OWNER}/{SLUG}"]}),
        f"Kaggle attached no dataset ['{OWNER}/{SLUG}']",
    ),
    "rules not accepted": (
        Fault("SaveKernel", "body", body={"invalidCompetitionSources": ["hms"]}),
        "its rules are not accepted",
    ),
    "cancelled": (
        Fault("GetKernelSessionStatus", "instead", body={"status": "CANCEL_ACKNOWLEDGED"}),
        "Kernel version 3 ended with CANCEL_ACKNOWLEDGED",
    ),
    "never complete": (
        Fault("GetKernelSessionStatus", "instead", last=999, body={"status": "QUEUED"}),
        "newcomer/hms-inference/4 has run: not yet after 0.1 minutes.",
    ),
}


def test_each_failure_of_the_push_is_named_and_resume_goes_on(stage_at):
    stage = stage_at("datasets")
    with stage.kaggle() as server:
        meet_all(stage, server, "kernel", PUSHES)
        # Two that lost a source, one that was cancelled, the good one.
        assert stage.state()["kernel"]["complete"] and stage.state()["kernel"]["version"] == 4
        assert [len(one["versions"]) for one in server.kernels.values()] == [4]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("SaveKernel", "status", code=503),
        Fault("SaveKernel", "drop-after"),
        Fault("SaveKernel", "body", body={"versionNumber": 0}),
        Fault("GetKernelSessionStatus", "status", code=403, last=3),
    ],
    ids=lambda fault: f"{fault.match} {fault.kind}",
)
def test_one_push_makes_one_version(stage_at, fault):
    stage = stage_at("datasets")
    with stage.kaggle() as server:
        code, output = publish(stage, server, "kernel", fault)
        assert code == 0, output
        assert [len(one["versions"]) for one in server.kernels.values()] == [1]
        assert stage.state()["kernel"]["version"] == 1


def test_somebody_else_pushed(stage_at):
    """The answer to the push was lost, and what is newest on Kaggle is not this kernel."""
    stage = stage_at("datasets")
    with stage.kaggle() as server:
        other = {"metadata": {"currentVersionNumber": 9}, "blob": {"source": "print()", "kernelType": "script"}}
        faults = Fault("SaveKernel", "drop"), Fault("/GetKernel", "instead", nth=2, body=other)
        code, output = publish(stage, server, "kernel", *faults)
        assert code == 1 and "Version 9 of newcomer/hms-inference on Kaggle is not this kernel" in output, output


OUTPUTS = {
    "error": ({**GONE, "ok": False, "message": "exit code 1"}, "ended with ERROR: exit code 1", "no space left"),
    "nothing": (GONE, "left no submission.csv but hms-inference.log", "no space left"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_kernel_that_fails_shows_the_end_of_its_log(stage_at, name):
    stage = stage_at("datasets")
    outcome, said, log = OUTPUTS[name]
    with stage.kaggle(runner=lambda *_: outcome) as server:
        code, output = publish(stage, server, "kernel")
        assert code == 1 and said in output and log in output, output


def test_an_invalid_submission_is_not_submitted(stage_at):
    stage = stage_at("datasets")
    text = (stage.folder / "submission.csv").read_text().replace("12,0.1", "99,0.7")
    (stage.folder / "submission.csv").write_text(text)
    with stage.kaggle() as server:
        code, output = publish(stage, server, "kernel")
        assert code == 1 and "1 rows missing: eeg_id 12" in output and not stage.state()["kernel"]["complete"]
        code, output = publish(stage, server, "submit", options=("--resume",))
        assert code == 1 and "No kernel version of this publication has run yet" in output
        assert server.submissions == []


SUBMISSIONS = {
    "limit": (
        Fault("CreateCodeSubmission", "status", code=400, message="You have reached your daily submission limit"),
        "All submissions of today are used. A new day begins at 0:00 UTC.",
    ),
    "limit known": (
        Fault("GetSubmissionLimits", "instead", last=9, body={"numToday": 5, "numTotal": 5, "numAllowedNow": 0}),
        "All 5 submissions of today are used.",
    ),
    "never scored": (
        Fault("/GetSubmission", "instead", nth=3, last=999, body={"ref": 1, "status": "PENDING"}),
        "is scored: not yet after 0.1 minutes.",
    ),
}


def test_each_failure_of_submitting_is_named_and_resume_submits_once(stage_at):
    stage = stage_at("kernel")
    with stage.kaggle() as server:
        meet_all(stage, server, "submit", SUBMISSIONS)
        assert_published_once(stage, server)


@pytest.mark.parametrize("kind", ["status", "drop", "drop-after"])
def test_one_submission_however_the_connection_breaks(stage_at, kind):
    """Also when the list of submissions lags behind."""
    stage = stage_at("kernel")
    with stage.kaggle() as server:
        lag = Fault("ListSubmissions", "instead", last=2, body={"submissions": []})
        code, output = publish(stage, server, "submit", Fault("CreateCodeSubmission", kind, code=503), lag)
        assert code == 0 and "Going on from where it broke" in output, output
        assert_published_once(stage, server)


def test_a_submission_that_fails_is_in_the_ledger_with_its_reason(stage_at):
    stage = stage_at("kernel")
    with stage.kaggle(runner=lambda *_: {**GONE, "ok": False}) as server:
        code, output = publish(stage, server, "submit")
        assert code == 1 and "was not scored: Notebook Threw Exception" in output, output
        assert len(stage.ledger()) == 1 and stage.ledger()[0].endswith("ERROR: Notebook Threw Exception")
        code, output = publish(stage, server, "submit", options=("--resume",))
        assert code == 0 and "Nothing to go on with" in output
        assert len(stage.ledger()) == len(server.submissions) == 1
