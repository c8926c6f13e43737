"""The comparison of estimated with measured memory runs, each case in a process of its own."""

import pytest

from benchmarks.memory import CASES, Shape, compare


@pytest.mark.slow
def test_a_case_is_estimated_and_measured() -> None:
    found = compare(next(iter(CASES)), Shape(hidden=128, layers=4, target_length=1024))
    assert found.estimated > 4 * 2**20
    assert found.measured > 0
