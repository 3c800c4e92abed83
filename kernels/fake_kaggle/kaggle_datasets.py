"""Kaggle's rules for uploads and datasets, as far as they are known."""

import json
import shutil
from pathlib import Path
from typing import Any

from kaggle_state import Refusal, State, chosen, now, page

NAME_LENGTHS = range(6, 51)  # of slugs and titles


class Datasets(State):
    """One method for each request. Polls, not seconds, bring things to their end.

    hidden_polls: status requests after its creation that deny that a dataset is there. ready_polls: further ones until
    a version is ready.
    """

    def __init__(self, root: Path, owner: str, ready_polls: int = 1, hidden_polls: int = 0) -> None:
        super().__init__(root)
        self.owner, self.ready_polls, self.hidden_polls = owner, ready_polls, hidden_polls
        self.loses: set[str] = set()  # names of files that a new version lacks, though their upload went well
        self.cuts: set[str] = set()  # ... and of those that lose their last byte

    # ---- blobs

    def start_upload(self, body: dict[str, Any], host: str) -> dict[str, Any]:
        token = f"blob{self.number()}"
        self.state["blobs"][token] = {"name": Path(body["name"]).name, "size": body.get("contentLength", 0)}
        return {"token": token, "createUrl": f"{host}/upload/{token}"}

    def blob_path(self, token: str) -> Path:
        return self.root / "blobs" / token

    def part_path(self, token: str) -> Path:
        """What arrived of a blob that is not whole."""
        return self.root / "blobs" / f"{token}.part"

    def store(self, token: str, content: bytes, content_range: str) -> None:
        """A PUT: the whole blob, the rest of it (`bytes a-b/N`), or the question what is there (`bytes */N`).

        Raises Refusal 308 with what is there while the blob is not whole.
        """
        if token not in self.state["blobs"]:
            raise Refusal(404, "upload expired")
        if self.blob_path(token).is_file():
            return
        size, part = self.state["blobs"][token]["size"], self.part_path(token)
        kept = part.read_bytes() if part.is_file() else b""
        if not content_range.startswith("bytes */"):
            start = int(content_range.removeprefix("bytes ").split("-")[0]) if content_range else 0
            if start > len(kept) or start + len(content) > size:
                raise Refusal(400, f"{start + len(content)} bytes of {size}, after {len(kept)}")
            kept = kept[:start] + content
            part.write_bytes(kept)
            if len(kept) == size:
                part.rename(self.blob_path(token))
                return
        raise Refusal(308, "incomplete", {"Range": f"bytes=0-{len(kept) - 1}"} if kept else {})

    # ---- datasets

    def dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        found = self.state["datasets"].get(f"{body['ownerSlug']}/{body['datasetSlug']}")
        if found is None or found["hidden"] > 0:
            raise Refusal(403, "Permission 'datasets.get' was denied")
        return found

    def version_files(self, body: dict[str, Any]) -> dict[str, str]:
        """Name -> token, of the blobs that arrived whole."""
        files = {}
        for entry in body.get("files") or []:
            token = entry["token"]
            if token not in self.state["blobs"] or not self.blob_path(token).is_file():
                raise Refusal(400, f"Blob {token} was not uploaded")
            name = self.state["blobs"][token]["name"]
            if name in self.cuts:
                content, token = self.blob_path(token).read_bytes(), f"{token}-cut"
                self.blob_path(token).write_bytes(content[:-1])
            if name not in self.loses:
                files[name] = token
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
        if len(body["slug"]) not in NAME_LENGTHS or len(body["title"]) not in NAME_LENGTHS:
            return self.answer_of(ref, status="Error", error="Slug and title must have 6 to 50 characters")
        self.state["datasets"][ref] = {
            "id": self.number(),
            "title": body["title"],
            "private": body.get("isPrivate", False),  # the client leaves out what is false
            "license": body.get("licenseName", ""),
            "hidden": self.hidden_polls,
            "versions": [{"files": self.version_files(body), "polls": 0}],
        }
        return self.answer_of(ref)

    def create_dataset_version(self, body: dict[str, Any]) -> dict[str, Any]:
        dataset = self.dataset(body)
        if body["ownerSlug"] != self.owner or not self.is_ready(dataset["versions"][-1]):
            raise Refusal(403, "Permission 'datasets.update' was denied")  # also while the one before is processed
        files = self.version_files(body["body"])
        dataset["versions"].append({"files": files, "notes": body["body"].get("versionNotes", ""), "polls": 0})
        return self.answer_of(f"{body['ownerSlug']}/{body['datasetSlug']}")

    def is_ready(self, version: dict[str, Any]) -> bool:
        return version["polls"] >= self.ready_polls

    def dataset_status(self, body: dict[str, Any]) -> dict[str, Any]:
        ref = f"{body['ownerSlug']}/{body['datasetSlug']}"
        if ref in self.state["datasets"] and self.state["datasets"][ref]["hidden"] > 0:
            self.state["datasets"][ref]["hidden"] -= 1
            raise Refusal(403, "Permission 'datasets.get' was denied")
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

    def dataset_metadata(self, body: dict[str, Any]) -> dict[str, Any]:
        dataset = self.dataset(body)
        facts = {"datasetId": dataset["id"], "datasetSlug": body["datasetSlug"], "ownerUser": body["ownerSlug"]}
        facts |= {"title": dataset["title"], "isPrivate": dataset["private"]}
        return {"info": {**facts, "licenses": [{"name": dataset.get("license", "")}], "keywords": []}}

    def dataset_download(self, body: dict[str, Any]) -> Path:
        """One file of a version, or all of them as a zip archive."""
        files = self.chosen_files(body)
        if "fileName" in body:
            if body["fileName"] not in files:
                raise Refusal(404, f"Not found: {body['fileName']}")
            return self.blob_path(files[body["fileName"]])
        archive = self.root / "archives" / "-".join([body["datasetSlug"], *files.values()])
        if not archive.with_suffix(".zip").is_file():
            folder = archive.with_suffix(".files")
            self.lay_out(files, folder)
            shutil.make_archive(str(archive), "zip", folder)
        return archive.with_suffix(".zip")

    def lay_out(self, files: dict[str, str], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, token in files.items():
            if not (folder / name).exists():
                (folder / name).hardlink_to(self.blob_path(token))

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
            self.lay_out(self.state["datasets"][ref]["versions"][int(number) - 1]["files"], folder)
            (folder / "dataset-metadata.json").write_text(json.dumps({"id": ref}))
            folders[ref] = folder
        return folders
