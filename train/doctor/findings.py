"""What the doctor says of the data: findings, each with what it means for training and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from common.errors import KitError

FORMAT = 2  # of the JSON file: raised when a name is removed or means something else
# From the worst: training refuses the data; predicting the test set does; rows are lost or show no signal; the rest.
SEVERITIES = ("stops training", "stops predicting", "costs rows", "worth knowing")
STOPS_TRAINING, STOPS_PREDICTING, COSTS_ROWS, WORTH_KNOWING = SEVERITIES


class DoctorError(KitError):
    """Data that training, or with --test-only predicting, refuses."""


@dataclass(frozen=True)
class Finding:
    """One kind of fault. `cases` names each case in words, `ids` the recordings, patients or rows in them."""

    check: str
    severity: str
    where: str  # the table or folder
    what: str
    todo: str
    cases: tuple[str, ...]
    ids: tuple[int, ...] = ()

    def as_values(self) -> dict[str, Any]:
        """What the JSON file holds of it."""
        return vars(self) | {"count": len(self.cases)}


def found(
    check: str,
    severity: str,
    where: str,
    what: str,
    todo: str,
    ids: Iterable[int] = (),
    cases: Iterable[str] | None = None,
) -> list[Finding]:
    """The finding in a list, or an empty list where there is no case. Without `cases` each id is one."""
    ids = tuple(int(i) for i in ids)
    cases = tuple(map(str, ids)) if cases is None else tuple(cases)
    return [Finding(check, severity, where, what, todo, cases, ids)] if cases else []
