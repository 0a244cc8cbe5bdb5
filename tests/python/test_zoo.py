"""The fast part of the zoo, row by row."""

from pathlib import Path

import pytest

import tool
import zoo

CASES = [case for case in zoo.cases() if case.fast]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_row_is_ok(case: zoo.Case, binary: Path) -> None:
    result = zoo.attempt(case, tool.ROOT / "target" / "zoo", binary, ratio=0.5)
    assert not result.problems
    assert result.cut > 0, "nothing was pruned"
