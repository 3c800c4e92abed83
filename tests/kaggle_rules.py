"""What Kaggle remembers and what it refuses, as far as it is known: datasets, kernels, submissions, on disk.

Answers are what the API sends (camelCase, enums by name). The rules are those that the kaggle client's documentation,
its source and its issues tell; the real server may know more.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slugify import slugify

LARGEST_SOURCE = 1_000_000
A_DAY = 5  # submissions


class Refusal(Exception):
    """An HTTP error with Kaggle's JSON body."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Rules:
    """The state of one made-up Kaggle below `root`, and one method for each request that changes or reads it.

    run(kernel, datasets, hidden) -> {"ok": bool, "message": str, "log": str, "files": {name: path}}
    score(path of a submission.csv) -> (public, private)
    Polls, not seconds, bring things to their end: a dataset is ready after `ready_polls` status requests, a run that
    is over is COMPLETE after `run_polls`, a scored submission shows after `score_polls` lists.
    """

    def __init__(
        self,
        root: Path,
        competition: str,
        run: Callable[[dict[str, Any], dict[str, Path], bool], dict[str, Any]],
        score: Callable[[Path], tuple[float, float]],
        ready_polls: int = 1,
        run_polls: int = 1,
        score_polls: int = 1,
    ) -> None:
        self.root, self.competition, self.run, self.score = root, competition, run, score
        self.ready_polls, self.run_polls, self.score_polls = ready_polls, run_polls, score_polls
        self.rules_accepted, self.submissions_a_day = True, A_DAY
        self.loses: set[str] = set()  # names of files that a new version lacks, though their upload went well
        self.lock = threading.RLock()
        self.threads: list[threading.Thread] = []
        (root / "blobs").mkdir(parents=True, exist_ok=True)
        self.file = root / "state.json"
        empty: dict[str, Any] = {"blobs": {}, "datasets": {}, "kernels": {}, "submissions": [], "next": 1000}
        self.state = json.loads(self.file.read_text()) if self.file.is_file() else empty

    def save(self) -> None:
        beside = self.file.with_suffix(".partial")
        beside.write_text(json.dumps(self.state, indent=1))
        beside.replace(self.file)

    def number(self) -> int:
        self.state["next"] += 1
        return int(self.state["next"])

    def in_background(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self.threads.append(thread)
        thread.start()

    # ---- blobs

    def start_upload(self, body: dict[str, Any], host: str) -> dict[str, Any]:
        token = f"blob{self.number()}"
        self.state["blobs"][token] = {"name": Path(body["name"]).name, "size": body.get("contentLength", 0)}
        return {"token": token, "createUrl": f"{host}/upload/{token}"}

    def blob_path(self, token: str) -> Path:
        return self.root / "blobs" / token

    # ---- datasets

    def dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        ref = f"{body['ownerSlug']}/{body['datasetSlug']}"
        if ref not in self.state["datasets"]:
            raise Refusal(403, "Permission 'datasets.get' was denied")
        return self.state["datasets"][ref]

    def version_files(self, body: dict[str, Any]) -> dict[str, str]:
        """Name -> token, of the blobs that arrived whole."""
        files = {}
        for entry in body.get("files") or []:
            blob = self.state["blobs"].get(entry["token"])
            if blob is None or not self.blob_path(entry["token"]).is_file():
                raise Refusal(400, f"Blob {entry['token']} was not uploaded")
            if blob["name"] not in self.loses:
                files[blob["name"]] = entry["token"]
        return files

    def answer_of(self, ref: str, **more: Any) -> dict[str, Any]:
        return {"ref": ref, "url": f"https://www.kaggle.com/datasets/{ref}", "status": "Ok", **more}

    def create_dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        ref = f"{body['ownerSlug']}/{body['slug']}"
        if ref in self.state["datasets"]:
            error = f'The requested title "{body["title"]}" is already in use by a dataset'
            return self.answer_of(ref, status="Error", error=error)
        if not 6 <= len(body["slug"]) <= 50 or not 6 <= len(body["title"]) <= 50:
            return self.answer_of(ref, status="Error", error="Slug and title must have 6 to 50 characters")
        self.state["datasets"][ref] = {
            "id": self.number(),
            "title": body["title"],
            "private": body.get("isPrivate", True),
            "versions": [{"files": self.version_files(body), "polls": 0}],
        }
        return self.answer_of(ref)

    def create_dataset_version(self, body: dict[str, Any]) -> dict[str, Any]:
        dataset = self.dataset(body)
        if dataset["versions"][-1]["polls"] < self.ready_polls:
            raise Refusal(403, "Permission 'datasets.update' was denied")  # while the one before is processed
        files = self.version_files(body["body"])
        dataset["versions"].append({"files": files, "notes": body["body"].get("versionNotes", ""), "polls": 0})
        return self.answer_of(f"{body['ownerSlug']}/{body['datasetSlug']}")

    def dataset_status(self, body: dict[str, Any]) -> dict[str, Any]:
        version = self.dataset(body)["versions"][-1]
        version["polls"] += 1
        return {"status": "READY" if version["polls"] > self.ready_polls else "BLOBS_RECEIVED"}

    def get_dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        dataset = self.dataset(body)
        ref = f"{body['ownerSlug']}/{body['datasetSlug']}"
        facts = {"id": dataset["id"], "ref": ref, "title": dataset["title"], "isPrivate": dataset["private"]}
        return facts | {"currentVersionNumber": len(dataset["versions"]), "lastUpdated": now()}

    def chosen_version(self, body: dict[str, Any]) -> dict[str, Any]:
        versions = self.dataset(body)["versions"]
        return versions[int(body.get("datasetVersionNumber") or len(versions)) - 1]

    def list_dataset_files(self, body: dict[str, Any]) -> dict[str, Any]:
        files = sorted(self.chosen_version(body)["files"].items())
        start, size = int(body.get("pageToken") or 0), int(body.get("pageSize") or 20)
        shown = [
            {"ref": name, "name": name, "totalBytes": self.blob_path(token).stat().st_size, "creationDate": now()}
            for name, token in files[start : start + size]
        ]
        more = {"nextPageToken": str(start + size)} if start + size < len(files) else {}
        return {"datasetFiles": shown, **more}

    def dataset_metadata(self, body: dict[str, Any]) -> dict[str, Any]:
        dataset = self.dataset(body)
        facts = {"datasetId": dataset["id"], "datasetSlug": body["datasetSlug"], "ownerUser": body["ownerSlug"]}
        facts |= {"title": dataset["title"], "isPrivate": dataset["private"], "licenses": [{"name": "CC0-1.0"}]}
        return {"info": {**facts, "keywords": []}}

    def dataset_file(self, body: dict[str, Any]) -> str:
        """Token of the blob that a download leads to."""
        files = self.chosen_version(body)["files"]
        if body.get("fileName") not in files:
            raise Refusal(404, f"Not found: {body.get('fileName')}")
        return files[body["fileName"]]

    def dataset_folders(self, sources: list[str]) -> dict[str, Path]:
        """ref -> a folder with the newest version's files, as it would be mounted."""
        folders = {}
        for ref in sources:
            versions = self.state["datasets"][ref]["versions"]
            folder = self.root / "mounted" / ref / str(len(versions))
            if not folder.is_dir():
                folder.mkdir(parents=True)
                for name, token in versions[-1]["files"].items():
                    (folder / name).hardlink_to(self.blob_path(token))
                (folder / "dataset-metadata.json").write_text(json.dumps({"id": ref}))
            folders[ref] = folder
        return folders

    # ---- kernels

    def kernel(self, owner: str, slug: str) -> dict[str, Any]:
        if f"{owner}/{slug}" not in self.state["kernels"]:
            raise Refusal(403, "Permission 'kernels.get' was denied")
        return self.state["kernels"][f"{owner}/{slug}"]

    def session(self, body: dict[str, Any]) -> dict[str, Any]:
        versions = self.kernel(body["userName"], body["kernelSlug"])["versions"]
        label = re.fullmatch(r"v?(\d+)", str(body.get("versionLabel") or len(versions)))
        number = int(label[1]) if label else 0
        if not 1 <= number <= len(versions):
            raise Refusal(404, f"Not found: version {body.get('versionLabel')}")
        return versions[number - 1]

    def save_kernel(self, body: dict[str, Any]) -> dict[str, Any]:
        owner, slug = body["slug"].split("/")
        if len(body["text"].encode()) > LARGEST_SOURCE:
            return {"error": "Maximum source size exceeded", "ref": "", "url": "", "versionNumber": 0}
        if f"{owner}/{slug}" not in self.state["kernels"]:
            slug = slugify(body.get("newTitle") or slug)  # a new kernel is named after its title
        datasets = [ref for ref in body.get("datasetDataSources") or [] if ref in self.state["datasets"]]
        lost = [ref for ref in body.get("datasetDataSources") or [] if ref not in datasets]
        wanted = body.get("competitionDataSources") or []
        competitions = [name for name in wanted if name == self.competition and self.rules_accepted]
        ref = f"{owner}/{slug}"
        kernel = self.state["kernels"].setdefault(ref, {"id": self.number(), "versions": []})
        version = {
            "source": body["text"],
            "kernelType": body["kernelType"],
            "language": body["language"],
            "title": body.get("newTitle"),
            "enableInternet": body.get("enableInternet", False),
            "enableGpu": body.get("enableGpu", False),
            "isPrivate": body.get("isPrivate", True),
            "machineShape": body.get("machineShape"),
            "datasets": datasets,
            "competitions": competitions,
            "status": "QUEUED",
            "polls": 0,
        }
        kernel["versions"].append(version)
        folders = self.dataset_folders(datasets)
        self.in_background(lambda: self.finish_run(version, folders))
        answer = {"ref": f"/code/{ref}", "url": f"https://www.kaggle.com/code/{ref}", "kernelId": kernel["id"]}
        answer |= {"versionNumber": len(kernel["versions"])}
        missing = [name for name in wanted if name not in competitions]
        return answer | {"invalidDatasetSources": lost, "invalidCompetitionSources": missing}

    def finish_run(self, version: dict[str, Any], folders: dict[str, Path]) -> None:
        outcome = self.run(version, folders, False)
        with self.lock:
            version["outcome"] = outcome | {"files": {name: str(path) for name, path in outcome["files"].items()}}
            self.save()

    def kernel_status(self, body: dict[str, Any]) -> dict[str, Any]:
        version = self.session(body)
        outcome = version.get("outcome")
        if outcome is not None:
            version["polls"] += 1
        if outcome is None or version["polls"] <= self.run_polls:
            version["status"] = "RUNNING"
            return {"status": "RUNNING"}
        version["status"] = "COMPLETE" if outcome["ok"] else "ERROR"
        return {"status": version["status"], **({} if outcome["ok"] else {"failureMessage": outcome["message"]})}

    def kernel_output(self, body: dict[str, Any], host: str) -> dict[str, Any]:
        version = self.session(body)
        outcome = version.get("outcome") or {"files": {}, "log": ""}
        number = self.kernel(body["userName"], body["kernelSlug"])["versions"].index(version) + 1
        base = f"{host}/koutput/{body['userName']}/{body['kernelSlug']}/{number}"
        files = [{"fileName": name, "url": f"{base}/{name}"} for name in sorted(outcome["files"])]
        log = json.dumps([{"stream_name": "stdout", "time": 0.1, "data": outcome["log"]}])
        return {"files": files, "log": log, "nextPageToken": ""}

    def kernel_file(self, owner: str, slug: str, number: str, name: str) -> Path:
        version = self.session({"userName": owner, "kernelSlug": slug, "versionLabel": number})
        if name not in version["outcome"]["files"]:
            raise Refusal(404, f"Not found: {name}")
        return Path(version["outcome"]["files"][name])

    def get_kernel(self, body: dict[str, Any]) -> dict[str, Any]:
        kernel = self.kernel(body["userName"], body["kernelSlug"])
        version, slug = kernel["versions"][-1], body["kernelSlug"]
        shared = {name: version[name] for name in ("language", "kernelType")}
        facts = {"id": kernel["id"], "ref": f"{body['userName']}/{slug}", "title": version["title"], "slug": slug}
        facts |= {name: version[name] for name in ("isPrivate", "enableGpu", "enableInternet", "machineShape")}
        facts |= {"author": body["userName"], "datasetDataSources": version["datasets"], "kernelDataSources": []}
        facts |= {"competitionDataSources": version["competitions"], "modelDataSources": [], **shared}
        facts |= {"currentVersionNumber": len(kernel["versions"])}
        return {"metadata": facts, "blob": {"source": version["source"], "slug": slug, **shared}}

    # ---- submissions

    def check_competition(self, name: str) -> None:
        if name != self.competition:
            raise Refusal(404, f"Competition {name} was not found")
        if not self.rules_accepted:
            raise Refusal(403, "You must accept this competition's rules before you can continue")

    def limits(self, body: dict[str, Any]) -> dict[str, Any]:
        today = len(self.state["submissions"])
        left = max(self.submissions_a_day - today, 0)
        return {"numToday": today, "numTotal": today, "numAllowedNow": left, "limitedByTotal": False}

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        self.check_competition(body["competitionName"])
        label = {"userName": body["kernelOwner"], "kernelSlug": body["kernelSlug"]}
        try:
            version = self.session({**label, "versionLabel": body["kernelVersion"]})
        except Refusal as refusal:
            raise Refusal(404, f"Notebook not found: {refusal.message}") from refusal
        reasons = {
            "Submission not allowed: Notebook version is not complete": version["status"] != "COMPLETE",
            "Submission not allowed: Notebooks with internet access are not allowed": version["enableInternet"],
            "Submission not allowed: the competition is not a data source": not version["competitions"],
            "Submission not allowed: You have reached your daily submission limit": (
                len(self.state["submissions"]) >= self.submissions_a_day
            ),
            f"Output file {body['fileName']} was not found": body["fileName"] not in version["outcome"]["files"],
        }
        for reason, holds in reasons.items():
            if holds:
                raise Refusal(400, reason)
        submission = {
            "ref": self.number(),
            "date": now(),
            "description": body.get("submissionDescription", ""),
            "fileName": body["fileName"],
            "status": "PENDING",
            "submittedBy": body["kernelOwner"],
            "totalBytes": 0,
            "publicScore": "",
            "privateScore": "",
            "errorDescription": None,
            "polls": 0,
        }
        self.state["submissions"].insert(0, submission)
        folders = self.dataset_folders(version["datasets"])
        self.in_background(lambda: self.finish_submission(submission, version, folders))
        return {"message": f"Successfully submitted to {self.competition}", "ref": submission["ref"]}

    def finish_submission(self, submission: dict[str, Any], version: dict[str, Any], folders: dict[str, Path]) -> None:
        outcome = self.run(version, folders, True)
        result: dict[str, Any] = {"status": "ERROR"}
        file = outcome["files"].get(submission["fileName"])
        if not outcome["ok"]:
            result["errorDescription"] = "Notebook Threw Exception"
        elif file is None:
            result["errorDescription"] = "Submission CSV Not Found"
        else:
            try:
                public, private = self.score(Path(file))
                result = {"status": "COMPLETE", "publicScore": f"{public:.5f}", "privateScore": f"{private:.5f}"}
            except Exception as error:  # what a scorer says of a file, whatever it is, is Kaggle's answer to it
                result["errorDescription"] = f"Submission Scoring Error: {error}"
        with self.lock:
            submission["result"] = result
            self.save()

    def shown(self, submission: dict[str, Any]) -> dict[str, Any]:
        if "result" in submission:
            submission["polls"] += 1
        if submission["polls"] > self.score_polls:
            submission |= submission["result"]
        return {name: value for name, value in submission.items() if name not in ("polls", "result")}

    def list_submissions(self, body: dict[str, Any]) -> dict[str, Any]:
        self.check_competition(body["competitionName"])
        return {"submissions": [self.shown(one) for one in self.state["submissions"]], "nextPageToken": ""}

    def get_submission(self, body: dict[str, Any]) -> dict[str, Any]:
        for one in self.state["submissions"]:
            if one["ref"] == body["ref"]:
                return self.shown(one)
        raise Refusal(404, "Submission not found")
