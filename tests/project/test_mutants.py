"""The list of faults in tests/mutants.py still fits the code and the tests; the faults themselves are not run."""

import re
from collections import Counter

import pytest
from mutants import MUTANTS, PROJECT

TESTS = PROJECT / "tests"


def test_names_are_unique():
    assert [name for name, number in Counter(one.name for one in MUTANTS).items() if number > 1] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_fits_the_code_and_its_tests_exist(mutant):
    text = (PROJECT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1 and mutant.new != mutant.old and mutant.tests
    for test in mutant.tests:
        file, name = re.fullmatch(r"([\w/]+\.py)::(\w+)(?:\[.+\])?", test).groups()
        assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8"), test
