"""Kaggle's side of the wire: requests by name, answers as the client expects them, faults in between."""

import base64
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from kaggle_state import Refusal, sha256

if TYPE_CHECKING:
    from kaggle_server import StandIn

KEY = "0123456789abcdef" * 2
TOKEN = re.compile(r"KGAT_\w+")
STAMP = "Wed, 01 Jan 2025 00:00:00 GMT"


@dataclass
class Fault:
    """What goes wrong with the nth to last-th request that has `match` in its name.

    Names: "datasets.DatasetApiService/CreateDataset" is DatasetApiService/CreateDataset, an upload is
    "PUT /upload/FILE", a download "GET /download/FILE".

    kind: "status": HTTP `code` with `message`; "body": keys of the answer are replaced by `body`;
    "instead": `body` is the answer and nothing else happens; "drop": the connection is closed before anything happens,
    "drop-after": after it has; "kill" and "kill-after": so is process `pid` (a negative one: that process group), and
    what else it started goes on without it.
    """

    match: str
    kind: str
    nth: int = 1
    last: int | None = None  # default: nth
    code: int = 500
    message: str = "Something went wrong"
    body: dict[str, Any] = field(default_factory=dict)
    pid: int | None = None
    seen: int = 0

    def strikes(self, what: str) -> bool:
        if self.match not in what:
            return False
        self.seen += 1
        return self.nth <= self.seen <= (self.last or self.nth)


class RequestHandler(BaseHTTPRequestHandler):
    kaggle: "StandIn"
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing: `requests` has it all."""

    @property
    def path_only(self) -> str:
        """The client takes us for its proxy and names whole addresses."""
        return unquote(urlsplit(self.path).path)

    def do_POST(self) -> None:
        path, body = self.path_only, json.loads(self.read_body() or b"{}")
        match = re.fullmatch(r"/api/v1/(?:\w+\.)?(\w+)/(\w+)", path)
        service, method = (match[1], match[2]) if match else ("", path)
        self.respond(f"{service}/{method}", body, lambda: self.call(method, body))

    def do_PUT(self) -> None:
        token, content = self.path_only.removeprefix("/upload/"), self.read_body()
        rules, content_range = self.kaggle.rules, self.headers.get("Content-Range", "")
        name = rules.state["blobs"].get(token, {}).get("name", "?")
        self.respond(f"PUT /upload/{name}", {}, lambda: rules.store(token, content, content_range))

    def do_GET(self) -> None:
        self.respond(f"GET {self.path_only}", {}, self.file)

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):  # an empty file comes in chunks
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    # ---- faults and the list of requests

    def respond(self, what: str, body: dict[str, Any], work: Callable[[], Any]) -> None:
        """Do the work and answer with what it gives, or what a fault makes of both."""
        shown = {name: f"<{name}>" if name in ("text", "token") else value for name, value in body.items()}
        entry = {"what": what, "body": shown, "status": 0}
        with self.kaggle.rules.lock:
            self.kaggle.requests.append(entry)
            fault = next((one for one in [one for one in self.kaggle.faults if one.strikes(what)]), None)
            kind = fault.kind if fault else ""
            if kind not in ("kill", "drop"):
                entry["status"], answer = self.work_out(fault, work)
                self.kaggle.rules.save()
        if fault and kind in ("kill", "drop", "kill-after", "drop-after"):
            if kind.startswith("kill"):
                os.kill(fault.pid, signal.SIGKILL)
            self.close_connection = True
        else:
            self.send(entry["status"], answer)

    def work_out(self, fault: Fault | None, work: Callable[[], Any]) -> tuple[int, Any]:
        """Status and answer."""
        try:
            if fault and fault.kind == "status":
                raise Refusal(fault.code, fault.message)
            answer = fault.body if fault and fault.kind == "instead" else work()
            return 200, {**answer, **fault.body} if fault and fault.kind == "body" else answer
        except Refusal as refusal:
            return refusal.code, {"code": refusal.code, "message": str(refusal)}
        except Exception as error:  # a defect of the stand-in must look like one
            traceback.print_exc(file=sys.stderr)
            return 500, {"code": 500, "message": f"The stand-in broke: {error!r}"}

    # ---- answers

    def send(self, status: int, answer: Any) -> None:
        """A file, or JSON; of the latter {"Location": ...} is a redirection."""
        # A status of the upload protocol has no JSON with a "code" that the client would take for an error.
        content = b"" if answer is None or status == 308 else json.dumps(answer, default=str).encode()
        headers = {"Content-Type": "application/json"}
        if isinstance(answer, Path):
            content = answer.read_bytes()
            headers |= {"ETag": f'"{sha256(content)}"', "Last-Modified": STAMP}
        elif isinstance(answer, dict) and "Location" in answer:
            status, content = 302, b""
            headers["Location"] = answer["Location"]
        if self.kaggle.client_warning:
            headers["X-Kaggle-ApiVersion"] = "99.0.0"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    # ---- work

    def file(self) -> Path:
        if self.path_only not in self.kaggle.rules.links:
            raise Refusal(404, f"Not found: {self.path_only}")
        return self.kaggle.rules.links[self.path_only]

    def authorized(self) -> bool:
        kind, _, secret = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            return base64.b64decode(secret).decode() == f"{self.kaggle.owner}:{KEY}"
        return kind == "Bearer" and bool(TOKEN.fullmatch(secret))

    def introspect(self, body: dict[str, Any]) -> dict[str, Any]:
        known = bool(TOKEN.fullmatch(body.get("token", "")))
        return {"active": known, "username": self.kaggle.owner if known else "", "scope": "", "clientId": ""}

    def call(self, method: str, body: dict[str, Any]) -> Any:
        """What the rules' method of this name answers: CreateDataset is create_dataset."""
        if method == "IntrospectToken":
            return self.introspect(body)
        if not self.authorized():
            raise Refusal(401, "Unauthorized: you must authenticate before you can access this content")
        work = getattr(self.kaggle.rules, re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower(), None)
        if work is None:
            raise Refusal(404, f"The stand-in does not know {method}")
        answer = work(body)
        return {"Location": self.kaggle.rules.link(answer, body["fileName"])} if isinstance(answer, Path) else answer
