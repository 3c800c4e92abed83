"""Tables as text."""

import math

from train.tables import aligned, between, markdown, number

LINES = [["", "KL", "rows"], ["a run", "0.1234", "5"], ["b", "-", "12"]]


def test_columns_are_as_wide_as_their_widest_cell():
    assert aligned(LINES) == ["           KL  rows", "a run  0.1234     5", "b           -    12"]
    assert aligned(LINES, left=3) == ["       KL      rows", "a run  0.1234  5", "b      -       12"]
    assert markdown(LINES) == ["|  | KL | rows |", "| --- | --- | --- |", "| a run | 0.1234 | 5 |", "| b | - | 12 |"]


def test_what_is_not_known_is_a_dash():
    assert (number(0.12345), number(0.5, "+"), number(math.nan)) == ("0.1235", "+0.5000", "-")
    assert between((0.1, 0.2), "+") == "+0.1000 to +0.2000"
    assert between(None) == between((math.nan, math.nan)) == "-"
