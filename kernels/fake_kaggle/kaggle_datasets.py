"""Kaggle's rules for uploads and datasets, as far as they are known."""

import json
from pathlib import Path
from typing import Any

from kaggle_state import HOST, Refusal, State, chosen, now, page


class Datasets(State):
    """One method for each request. A version is ready after `ready_polls` status requests: polls, not seconds."""

    def __init__(self, root: Path, owner: str, ready_polls: int = 1) -> None:
        super().__init__(root)
        self.owner, self.ready_polls = owner, ready_polls

    # ---- blobs

    def start_blob_upload(self, body: dict[str, Any]) -> dict[str, Any]:
        token = f"blob{self.number()}"
        self.state["blobs"][token] = {"name": Path(body["name"]).name, "size": body.get("contentLength", 0)}
        return {"token": token, "createUrl": f"{HOST}/upload/{token}"}

    def blob_path(self, token: str) -> Path:
        return self.root / "blobs" / token

    def store(self, token: str, content: bytes, content_range: str) -> None:
        """A PUT of a whole blob, or the question whether it is there (`bytes */N`): Refusal 308 while it is not."""
        if token not in self.state["blobs"]:
            raise Refusal(404, "upload expired")
        if content_range.startswith("bytes */"):
            if not self.blob_path(token).is_file():
                raise Refusal(308, "incomplete")
            return
        if len(content) != self.state["blobs"][token]["size"]:
            raise Refusal(400, f"{len(content)} bytes of {self.state['blobs'][token]['size']}")
        self.blob_path(token).write_bytes(content)

    # ---- datasets

    def dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        found = self.state["datasets"].get(f"{body['ownerSlug']}/{body['datasetSlug']}")
        if found is None:
            raise Refusal(403, "Permission 'datasets.get' was denied")
        return found

    def version_files(self, body: dict[str, Any]) -> dict[str, str]:
        """Name -> token, of the blobs that arrived whole."""
        files = {}
        for entry in body.get("files") or []:
            token = entry["token"]
            if token not in self.state["blobs"] or not self.blob_path(token).is_file():
                raise Refusal(400, f"Blob {token} was not uploaded")
            files[self.state["blobs"][token]["name"]] = token
        return files

    def answer_of(self, ref: str, **more: Any) -> dict[str, Any]:
        return {"ref": ref, "url": f"https://www.kaggle.com/datasets/{ref}", "status": "Ok", **more}

    def create_dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        ref = f"{body['ownerSlug']}/{body['slug']}"
        if body["ownerSlug"] != self.owner:
            raise Refusal(403, "Permission 'datasets.create' was denied")
        if ref in self.state["datasets"]:
            error = f'The requested title "{body["title"]}" is already in use by a dataset'
            return self.answer_of(ref, status="Error", error=error)
        self.state["datasets"][ref] = {
            "id": self.number(),
            "title": body["title"],
            "private": body.get("isPrivate", False),  # the client leaves out what is false
            "license": body.get("licenseName", ""),
            "versions": [{"files": self.version_files(body), "polls": 0}],
        }
        return self.answer_of(ref)

    def create_dataset_version(self, body: dict[str, Any]) -> dict[str, Any]:
        dataset = self.dataset(body)
        if body["ownerSlug"] != self.owner or not self.is_ready(dataset["versions"][-1]):
            raise Refusal(403, "Permission 'datasets.update' was denied")  # also while the one before is processed
        dataset["versions"].append({"files": self.version_files(body["body"]), "polls": 0})
        return self.answer_of(f"{body['ownerSlug']}/{body['datasetSlug']}")

    def is_ready(self, version: dict[str, Any]) -> bool:
        return version["polls"] >= self.ready_polls

    def get_dataset_status(self, body: dict[str, Any]) -> dict[str, Any]:
        version = self.dataset(body)["versions"][-1]
        version["polls"] += 1
        return {"status": "READY" if version["polls"] > self.ready_polls else "BLOBS_RECEIVED"}

    def get_dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        dataset = self.dataset(body)
        ref = f"{body['ownerSlug']}/{body['datasetSlug']}"
        facts = {"id": dataset["id"], "ref": ref, "title": dataset["title"], "isPrivate": dataset["private"]}
        return facts | {"currentVersionNumber": len(dataset["versions"]), "lastUpdated": now()}

    def chosen_files(self, body: dict[str, Any]) -> dict[str, str]:
        return chosen(self.dataset(body)["versions"], body.get("datasetVersionNumber"))["files"]

    def list_dataset_files(self, body: dict[str, Any]) -> dict[str, Any]:
        files, following = page(sorted(self.chosen_files(body).items()), body)
        sizes = {name: self.blob_path(token).stat().st_size for name, token in files}
        shown = [{"ref": n, "name": n, "totalBytes": size, "creationDate": now()} for n, size in sizes.items()]
        return {"datasetFiles": shown, "nextPageToken": following}

    def get_dataset_metadata(self, body: dict[str, Any]) -> dict[str, Any]:
        dataset = self.dataset(body)
        facts = {"datasetId": dataset["id"], "datasetSlug": body["datasetSlug"], "ownerUser": body["ownerSlug"]}
        facts |= {"title": dataset["title"], "isPrivate": dataset["private"]}
        return {"info": {**facts, "licenses": [{"name": dataset.get("license", "")}], "keywords": []}}

    def download_dataset(self, body: dict[str, Any]) -> Path:
        """One file of a version."""
        files = self.chosen_files(body)
        if body.get("fileName") not in files:
            raise Refusal(404, f"Not found: {body.get('fileName')}")
        return self.blob_path(files[body["fileName"]])

    def mountable(self, source: str) -> str:
        """OWNER/SLUG/VERSION of what a kernel gets for a source: the newest ready version without a number, or ""."""
        owner, slug, *number = source.split("/")
        dataset = self.state["datasets"].get(f"{owner}/{slug}", {"versions": [], "private": True})
        ready = [n for n, version in enumerate(dataset["versions"], 1) if self.is_ready(version)]
        wanted = [n for n in ready if not number or number == [str(n)]]
        allowed = owner == self.owner or not dataset["private"]
        return f"{owner}/{slug}/{wanted[-1]}" if wanted and allowed else ""

    def dataset_folders(self, mounts: list[str]) -> dict[str, Path]:
        """OWNER/SLUG -> a folder with a version's files, as it would be mounted."""
        folders = {}
        for mount in mounts:
            ref, number = mount.rsplit("/", 1)
            folder = self.root / "mounted" / mount
            folder.mkdir(parents=True, exist_ok=True)
            for name, token in self.state["datasets"][ref]["versions"][int(number) - 1]["files"].items():
                if not (folder / name).exists():
                    (folder / name).hardlink_to(self.blob_path(token))
            (folder / "dataset-metadata.json").write_text(json.dumps({"id": ref}))
            folders[ref] = folder
        return folders
