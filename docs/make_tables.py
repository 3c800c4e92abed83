"""Writes the table of docs/experiments.md again, from train/configs and train/blends.

python docs/make_tables.py
"""

import re
from pathlib import Path

from train.experiments.table import as_markdown, table_of

PAGE = Path(__file__).resolve().parent / "experiments.md"
TABLE = re.compile(r"(?<=<!-- experiments -->\n).*(?=\n<!-- /experiments -->)", re.DOTALL)


def with_table(page: str) -> str:
    """The page with the table of today between its two marks."""
    return TABLE.sub(lambda _: as_markdown(table_of(None, None)), page)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
