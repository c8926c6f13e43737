"""The benchmark of plans, as small as it goes."""

import pytest

from benchmarks.plan import main


@pytest.mark.slow
def test_every_work_is_planned_and_taken(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--target-lengths", "384", "--documents", "1", "--steps", "2", "--repeats", "1"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| 384")]
    assert [row[1] for row in rows] == ["search", "validation", "training"]
    for row in rows:
        assert float(row[4]) > 0
        assert float(row[5]) > 0
    assert rows[0][2] == f"exactly {rows[0][3]}"
    assert rows[2][2] == f"exactly {rows[2][3]}"
