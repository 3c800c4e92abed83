"""Tables as text: aligned columns or markdown, and how scores and their intervals are written in them."""

import math
from collections.abc import Sequence

Lines = Sequence[Sequence[str]]  # the heads first


def number(value: float, sign: str = "") -> str:
    """Four decimals; a dash for what could not be averaged."""
    return "-" if math.isnan(value) else f"{value:{sign}.4f}"


def between(bounds: Sequence[float] | None, sign: str = "") -> str:
    """An interval; a dash where there is none."""
    low, high = bounds or (math.nan, math.nan)
    return "-" if math.isnan(low) else f"{number(low, sign)} to {number(high, sign)}"


def aligned(lines: Lines, left: int = 1) -> list[str]:
    """Columns as wide as their widest cell: the first `left` of them flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def padded(line: Sequence[str]) -> list[str]:
        cells = enumerate(zip(line, widths, strict=True))
        return [cell.ljust(width) if k < left else cell.rjust(width) for k, (cell, width) in cells]

    return ["  ".join(padded(line)).rstrip() for line in lines]


def markdown(lines: Lines) -> list[str]:
    """A table of markdown."""
    head, *body = lines
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)]
