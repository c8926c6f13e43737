"""What a whole training really takes of the machine, beside its estimate, in a process of its own."""

import sys

import pytest

from benchmarks import memory
from benchmarks.memory import Shape, compare


@pytest.mark.slow
def test_the_estimate_of_skipped_rows_is_near_the_measured_peak() -> None:
    found = compare("skipped rows, four a pass", Shape(hidden=384, layers=4, target_length=1024))
    assert 0.5 * found.measured < found.estimated < 2 * found.measured, found


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--hidden=7", "--hidden must be a multiple of 8, two numbers for each head, but got 7"),
        ("--layers=0", "--layers must be at least 1, but got 0"),
        ("--target-length=256", "--target-length must be above 256, but got 256"),
    ],
)
def test_a_shape_that_no_model_has_is_refused(
    given: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of a worker that cannot be sent would be waited for without an end."""
    monkeypatch.setattr(sys, "argv", ["memory", given])
    with pytest.raises(SystemExit):
        memory.main()
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {told}")
