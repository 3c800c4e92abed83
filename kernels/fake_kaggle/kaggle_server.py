"""A stand-in for Kaggle's server on loopback, for the unmodified `kaggle` client.

    python kernels/fake_kaggle/kaggle_server.py --root DIR --competition DIR --solution CSV -- COMMAND ...

runs COMMAND with an environment in which `kaggle` talks to it, and ends with the command's exit code. State lies in
--root and survives; pushed kernels are really run on the pushed datasets, in the project's sandbox.
"""

import argparse
import os
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kaggle_http import KEY, Fault, RequestHandler
from kaggle_kernels import Run
from kaggle_rules import Rules
from kaggle_runs import SandboxRuns, score

COMPETITION = "hms-harmful-brain-activity-classification"
DEAD = "http://127.0.0.1:9"  # nobody listens: what tries to reach the real site ends at once
PATIENCE = 60  # seconds for each run that is not over when the server ends


class StandIn:
    """with StandIn(root, competition=DIR, solution=CSV) as server: subprocess.run(..., env=server.environment())

    runner: a canned run instead of a real one, run(version, datasets, hidden) as Kernels has it. polls: ready_polls,
    run_polls, score_polls, as the rules have them. faults: what goes wrong with the next requests.
    """

    def __init__(
        self,
        root: Path,
        competition: Path,
        solution: Path,
        owner: str = "newcomer",
        runner: Run | None = None,
        **polls: int,
    ) -> None:
        self.root, self.owner = root, owner
        self.faults: list[Fault] = []
        self.requests: list[dict[str, Any]] = []  # since this server began; without credentials and sources
        self.client_warning = False  # as when the client is older than the server
        runner = runner or SandboxRuns(competition, COMPETITION, root / "runs")
        self.rules = Rules(root, owner, COMPETITION, runner, lambda file: score(file, solution), **polls)

    def __enter__(self) -> "StandIn":
        handler = type("Handler", (RequestHandler,), {"kaggle": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        for thread in self.rules.threads:
            thread.join(timeout=PATIENCE)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def environment(self, **more: str) -> dict[str, str]:
        """A clean environment whose `kaggle` finds this server, through the client's own switches alone."""
        home, temporary = self.root / "home", self.root / "tmp"
        for folder in (home / ".kaggle", temporary):
            folder.mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "LD_LIBRARY_PATH") if name in os.environ}
        return kept | {
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": self.address,
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="where its state lies")
    parser.add_argument("--competition", type=Path, required=True, metavar="DIR", help="competition folder to mount")
    parser.add_argument("--solution", type=Path, required=True, metavar="CSV", help="true votes of the test set")
    parser.add_argument("--owner", default="newcomer", help="the Kaggle user (default: newcomer)")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --: what to run")
    options = parser.parse_args()
    command = [sys.executable if options.command[0] == "python" else options.command[0], *options.command[1:]]
    root, competition, solution = (path.resolve() for path in (options.root, options.competition, options.solution))
    with StandIn(root, competition, solution, options.owner) as server:
        code = subprocess.run(command, env=server.environment()).returncode
    return code if code >= 0 else 128 - code  # as a shell reports a signal


if __name__ == "__main__":
    sys.exit(main())
