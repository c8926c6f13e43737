"""Plays a search: scores what a strategy asks for, as the service does, on documents that are formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from search_space.candidates.candidate import Candidate, DocumentNats, ScoredCandidate
from search_space.candidates.step import Step
from search_space.strategies.base import Strategy

MOST_STEPS = 100
_TOKENS = 5

Objective = Callable[[Candidate, int], float]
"""Nats per answer token of a candidate on a document; inf when it cannot be scored."""
Slopes = Callable[[Candidate, int], tuple[float, ...]]
"""Derivatives of an objective by each ln lambda_i, then by ln A."""


def smooth(candidate: Candidate, document: int) -> float:
    """One best vector, which is a shape and no baseline, and a best attention factor; documents differ in level."""
    misses = _misses(candidate)
    miss = sum(value**2 for value in misses) / len(misses)
    return (0.05 + 3.0 * miss + 5.0 * (candidate.scaling.attention_factor - 1.12) ** 2) * (1.0 + 0.1 * document)


def smooth_slopes(candidate: Candidate, document: int) -> tuple[float, ...]:
    """Those of `smooth`."""
    misses, attention_factor = _misses(candidate), candidate.scaling.attention_factor
    slopes = [6.0 * value / len(misses) for value in misses]
    slopes.append(10.0 * (attention_factor - 1.12) * attention_factor)
    return tuple(slope * (1.0 + 0.1 * document) for slope in slopes)


def _misses(candidate: Candidate) -> list[float]:
    n = len(candidate.scaling.factors)
    best = [math.log(4.6) * math.pow(min(i / (0.52 * n), 1.0), 1.9) for i in range(n)]
    return [math.log(value) - own for value, own in zip(candidate.scaling.factors.values, best, strict=True)]


@dataclass(frozen=True)
class Search:
    """Every step of a search, and the history that each was proposed from."""

    steps: tuple[Step, ...]
    histories: tuple[tuple[ScoredCandidate, ...], ...]

    @property
    def history(self) -> tuple[ScoredCandidate, ...]:
        """Every candidate, as it stands at the end."""
        return self.histories[-1]

    @property
    def bred(self) -> tuple[ScoredCandidate, ...]:
        """Every candidate that is no baseline."""
        return tuple(scored for scored in self.history if scored.candidate.baseline_name is None)


def play(
    strategy: Strategy,
    objective: Objective = smooth,
    *,
    generations: int = MOST_STEPS,
    slopes: Slopes = smooth_slopes,
) -> Search:
    """The search from its start until a step asks for nothing, which is kept, or for some generations.

    Steps that ask for gradients get `slopes`, whatever the objective.
    """
    history: list[ScoredCandidate] = []
    steps: list[Step] = []
    histories: list[tuple[ScoredCandidate, ...]] = []
    for generation in range(generations):
        step = strategy.propose(generation, tuple(history))
        steps.append(step)
        histories.append(tuple(history))
        if step.is_last:
            return Search(tuple(steps), tuple(histories))
        history = _after(step, generation, history, _Scorer(objective, slopes if step.gradients else None))
    assert generations < MOST_STEPS, "the search does not end"
    return Search(tuple(steps), (*histories, tuple(history)))


@dataclass(frozen=True)
class _Scorer:
    objective: Objective
    slopes: Slopes | None

    def nats(self, candidate: Candidate, document: int) -> DocumentNats:
        gradient = None if self.slopes is None else tuple(_TOKENS * slope for slope in self.slopes(candidate, document))
        nats = _TOKENS * self.objective(candidate, document)
        return DocumentNats(index=document, nats=nats, tokens=_TOKENS, gradient=gradient)


def _after(step: Step, generation: int, history: list[ScoredCandidate], scorer: _Scorer) -> list[ScoredCandidate]:
    more = {extension.trial: extension.documents for extension in step.extend}
    known = [replace(one, pruned=one.pruned or one.trial in step.prune) for one in history]
    known = [_scored(one, more[one.trial], scorer) if one.trial in more else one for one in known]
    fresh = [
        ScoredCandidate(trial=len(history) + i, generation=generation, candidate=candidate, nll=0.0)
        for i, candidate in enumerate(step.candidates)
    ]
    return known + [_scored(one, step.documents, scorer) for one in fresh]


def _scored(one: ScoredCandidate, documents: tuple[int, ...], scorer: _Scorer) -> ScoredCandidate:
    scores = (*one.scores, *(scorer.nats(one.candidate, document) for document in documents))
    mean = sum(score.nats for score in scores) / sum(score.tokens for score in scores)
    return replace(one, scores=tuple(sorted(scores, key=lambda score: score.index)), nll=mean)
