from __future__ import annotations

import pytest

from evaluation.errors import InvalidScores
from evaluation.ruler.score import effective_context_length, match_score, ruler_average


def test_all_answers_count_alike() -> None:
    assert match_score("They are 12, 34 and 56.", ("12", "34", "78", "90"), "all") == 50.0
    assert match_score("nothing", ("12",), "all") == 0.0


def test_any_one_answer_is_enough_for_questions() -> None:
    assert match_score("the town of York", ("New York", "York"), "part") == 100.0
    assert match_score("London", ("New York", "York"), "part") == 0.0


def test_letter_case_and_control_characters_do_not_matter() -> None:
    assert match_score("\x00 ABCDE\x01", ("abcde",), "all") == 100.0


def test_the_average_is_over_tasks() -> None:
    assert ruler_average({"vt": 100.0, "cwe": 0.0, "fwe": 50.0}) == 50.0


def test_the_longest_length_above_the_threshold() -> None:
    averages = {4096: 95.0, 8192: 80.0, 16384: 85.6, 32768: 85.5}
    assert effective_context_length(averages) == 16384
    assert effective_context_length(averages, 90.0) == 4096
    assert effective_context_length(averages, 99.0) is None
    assert effective_context_length({}) is None


def test_nothing_has_no_score() -> None:
    with pytest.raises(InvalidScores):
        match_score("text", (), "all")
    with pytest.raises(InvalidScores):
        ruler_average({})
