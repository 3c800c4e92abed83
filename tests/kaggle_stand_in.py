"""A stand-in for Kaggle's server on loopback, for the unmodified `kaggle` client.

    python tests/kaggle_stand_in.py --root DIR --competition DIR --solution CSV -- COMMAND ...

runs COMMAND with an environment in which `kaggle` talks to it, and ends with the command's exit code. State lies in
--root and survives; pushed kernels are really run on the pushed datasets, in the project's sandbox.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
from kaggle_rules import Refusal, Rules, sha256

from common.metric import kl_divergence
from common.schema import VOTES

PROJECT = Path(__file__).resolve().parents[1]
COMPETITION = "hms-harmful-brain-activity-classification"
DEAD = "http://127.0.0.1:9"  # nobody listens: what tries to reach the real site ends at once
KEY = "0123456789abcdef" * 2
FAULTS = {"status", "body", "instead", "drop", "drop-after", "kill", "kill-after"}


@dataclass
class Fault:
    """What goes wrong with the nth to last-th request whose "Service/Method" or "PUT /upload" has `match` in it.

    kind: "status": HTTP `code` with `message`; "body": keys of the answer are replaced by `body`; "instead": `body`
    is the answer and nothing else happens; "drop": the connection is closed before anything happens, "drop-after":
    after it has; "kill" and "kill-after": so is process `pid`, and what it started goes on without it.
    """

    match: str
    kind: str
    nth: int = 1
    last: int | None = None  # default: nth
    code: int = 500
    message: str = "Something went wrong"
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    pid: int | None = None
    seen: int = 0

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"a fault of kind {self.kind!r}; there are {', '.join(sorted(FAULTS))}")

    def strikes(self, what: str) -> bool:
        if self.match not in what:
            return False
        self.seen += 1
        return self.nth <= self.seen <= (self.last or self.nth)


class StandIn:
    """with StandIn(root, competition=DIR, solution=CSV) as server: subprocess.run(..., env=server.environment())

    runner: run(version, datasets, hidden) as Rules has it; default: the sandbox. cache: a folder of finished runs that
    several stand-ins may share. hidden: competition folder of the hidden re-run, default: the same.
    """

    def __init__(
        self,
        root: Path,
        competition: Path,
        solution: Path,
        owner: str = "newcomer",
        runner: Callable[..., dict[str, Any]] | None = None,
        hidden: Path | None = None,
        cache: Path | None = None,
        **polls: int,
    ) -> None:
        self.root, self.competition, self.hidden, self.owner = root, competition, hidden or competition, owner
        self.solution, self.cache = solution, cache or root / "runs"
        self.faults: list[Fault] = []
        self.requests: list[dict[str, Any]] = []
        self.client_warning = False  # as when the client is older than the server
        self.rules = Rules(root, COMPETITION, runner or self.run_in_sandbox, self.score, **polls)

    def __enter__(self) -> "StandIn":
        stand_in = self

        class Handler(RequestHandler):
            kaggle = stand_in

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        for thread in self.rules.threads:
            thread.join(timeout=60)

    def environment(self, **more: str) -> dict[str, str]:
        """A clean environment whose `kaggle` finds this server, through the client's own switches alone."""
        home, temporary = self.root / "home", self.root / "tmp"
        for folder in (home / ".kaggle", temporary):
            folder.mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "LD_LIBRARY_PATH") if name in os.environ}
        proxy = f"http://127.0.0.1:{self.server.server_address[1]}"
        return kept | {
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": proxy,
            "https_proxy": DEAD,
            "no_proxy": "",
            "KAGGLE_USERNAME": self.owner,
            "KAGGLE_KEY": KEY,
            **more,
        }

    def count(self, match: str) -> int:
        """Requests that went through."""
        return sum(match in one["what"] and one["status"] == 200 for one in self.requests)

    @property
    def submissions(self) -> list[dict[str, Any]]:
        return self.rules.state["submissions"]

    @property
    def datasets(self) -> dict[str, Any]:
        return self.rules.state["datasets"]

    @property
    def kernels(self) -> dict[str, Any]:
        return self.rules.state["kernels"]

    # ---- what Kaggle does with a kernel and with its submission.csv

    def run_in_sandbox(self, version: dict[str, Any], datasets: dict[str, Path], hidden: bool) -> dict[str, Any]:
        """The kernel on the datasets, in the sandbox; the same run a second time from the cache."""
        parts = [
            version["source"],
            version["kernelType"],
            str(hidden),
            str(self.hidden if hidden else self.competition),
        ]
        for ref, folder in sorted(datasets.items()):
            files = sorted(path for path in folder.iterdir())
            parts += [ref, *(f"{path.name} {sha256(path.read_bytes())}" for path in files)]
        out = self.cache / sha256("\0".join(parts).encode())
        if not (out / "outcome.json").is_file():
            self.run_once(version, datasets, hidden, out)
        outcome = json.loads((out / "outcome.json").read_text())
        return outcome | {"files": {name: str(out / "files" / name) for name in outcome["files"]}}

    def run_once(self, version: dict[str, Any], datasets: dict[str, Path], hidden: bool, out: Path) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(dir=self.cache))
        notebook = version["kernelType"] == "notebook"
        code = "kernel.ipynb" if notebook else "kernel.py"
        meta = {"code_file": code, "kernel_type": version["kernelType"], "enable_internet": False}
        meta |= {"competition_sources": [COMPETITION], "dataset_sources": list(datasets)}
        (stage / "kernel").mkdir()
        (stage / "kernel" / code).write_text(version["source"])
        (stage / "kernel" / "kernel-metadata.json").write_text(json.dumps(meta))
        command = [sys.executable, str(PROJECT / "kernels" / "sandbox.py"), str(stage / "kernel"), "--quiet"]
        command += ["--competition", str(self.hidden if hidden else self.competition), "--out", str(stage / "out")]
        command += ["--datasets", *map(str, datasets.values())] if datasets else []
        done = subprocess.run([*command, *(["--rerun"] if hidden else [])], capture_output=True, text=True, check=False)
        report = stage / "out" / "report.json"
        (stage / "files").mkdir()
        if report.is_file():
            facts = json.loads(report.read_text())
            if (stage / "out" / "submission.csv").is_file():
                shutil.copyfile(stage / "out" / "submission.csv", stage / "files" / "submission.csv")
            if facts["kernel"] is not None:
                (stage / "files" / "report.json").write_text(json.dumps(facts["kernel"], indent=1))
        log = (stage / "out" / "log.txt").read_text() if report.is_file() else done.stderr
        outcome = {"ok": done.returncode == 0, "message": done.stdout.strip().split("\n")[-1], "log": log}
        outcome["files"] = sorted(path.name for path in (stage / "files").iterdir())
        (stage / "outcome.json").write_text(json.dumps(outcome))
        try:
            stage.rename(out)
        except OSError:  # another stand-in was as fast
            shutil.rmtree(stage)

    def score(self, submission: Path) -> tuple[float, float]:
        """KL on every other row, and on the others."""
        solution = pl.read_csv(self.solution).sort("eeg_id", maintain_order=True)
        answers = pl.read_csv(submission).sort("eeg_id", maintain_order=True)
        if answers["eeg_id"].to_list() != solution["eeg_id"].to_list():
            raise ValueError("ids of the submission do not match")
        votes = solution.select(VOTES).to_numpy()
        kl = kl_divergence(votes / votes.sum(axis=1, keepdims=True), answers.select(VOTES).to_numpy())
        return float(kl[::2].mean()), float(kl[1::2].mean())


class RequestHandler(BaseHTTPRequestHandler):
    kaggle: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing: the journal has it all."""

    def do_POST(self) -> None:
        self.handle_api(urlsplit(self.path).path)

    def handle_api(self, path: str) -> None:
        match = re.fullmatch(r"/api/v1/(?:\w+\.)?(\w+)/(\w+)", path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if match is None:
            self.answer(404, {"code": 404, "message": f"no such service: {path}"})
            return
        what = f"{match[1]}/{match[2]}"
        body = json.loads(content or b"{}")
        with self.kaggle.rules.lock:
            self.with_faults(what, body, lambda: self.call(match[2], body))

    def with_faults(self, what: str, body: dict[str, Any], work: Callable[[], Any]) -> None:
        """Do the work and answer with what it gives, or what a fault makes of both."""
        entry = {"what": what, "body": {**body, "text": "<source>"} if "text" in body else body, "status": 0}
        self.kaggle.requests.append(entry)
        struck = [fault for fault in self.kaggle.faults if fault.strikes(what)]
        fault = struck[0] if struck else None
        kind = fault.kind if fault else ""
        if fault and kind in ("kill", "drop"):
            self.cut(fault)
            return
        headers: dict[str, str] = {}
        try:
            if fault and kind == "status":
                headers = fault.headers
                raise Refusal(fault.code, fault.message)
            answer = fault.body if fault and kind == "instead" else work()
            entry["status"] = 200
        except Refusal as refusal:
            entry["status"] = refusal.code
            answer = {"code": refusal.code, "message": refusal.message}
        self.kaggle.rules.save()
        if fault and kind in ("kill-after", "drop-after"):
            self.cut(fault)
            return
        if fault and kind == "body":
            answer = {**answer, **fault.body}
        self.answer(entry["status"], answer, headers)

    def cut(self, fault: Fault) -> None:
        if fault.pid is not None:
            os.kill(fault.pid, signal.SIGKILL)
        self.close_connection = True

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        headers = headers or {}
        if isinstance(body, dict) and "Location" in body and status == 200:
            status, headers, content = 302, {"Location": body["Location"]}, b""
        self.send_response(status)
        if self.kaggle.client_warning:
            headers = {**headers, "X-Kaggle-ApiVersion": "99.0.0"}
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def call(self, method: str, body: dict[str, Any]) -> Any:
        if "Authorization" not in self.headers:
            raise Refusal(401, "Unauthorized: you must authenticate before you can access this content")
        rules, host = self.kaggle.rules, "http://localhost"
        methods: dict[str, Callable[[], Any]] = {
            "IntrospectToken": lambda: {"active": True, "username": self.kaggle.owner, "scope": "", "clientId": ""},
            "StartBlobUpload": lambda: rules.start_upload(body, host),
            "CreateDataset": lambda: rules.create_dataset(body),
            "CreateDatasetVersion": lambda: rules.create_dataset_version(body),
            "GetDatasetStatus": lambda: rules.dataset_status(body),
            "GetDataset": lambda: rules.get_dataset(body),
            "ListDatasetFiles": lambda: rules.list_dataset_files(body),
            "GetDatasetMetadata": lambda: rules.dataset_metadata(body),
            "DownloadDataset": lambda: {"Location": f"{host}/download/{rules.dataset_file(body)}/{body['fileName']}"},
            "SaveKernel": lambda: rules.save_kernel(body),
            "GetKernelSessionStatus": lambda: rules.kernel_status(body),
            "ListKernelSessionOutput": lambda: rules.kernel_output(body, host),
            "GetKernel": lambda: rules.get_kernel(body),
            "CreateCodeSubmission": lambda: rules.submit(body),
            "GetSubmissionLimits": lambda: rules.limits(body),
            "ListSubmissions": lambda: rules.list_submissions(body),
            "GetSubmission": lambda: rules.get_submission(body),
        }
        if method not in methods:
            raise Refusal(404, f"The stand-in does not know {method}")
        return methods[method]()

    # ---- files

    def do_PUT(self) -> None:
        token = urlsplit(self.path).path.removeprefix("/upload/")
        content = self.read_body()
        with self.kaggle.rules.lock:
            self.with_faults(
                f"PUT /upload/{self.kaggle.rules.state['blobs'].get(token, {}).get('name', '?')}",
                {},
                lambda: self.store(token, content),
            )

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):  # an empty file comes in chunks
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def store(self, token: str, content: bytes) -> None:
        rules = self.kaggle.rules
        if token not in rules.state["blobs"]:
            raise Refusal(404, "upload expired")
        if self.headers.get("Content-Range", "").startswith("bytes */"):
            raise Refusal(404, "upload expired")  # nothing of it was kept: the client starts again
        if len(content) != rules.state["blobs"][token]["size"]:
            raise Refusal(400, "fewer bytes than announced")
        rules.blob_path(token).write_bytes(content)

    def do_GET(self) -> None:
        parts = urlsplit(self.path).path.strip("/").split("/")
        rules = self.kaggle.rules
        try:
            path = rules.blob_path(parts[1]) if parts[0] == "download" else rules.kernel_file(*parts[1:5])
            content = path.read_bytes()
        except (Refusal, OSError, TypeError):
            self.answer(404, {"code": 404, "message": f"Not found: {self.path}"})
            return
        with rules.lock:
            self.kaggle.requests.append({"what": f"GET {'/'.join(parts)}", "body": {}, "status": 200})
        self.send_response(200)
        stamp = "Wed, 01 Jan 2025 00:00:00 GMT"
        for name, value in (("Content-Length", len(content)), ("ETag", sha256(content)), ("Last-Modified", stamp)):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="where its state lies")
    parser.add_argument("--competition", type=Path, required=True, metavar="DIR", help="competition folder to mount")
    parser.add_argument("--solution", type=Path, required=True, metavar="CSV", help="true votes of the test set")
    parser.add_argument("--owner", default="newcomer", help="the Kaggle user (default: newcomer)")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --: what to run")
    options = parser.parse_args()
    command = [sys.executable if options.command[0] == "python" else options.command[0], *options.command[1:]]
    root = options.root.resolve()
    with StandIn(root, options.competition.resolve(), options.solution.resolve(), options.owner) as server:
        return subprocess.run(command, env=server.environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
