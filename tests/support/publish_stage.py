"""What the tests of publishing share: weights, a kernel and a sandbox run to publish, and a Kaggle to publish to.

The weights are a few bytes and the kernel's runs are canned, so that a publication is as fast as the kaggle client.
"""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import build
from common.files import sha256_of
from common.schema import SUBMISSION_COLUMNS, VOTES
from kaggle_server import KEY, Fault, StandIn
from sandboxing.mounts import fingerprint

PROJECT = Path(__file__).resolve().parents[2]
KERNELS = PROJECT / "kernels"
OWNER, SLUG, EEGS = "newcomer", "hms-tiny", (11, 12, 13)
ANSWER = f"{','.join(SUBMISSION_COLUMNS)}\n" + "".join(f"{eeg},{','.join(['0.1'] * 5)},0.5\n" for eeg in EEGS)


def digest(content):
    return hashlib.sha256(content).hexdigest()


class Stage:
    """A folder with everything a publication needs; a test may break its copy."""

    def __init__(self, folder):
        self.folder, self.out, self.remote = folder, folder / "out", folder / "kaggle"
        self.competition, self.weights, self.kernel = folder / "competition", folder / SLUG, folder / "kernel"
        self.blend, self.sandbox = folder / "blend.json", folder / "sandbox"

    def prepare(self):
        for path in (self.competition, self.weights, self.sandbox):
            path.mkdir(parents=True)
        rows = "".join(f"{eeg},{eeg},1\n" for eeg in EEGS)
        (self.competition / "test.csv").write_text(f"spectrogram_id,eeg_id,patient_id\n{rows}")
        votes = "".join(f"{eeg},{','.join(['1'] * 5)},5\n" for eeg in EEGS)
        (self.competition / "solution.csv").write_text(f"eeg_id,{','.join(VOTES)}\n{votes}")
        (self.folder / "submission.csv").write_text(ANSWER)
        (self.weights / "fold0.safetensors").write_bytes(bytes(range(256)) * 4)
        self.write_weights()
        candidates = [{"name": "convex", "nested_kl": 0.3125, "chosen": True}]
        prior = [0.1, 0.1, 0.1, 0.1, 0.1, 0.5]
        self.blend.write_text(json.dumps({"models": {"tiny": 1.0}, "prior": prior, "candidates": candidates}))
        self.build()
        self.pass_sandbox()
        return self

    def write_weights(self):
        """Manifest and metadata of the weights as they are."""
        config, fold = b'{"name": "tiny"}', (self.weights / "fold0.safetensors").read_bytes()
        entry = {"file": "fold0.safetensors", "sha256": digest(fold), "bytes": len(fold), "fold": 0}
        (self.weights / "config.json").write_bytes(config)
        manifest = {"name": "tiny", "config_sha256": digest(config), "folds": [entry]}
        (self.weights / "manifest.json").write_text(json.dumps(manifest))
        self.change(self.weights / "dataset-metadata.json")

    def change(self, path, **changes):
        """Keys of a metadata file; None takes one out."""
        default = {"id": f"OWNER/{SLUG}", "title": "HMS Tiny", "licenses": [{"name": "CC0-1.0"}]}
        metadata = json.loads(path.read_text()) if path.is_file() else default
        path.write_text(json.dumps({k: v for k, v in {**metadata, **changes}.items() if v is not None}))

    def build(self):
        assert build.main(["--blend", str(self.blend), "--out", str(self.kernel)]) == 0

    def pass_sandbox(self):
        """What kernels/sandbox.py reports of a good run."""
        kernel = {"dropped": [], "warnings": [], "failure": None}
        datasets = {SLUG: fingerprint(self.weights)}
        report = {"ok": True, "kernel_sha256": sha256_of(self.kernel / "kernel.py"), "datasets": datasets}
        (self.sandbox / "report.json").write_text(json.dumps({**report, "kernel": kernel}))

    def copy(self, folder):
        shutil.copytree(self.folder, folder)
        return Stage(folder)

    def run(self, version, datasets, hidden):
        """A canned run of the kernel: it answers, and says something."""
        return {
            "ok": True,
            "message": "",
            "log": "reading\nanswering\n",
            "files": {"submission.csv": str(self.folder / "submission.csv")},
        }

    def kaggle(self, runner=None, **polls):
        polls = {"ready_polls": 1, "run_polls": 1, "score_polls": 1, **polls}
        solution = self.competition / "solution.csv"
        return StandIn(self.remote, self.competition, solution, OWNER, runner=runner or self.run, **polls)

    def words(self, *options):
        words = [KERNELS / "publish.py", "--competition", self.competition, "--kernel", self.kernel]
        words += ["--datasets", self.weights, "--blend", self.blend, "--sandbox", self.sandbox, "--out", self.out]
        return [sys.executable, *map(str, [*words, "--poll", "0.05", *options])]

    def publish(self, server, *options, env=None):
        return subprocess.run(self.words(*options), env=env or server.environment(), capture_output=True, text=True)

    def state(self):
        return json.loads((self.out / "publication.json").read_text())

    def ledger(self):
        path = self.out / "ledger.csv"
        return path.read_text().splitlines()[1:] if path.exists() else []


def publish(stage, server, part, *faults, options=()):
    server.faults = list(faults)
    done = stage.publish(server, "--only", part, *options)
    server.faults = []
    output = done.stdout + done.stderr
    assert "Traceback" not in output and KEY not in output, output
    return done.returncode, " ".join(output.replace("|", " ").split())


PREPARED = {}


def prepared(factory, part=None):
    """A stage in which this part is done, made once for all tests; they copy it. factory: pytest's tmp_path_factory."""
    if part not in PREPARED:
        folder = factory.mktemp("stage") / "stage"
        if part is None:
            PREPARED[part] = Stage(folder).prepare()
        else:
            stage = prepared(factory, {"datasets": None, "kernel": "datasets"}[part]).copy(folder)
            with stage.kaggle() as server:
                done = stage.publish(server, "--only", part)
            assert done.returncode == 0, done.stdout + done.stderr
            PREPARED[part] = stage
    return PREPARED[part]


ALONE, BOTH = 1, -1  # the publisher is killed, its kaggle command lives on; or both, as when a machine goes down


def killed(stage, server, match, kind, whom):
    """A run that is killed at its first request of this kind: "kill", before Kaggle does anything, or "kill-after"."""
    process = subprocess.Popen(
        stage.words("--resume"),
        env=server.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    server.faults = [Fault(match, kind, pid=whom * process.pid)]
    output = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, f"not killed at {match}:\n{output}"
    server.faults = []


def assert_published_once(stage, server, versions=1):
    """One submission, one row, and of everything one version."""
    assert [one["status"] for one in server.submissions] == ["COMPLETE"]
    assert len(stage.ledger()) == 1 and server.submissions[0]["description"] in stage.ledger()[0]
    assert {ref: len(one["versions"]) for ref, one in server.datasets.items()} == {f"{OWNER}/{SLUG}": versions}
    assert [len(one["versions"]) for one in server.kernels.values()] == [versions]
    assert stage.state()["finished"]
