"""What can go wrong between the kaggle client and Kaggle, request by request."""

from dataclasses import dataclass, field
from typing import Any

KINDS = ("status", "body", "instead", "drop", "drop-after", "kill", "kill-after")


@dataclass
class Fault:
    """What goes wrong with the nth to last-th request that has `match` in its name.

    Names: "datasets.DatasetApiService/CreateDataset" is DatasetApiService/CreateDataset, an upload
    "PUT /upload/FILE", a download "GET /download/FILE" or "GET /koutput/OWNER/SLUG/VERSION/FILE".

    kind: "status": HTTP `code` with `message` and `headers`; "body": keys of the answer are replaced by `body`;
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
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    pid: int | None = None
    seen: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a fault of kind {self.kind!r}; there are {', '.join(sorted(KINDS))}")

    def strikes(self, what: str) -> bool:
        if self.match not in what:
            return False
        self.seen += 1
        return self.nth <= self.seen <= (self.last or self.nth)
