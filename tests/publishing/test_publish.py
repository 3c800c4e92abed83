"""The whole chain: weights -> dataset -> kernel -> complete -> submission -> score -> ledger, also when killed."""

import csv
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import EXPERIMENTS, command
from publish_stage import BOTH, KERNELS, OWNER, assert_published_once, killed, prepared

from infer.validate import score
from kaggle_server import KEY, StandIn


@pytest.fixture
def stage(tmp_path_factory, tmp_path):
    return prepared(tmp_path_factory).copy(tmp_path / "stage")


def test_a_publication_that_is_killed_at_the_submission_is_published_once(stage):
    """Everything in one run; Kaggle has the submission, its answer is lost with the publisher."""
    with stage.kaggle() as server:
        killed(stage, server, "/CreateCodeSubmission", "kill-after", BOTH)
        assert len(server.submissions) == 1 and stage.ledger() == []
        done = stage.publish(server, "--resume")
        assert done.returncode == 0 and KEY not in done.stdout + done.stderr, done.stdout + done.stderr
        assert_published_once(stage, server)
        again = stage.publish(server)
        assert again.returncode == 2 and "published already" in again.stderr, again.stdout + again.stderr
        assert_published_once(stage, server)
    shown = command("kernels/publish.py", "history", "--ledger", stage.out / "ledger.csv")
    assert shown.returncode == 0 and shown.stdout.count("0.3125") == 1, shown.stdout + shown.stderr
    assert (stage.out / "ledger.png").read_bytes()[:4] == b"\x89PNG"


@pytest.fixture(scope="module")
def published(road, tmp_path_factory):
    """The road's weights, published by the commands that a user types; what it printed, and the server after it."""
    folder = tmp_path_factory.mktemp("published")
    built = command("kernels/build.py", "--blend", road.blend_file, "--out", folder / "kernel")
    assert built.returncode == 0, built.stderr
    shared = ("--competition", road.competition, "--datasets", *road.datasets)
    ran = command("kernels/sandbox.py", folder / "kernel", *shared, "--out", folder / "sandbox", "--quiet")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    before = {path: path.read_bytes() for path in road.weights.rglob("*.json")}
    with StandIn(folder / "kaggle", road.competition, road.competition / "truth" / "solution.csv", OWNER) as server:
        words = ("--kernel", folder / "kernel", *shared, "--blend", road.blend_file, "--sandbox", folder / "sandbox")
        words = (*words, "--out", folder / "out", "--poll", "0.5", "--message", "the road")
        plan = command("kernels/publish.py", *words, "--dry-run", env=server.environment())
        assert plan.returncode == 0, plan.stdout + plan.stderr
        sent = [one["what"] for one in server.requests]
        done = command("kernels/publish.py", *words, env=server.environment())
        assert done.returncode == 0, done.stdout + done.stderr
        yield folder, plan.stdout, sent, done.stdout, server
    assert before == {path: path.read_bytes() for path in road.weights.rglob("*.json")}  # the user's folders stay


@pytest.mark.slow
def test_the_road_is_published_and_scored(road, published):
    folder, _, _, output, server = published
    assert {ref: len(one["versions"]) for ref, one in server.datasets.items()} == {
        f"{OWNER}/hms-{name}": 1 for name in EXPERIMENTS
    }
    kernel = server.kernels[f"{OWNER}/hms-inference"]["versions"]
    assert len(kernel) == 1 and kernel[0]["source"] == (folder / "kernel" / "kernel.py").read_text()
    assert kernel[0]["enableInternet"] is False and kernel[0]["isPrivate"] is True
    with (folder / "out" / "ledger.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(server.submissions) == 1
    row, submission = rows[0], server.submissions[0]
    assert row["message"] == submission["description"] and re.fullmatch(r"the road \[\d{6}-\w{8}\]", row["message"])
    assert (row["status"], row["kernel_version"]) == ("COMPLETE", "1")
    assert row["datasets"] == "hms-tiny-image@1 hms-tiny-wave@1"
    assert (row["public_score"], row["private_score"]) == (submission["publicScore"], submission["privateScore"])
    fetched = folder / "out" / "published" / "submission.csv"
    kl, rows_scored = score(fetched, road.competition / "truth" / "solution.csv")
    # Kaggle scores every other row in public, here 5 of 9.
    assert rows_scored == 9
    assert (5 * float(row["public_score"]) + 4 * float(row["private_score"])) / 9 == pytest.approx(kl, abs=1e-4)
    assert f"scored: public {row['public_score']}" in output and "submission.csv has 9 rows, valid" in output


@pytest.mark.slow
def test_a_dry_run_shows_the_commands_and_sends_nothing(published):
    folder, plan, sent, output, _ = published
    assert not [what for what in sent if re.search(r"Create|Save|Upload|PUT", what)]
    promised = [line for line in plan.split("nothing was sent:")[1].splitlines() if line.startswith("$ ")]
    unmarked = re.sub(r"\[\d{6}-\w{8}\]", "[mark]", output)
    for line in promised:
        words = re.sub(r"\[\d{6}-\w{8}\]", "[mark]", line.replace("VERSION", "1"))
        if "submissions " not in words:
            assert words in unmarked, words
    assert sum("datasets create" in line for line in promised) == 2 and "kernels push" in "".join(promised)
    kept = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert KEY not in plan + output and len(kept) > 10
    assert not [path for path in kept if KEY.encode() in path.read_bytes()]


@pytest.mark.slow
def test_the_same_bytes_again_make_no_new_dataset_version(stage):
    with stage.kaggle() as server:
        for versions in (1, 2):
            anew = ("--restart",) * (versions == 2)
            done = stage.publish(server, *anew, env=server.environment(VERBOSE="1", KAGGLE_COMPETITION="other"))
            assert done.returncode == 0 and KEY not in done.stdout + done.stderr, done.stdout + done.stderr
            assert [len(one["versions"]) for one in server.datasets.values()] == [1]
            assert [len(one["versions"]) for one in server.kernels.values()] == [versions]
            assert len(stage.ledger()) == len(server.submissions) == versions
    assert "Kaggle holds these bytes as version 1" in done.stdout


@pytest.mark.slow
def test_part_by_part_with_a_token(stage):
    """`--only` three times is one publication; kaggle itself finds out whose token it is."""
    with stage.kaggle() as server:
        env = server.environment(KAGGLE_API_TOKEN="KGAT_" + "0f" * 16)
        del env["KAGGLE_USERNAME"], env["KAGGLE_KEY"]
        early = stage.publish(server, "--only", "kernel", env=env)
        assert early.returncode == 1 and "publish them with --only datasets first" in early.stderr
        for part in ("datasets", "kernel", "submit"):
            message = ("--message", "größer") * (part == "submit")  # in letters that the terminal may not have
            done = stage.publish(server, "--only", part, *message, env=env | {"PYTHONIOENCODING": "ascii"})
            assert done.returncode == 0 and "KGAT" not in done.stdout, done.stdout + done.stderr
        assert_published_once(stage, server)
        assert server.submissions[0]["description"].startswith("größer [")


@pytest.mark.slow
def test_an_unfinished_publication_is_named(stage):
    with stage.kaggle() as server:
        server.rules.rules_accepted = False
        assert stage.publish(server).returncode == 1
        server.rules.rules_accepted = True
        again = stage.publish(server)
        assert again.returncode == 2 and re.search(r"has not ended \(1 of 1 datasets on Kaggle\)", again.stderr)
        assert "--resume" in again.stderr and "--restart" in again.stderr
        assert "nothing was sent" in stage.publish(server, "--dry-run", "--resume").stdout
        (stage.weights / "fold0.safetensors").write_bytes(b"other")
        stage.write_weights()
        stage.pass_sandbox()
        other = stage.publish(server, "--resume")
        assert other.returncode == 2 and "the fingerprint of hms-tiny was" in other.stderr, other.stderr
        assert server.submissions == []


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(stage):
    """At once, also while a kaggle command runs, and --resume does."""
    with stage.kaggle(run_polls=1_000_000) as server:
        process = subprocess.Popen(stage.words(), env=server.environment(), stdout=-1, stderr=-1, text=True)
        while not server.count("GetKernelSessionStatus"):
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate()
        assert process.returncode == 130 and printed.rstrip().endswith("--resume"), printed
        server.rules.run_polls = 1
        assert stage.publish(server, "--resume").returncode == 0
        assert_published_once(stage, server)


HOLDER = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, {kernels!r})
from publishing.state import sole_publisher
with sole_publisher(Path({folder!r})) as lock:
    print("held", flush=True)
    {what}
"""


@pytest.mark.parametrize("end", ["publisher", "orphan"])
def test_one_publisher_at_a_time(tmp_path, end):
    """A second one waits for the first, or for the kaggle command that a killed one left behind with its lock."""
    orphan = "subprocess.Popen(['cat'], pass_fds=[lock], stdout=subprocess.DEVNULL); os.kill(os.getpid(), 9)"
    what = "input()" if end == "publisher" else orphan
    scripts = [HOLDER.format(kernels=str(KERNELS), folder=str(tmp_path), what=one) for one in (what, "pass")]
    first = subprocess.Popen([sys.executable, "-c", scripts[0]], stdin=-1, stdout=-1, text=True)
    assert first.stdout.readline() == "held\n"
    second = subprocess.Popen([sys.executable, "-c", scripts[1]], stdout=-1, text=True)
    assert second.stdout.readline().startswith("waiting for another publisher")
    assert second.poll() is None
    first.communicate("\n")  # both `input` and `cat` end
    assert second.communicate()[0] == "held\n" and second.returncode == 0


@pytest.mark.slow
def test_without_credentials_or_kaggle(stage):
    with stage.kaggle() as server:
        env = server.environment()
        del env["KAGGLE_USERNAME"], env["KAGGLE_KEY"]
        done = stage.publish(server, env=env)
        assert done.returncode == 1 and "kaggle auth login" in done.stderr and server.requests == []
        (stage.folder / "six.py").write_text("raise ModuleNotFoundError(\"No module named 'six'\")")
        done = stage.publish(server, env=server.environment(PYTHONPATH=str(stage.folder)))
        assert done.returncode == 1 and "lacks the package six" in done.stderr and "pip install" in done.stderr
        nobody = server.environment(http_proxy="http://127.0.0.1:9")
        done = stage.publish(server, env=nobody)
        assert done.returncode == 1 and "connection to Kaggle broke" in done.stderr and "Again in" in done.stdout
        assert not (stage.out / "publication.json").exists()
