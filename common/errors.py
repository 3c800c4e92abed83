"""The errors a user can cause and correct, and what is said of them in more than one place."""

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from common.schema import REGIONS


class KitError(Exception):
    """Its message says what was found, what was expected and what to do; commands print it without a traceback."""


class ConfigError(KitError):
    """A config that cannot be used. The message names the file, the key and what is allowed."""


def other_regions(regions: tuple[str, ...]) -> str:
    """Why weights that saw the spectrogram's regions in this order cannot be used."""
    return (
        f"trained with the regions in the order {', '.join(regions)}, this version of the kit has "
        f"{', '.join(REGIONS)}, as the competition's files: the nets would see panels exchanged. Train it again"
    )


# ---- what pydantic found


def explain(error: ValidationError, root: type[BaseModel]) -> str:
    """pydantic's findings about a `root`, one line each; for an unknown key with the nearest known one."""
    lines: list[str] = []
    for finding in error.errors():
        location = finding["loc"]
        parts = [str(part) for part in location]
        # pydantic names the members of a union that it tried; people know only the key.
        where = ".".join(part for part in parts if part != "Constants" and not part.startswith("literal[")) or "(file)"
        line = f"{where}: {finding['msg']}"
        if finding["type"] == "too_short" and lines:
            continue  # only says that the members named above were refused
        if finding["type"] == "model_type" and parts and parts[-1] == "Constants":
            line = f"{where}: or a table of constants, as in {{mean = 0.0, deviation = 2.0}}"
        elif finding["type"] == "union_tag_not_found":
            line = f"{where}.kind: missing; one of {', '.join(map(kind_of, tables_at(location, root)))}"
        elif finding["type"] == "string_pattern_mismatch" and where == "name":
            line = f"{finding['input']!r}: a config's file name is its name: small letters, digits and hyphens"
        elif finding["type"] == "extra_forbidden":
            known = [key for table in tables_at(location[:-1], root) for key in table.model_fields]
            nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
            line = f"{where}: unknown key; {hint}"
        lines.append(line)
    return "\n  ".join(lines)


def tables_at(location: tuple[int | str, ...], root: type[BaseModel]) -> list[type[BaseModel]]:
    """The tables that may stand at pydantic's location in a `root`: several where a union has not been decided."""
    tables = [root]
    for part in (part for part in location if isinstance(part, str)):
        fields = [table.model_fields[part].annotation for table in tables if part in table.model_fields]
        if fields:
            tables = [table for field in fields for table in tables_in(field)]
        else:  # a member of a union, by its kind or its class
            tables = [table for table in tables if part in (kind_of(table), table.__name__)] or tables
    return tables


def tables_in(annotation: Any) -> list[type[BaseModel]]:
    """The tables that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for part in get_args(annotation) for table in tables_in(part)]


def kind_of(table: type[BaseModel]) -> str:
    return str(table.model_fields["kind"].default) if "kind" in table.model_fields else ""
