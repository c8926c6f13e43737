"""RULER's metric, its average, and the context length that a model really has. Scores are in percent, as RULER's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean

from evaluation.errors import InvalidScores
from evaluation.ruler.task import Match

DEFAULT_THRESHOLD = 85.6  # percent: Llama2-7B at its 4k, as RULER has it
_UNPRINTABLE = re.compile(r"[\x00-\x1f]")


def match_score(generated: str, answers: Sequence[str], match: Match) -> float:
    """Percent of `answers` that the text holds ("all": RULER's string_match_all), or 100 for any one of them ("part":
    string_match_part). Letter case does not matter.

    Raises:
        InvalidScores: there are no answers.
    """
    if not answers:
        raise InvalidScores("a generation must be compared with at least one answer, but got none")
    text = _UNPRINTABLE.sub("\n", generated.strip()).strip().lower()
    held = [answer.lower() in text for answer in answers]
    return 100.0 * (max(held) if match == "part" else fmean(held))


def ruler_average(by_task: Mapping[str, float]) -> float:
    """The mean over tasks, each with the same weight. Raises InvalidScores without any."""
    if not by_task:
        raise InvalidScores("a RULER average must be over at least one task, but got none")
    return fmean(by_task.values())


def effective_context_length(averages: Mapping[int, float], threshold: float = DEFAULT_THRESHOLD) -> int | None:
    """The longest length, tokens, whose RULER average is at least `threshold`; None when no length's is.

    As RULER defines it: a shorter length that falls below does not count against a longer one that does not.
    """
    return max((length for length, average in averages.items() if average >= threshold), default=None)
