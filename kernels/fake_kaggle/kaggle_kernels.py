"""Kaggle's rules for kernels, as far as they are known, and the runs of what was pushed."""

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slugify import slugify

from kaggle_datasets import Datasets
from kaggle_state import Refusal, chosen, page

KEPT = ("language", "kernelType", "isPrivate", "sessionTimeoutSeconds")
Run = Callable[[dict[str, Any], dict[str, Path], bool], dict[str, Any]]


class Kernels(Datasets):
    """run(version, datasets, hidden) -> {"ok": bool, "message": str, "log": str, "files": {name: path}}

    A run that is over is COMPLETE after `run_polls` status requests.
    """

    def __init__(self, root: Path, owner: str, competition: str, run: Run, run_polls: int = 1, **polls: int) -> None:
        super().__init__(root, owner, **polls)
        self.competition, self.run, self.run_polls = competition, run, run_polls
        self.rules_accepted = True

    def kernel(self, owner: str, slug: str) -> dict[str, Any]:
        if f"{owner}/{slug}" not in self.state["kernels"]:
            raise Refusal(403, "Permission 'kernels.get' was denied")
        return self.state["kernels"][f"{owner}/{slug}"]

    def session(self, body: dict[str, Any]) -> dict[str, Any]:
        """A version of the kernel: the last, or that of the label."""
        return chosen(self.kernel(body["userName"], body["kernelSlug"])["versions"], body.get("versionLabel") or None)

    def save_kernel(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["slug"].split("/")[0] != self.owner:
            return {"error": "Notebook not found"}
        owner, slug = body["slug"].split("/")
        ref = body["slug"]
        if ref not in self.state["kernels"]:  # a new kernel is named after its title, whatever slug it asked for
            ref = f"{owner}/{slugify(body.get('newTitle') or slug)}"
        sources, competitions = body.get("datasetDataSources") or [], body.get("competitionDataSources") or []
        mounts = {source: self.mountable(source) for source in sources}
        attached = [name for name in competitions if name == self.competition and self.rules_accepted]
        kernel = self.state["kernels"].setdefault(ref, {"id": self.number(), "versions": []})
        version = {name: body.get(name) for name in KEPT} | {
            "source": body["text"],
            "title": body.get("newTitle"),
            "enableInternet": body.get("enableInternet", False),
            "datasets": [source for source in sources if mounts[source]],
            "mounts": [mount for mount in mounts.values() if mount],
            "competitions": attached,
            "status": "QUEUED",
            "polls": 0,
        }
        kernel["versions"].append(version)
        self.in_background(lambda: self.finish_run(version))
        return {
            "ref": f"/code/{ref}",
            "url": f"https://www.kaggle.com/code/{ref}",
            "kernelId": kernel["id"],
            "versionNumber": len(kernel["versions"]),
            "invalidDatasetSources": [source for source in sources if not mounts[source]],
            "invalidCompetitionSources": [name for name in competitions if name not in attached],
        }

    def run_safely(self, version: dict[str, Any], hidden: bool) -> dict[str, Any]:
        """The outcome; that of a stand-in which broke is a kernel that failed, and its log says why."""
        try:
            with self.lock:
                folders = self.dataset_folders(version["mounts"])
            outcome = self.run(version, folders, hidden)
        except Exception:
            outcome = {"ok": False, "message": "the stand-in broke", "log": traceback.format_exc(), "files": {}}
        return outcome | {"files": {name: str(path) for name, path in outcome["files"].items()}}

    def finish_run(self, version: dict[str, Any]) -> None:
        outcome = self.run_safely(version, False)
        with self.lock:
            version["outcome"] = outcome
            self.save()

    def get_kernel_session_status(self, body: dict[str, Any]) -> dict[str, Any]:
        version = self.session(body)
        outcome = version.get("outcome")
        if outcome is not None:
            version["polls"] += 1
        if outcome is None or version["polls"] <= self.run_polls:
            version["status"] = "RUNNING"
            return {"status": "RUNNING"}
        version["status"] = "COMPLETE" if outcome["ok"] else "ERROR"
        return {"status": version["status"], **({} if outcome["ok"] else {"failureMessage": outcome["message"]})}

    def list_kernel_session_output(self, body: dict[str, Any]) -> dict[str, Any]:
        version = self.session(body)
        outcome = version.get("outcome") or {"files": {}, "log": ""}
        names, following = page(sorted(outcome["files"]), body)
        log = json.dumps([{"stream_name": "stdout", "time": 0.1, "data": outcome["log"]}])
        return {
            "files": [{"fileName": name, "url": self.link(Path(outcome["files"][name]), name)} for name in names],
            "log": log,
            "nextPageToken": following,
        }

    def get_kernel(self, body: dict[str, Any]) -> dict[str, Any]:
        kernel, version = self.kernel(body["userName"], body["kernelSlug"]), self.session(body)
        facts = {"id": kernel["id"], "slug": body["kernelSlug"], "currentVersionNumber": len(kernel["versions"])}
        facts |= {"datasetDataSources": version["datasets"], "competitionDataSources": version["competitions"]}
        blob = {name: version[name] for name in ("language", "kernelType")}
        return {"metadata": facts, "blob": {"source": version["source"], "slug": body["kernelSlug"], **blob}}
