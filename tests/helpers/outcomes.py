"""What a pool should have answered, and what it did."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.scores.score import DocumentScore
from workers.base import ScorerSettings, ScoringOutcome, ScoringTask
from workers.factory import make_scorer


def expected_scores(settings: ScorerSettings, tasks: Sequence[ScoringTask]) -> dict[str, DocumentScore]:
    scorer = make_scorer(settings)
    return {task.key: scorer.score(task.scaling, [task.document])[0] for task in tasks}


def scores_of(outcomes: Sequence[ScoringOutcome]) -> dict[str, DocumentScore | None]:
    """By key; fails when a key came twice."""
    assert len({outcome.task_key for outcome in outcomes}) == len(outcomes)
    return {outcome.task_key: outcome.score for outcome in outcomes}
