"""Tables as text."""

from train.tables import aligned, markdown

LINES = [["", "KL", "rows"], ["a run", "0.1234", "5"], ["b", "-", "12"]]


def test_columns_are_as_wide_as_their_widest_cell():
    assert aligned(LINES) == ["           KL  rows", "a run  0.1234     5", "b           -    12"]
    assert aligned(LINES, left=3) == ["       KL      rows", "a run  0.1234  5", "b      -       12"]
    assert markdown(LINES) == ["|  | KL | rows |", "| --- | --- | --- |", "| a run | 0.1234 | 5 |", "| b | - | 12 |"]
