"""How long a job still takes, from its own speed."""

from __future__ import annotations

from service.runtime.job import Pace


def test_what_is_left_follows_from_what_was_done_in_these_hands() -> None:
    now = [100.0]
    pace = Pace(clock=lambda: now[0])
    assert pace.seconds_left(500, 1000) is None, "others did that"
    now[0] = 110.0
    assert pace.seconds_left(500, 1000) is None
    assert pace.seconds_left(600, 1000) == 40.0, "100 in ten seconds"
    now[0] = 120.0
    assert pace.seconds_left(1000, 1000) == 0.0
    assert pace.seconds_left(1100, 1000) == 0.0, "more than was thought to be the most"
