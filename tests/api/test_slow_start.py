"""A start that takes long says what it is at; one that does not says nothing."""

from __future__ import annotations

import re

import pytest

from api.slow_start import SlowStart
from tests.helpers.waiting import wait_until


def test_what_is_started_is_told_until_it_runs() -> None:
    told: list[str] = []
    with SlowStart(told.append, every_seconds=0.02) as start:
        wait_until(lambda: bool(told))
        start.at("Ray")
        wait_until(lambda: "Ray" in told[-1])
        start.done()
    assert told[0].startswith("still starting the program, ")
    assert re.fullmatch(r"still starting Ray, \d+ s so far", told[-1])


def test_a_quick_start_and_one_that_fails_say_nothing_more() -> None:
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt), SlowStart(told.append, every_seconds=60.0):
        raise KeyboardInterrupt
    assert told == []
