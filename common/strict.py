"""The base of every table of a config, and what is said of a table that is wrong."""

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import KitError


class Strict(BaseModel):
    """Frozen; unknown keys are refused, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ConfigError(KitError):
    """A config that cannot be used. The message names the file, the key and what is allowed."""


def tables_in(annotation: Any) -> list[type[Strict]]:
    """The tables that a value with this annotation may be or hold."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return [annotation]
    return [table for inner in get_args(annotation) for table in tables_in(inner)]


def kind_of(table: type[Strict]) -> str:
    """The value of `kind` that says which of several tables it is."""
    return str(table.model_fields["kind"].default) if "kind" in table.model_fields else ""


def tables_at(location: Sequence[int | str], root: type[Strict]) -> list[type[Strict]]:
    """The tables that may stand at a place inside a `root`, as pydantic names it: keys, positions, kinds, classes."""
    tables = [root]
    for part in location:
        known = [table.model_fields[part].annotation for table in tables if part in table.model_fields]  # type: ignore[index]
        if known:
            tables = [table for annotation in known for table in tables_in(annotation)]
        else:
            tables = [table for table in tables if part in (kind_of(table), table.__name__)] or tables
    return tables


def explain(error: ValidationError, root: type[Strict]) -> str:
    """pydantic's findings about a `root`, one line each; for an unknown key with the nearest known one."""
    lines: list[str] = []
    for finding in error.errors():
        location, found = finding["loc"], finding["type"]
        names = {table.__name__ for end in range(len(location)) for table in tables_at(location[:end], root)}
        # pydantic names the members of a union that it tried; people know only the key.
        keys = [str(part) for part in location if part not in names and not str(part).startswith("literal[")]
        where = ".".join(keys) or "(file)"
        line = f"{where}: {finding['msg']}"
        if found == "too_short" and lines:
            continue  # only says that the members named above were refused
        if found == "model_type" and location[-1:] and location[-1] in names:
            line = f"{where}: or a table of {', '.join(tables_at(location, root)[0].model_fields)}"
        elif found == "union_tag_not_found":
            line = f"{where}.kind: missing; one of {', '.join(map(kind_of, tables_at(location, root)))}"
        elif found == "string_pattern_mismatch" and where == "name":
            line = f"{finding['input']!r}: a config's file name is its name: small letters, digits and hyphens"
        elif found == "extra_forbidden":
            known = [key for table in tables_at(location[:-1], root) for key in table.model_fields]
            nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
            line = f"{where}: unknown key; {hint}"
        lines.append(line)
    return "\n  ".join(lines)
