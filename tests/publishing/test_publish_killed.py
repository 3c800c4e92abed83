"""Killed anywhere, a publication goes on with --resume, and nothing is sent twice."""

import signal
import subprocess
import sys

import pytest
from publish_stage import ALONE, BOTH, KERNELS, assert_published_once, killed, prepared

pytestmark = pytest.mark.slow
# In the order of a publication. "kill": before Kaggle does anything; "kill-after": when it has, before its answer.
REQUESTS = [
    ("PUT /upload/manifest.json", "kill", BOTH),
    ("/CreateDataset", "kill", BOTH),
    ("/CreateDataset", "kill-after", BOTH),
    ("/ListDatasetFiles", "kill", ALONE),
    ("/SaveKernel", "kill", BOTH),
    ("/SaveKernel", "kill-after", ALONE),
    ("/GetKernelSessionStatus", "kill", BOTH),
    ("/ListKernelSessionOutput", "kill-after", ALONE),
    ("/CreateCodeSubmission", "kill", BOTH),
    ("/CreateCodeSubmission", "kill-after", BOTH),
    ("/GetSubmission", "kill", ALONE),
]
# Between two steps: before this is written down, when kaggle has done it already.
SAVES = [
    "state.datasets['hms-tiny'].expected",
    "state.datasets['hms-tiny'].version",
    "state.kernel.expected",
    "state.kernel.version",
    "state.kernel.complete",
    "state.submission.asked",
    "state.submission.ref",
    "state.submission.status",
    "state.finished",
]
KILLED_AT_SAVE = """
import os, signal, sys
sys.path.insert(0, {kernels!r})
import publish, publishing.job as publish_job
def save(file, state, really=publish_job.save):
    if {condition}:
        os.kill(os.getpid(), signal.SIGKILL)
    really(file, state)
publish_job.save = save
sys.exit(publish.main(sys.argv[1:]))
"""


@pytest.fixture
def stage(tmp_path_factory, tmp_path):
    return prepared(tmp_path_factory).copy(tmp_path / "stage")


def finish(stage, server):
    done = stage.publish(server, "--resume")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_published_once(stage, server)


def test_killed_at_each_request_in_turn(stage):
    with stage.kaggle() as server:
        for match, kind, whom in REQUESTS:
            killed(stage, server, match, kind, whom)
        finish(stage, server)


def test_an_upload_that_outlives_its_publisher_is_not_repeated(stage):
    """The kaggle command goes on alone and makes the version; whoever resumes waits for its end."""
    with stage.kaggle() as server:
        killed(stage, server, "PUT /upload/config.json", "kill", ALONE)
        finish(stage, server)


def test_killed_before_each_note_in_turn(stage):
    with stage.kaggle() as server:
        for condition in SAVES:
            script = KILLED_AT_SAVE.format(kernels=str(KERNELS), condition=condition)
            words = [sys.executable, "-c", script, *stage.words("--resume")[2:]]
            done = subprocess.run(words, env=server.environment(), capture_output=True, text=True)
            assert done.returncode == -signal.SIGKILL, f"not killed before {condition}:\n{done.stdout}{done.stderr}"
        finish(stage, server)
