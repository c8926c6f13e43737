"""A search and its validation in one process, with a clock: the decisions are the product's, the record keeping is not.

`service/searches/offline.py` does the same from a search spec, and so needs what the service needs (pydantic,
SQLAlchemy, ...).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evaluation.documents.needle import NeedleDocument
from evaluation.scores.score import DocumentScore
from search_space.candidates.candidate import Candidate, DocumentNats, ScoredCandidate
from search_space.candidates.ledger import Ledger
from search_space.errors import InvalidRescaleFactors
from search_space.strategies.base import Strategy
from service.searches.validation import Contender, Outcome, Round, next_round, outcome
from workers.base import Scorer
from workers.errors import ScoringFailed

_BRED_FINALISTS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Finalists:
    """What became of a search: all trials, and the finalists' scores on documents that no strategy saw."""

    history: tuple[ScoredCandidate, ...]
    outcome: Outcome
    best_bred: int | None
    """By the held-out documents, or by the search's where validation dropped all of them; None where none was bred."""

    def candidate(self, trial: int) -> Candidate:
        """What the trial scored."""
        return next(one.candidate for one in self.history if one.trial == trial)

    @property
    def winner(self) -> Candidate:
        """As the service would return it: a baseline, unless a bred candidate beats the best one beyond noise."""
        return self.candidate(self.outcome.winner)


@dataclass(kw_only=True, slots=True)
class Book:
    """Scores by trial and document, each paid for once; trials that could not be scored are in `failed`."""

    scorer: Scorer
    documents: Sequence[NeedleDocument]
    scores: dict[int, dict[int, DocumentScore]] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    passes: int = 0

    def score(self, trial: int, candidate: Candidate, indices: Sequence[int]) -> None:
        """What is missing of `indices`."""
        known = self.scores.setdefault(trial, {})
        missing = [index for index in indices if index not in known]
        if trial in self.failed or not missing:
            return
        try:
            found = self.scorer.score(
                factors=candidate.factors,
                attention_factor=candidate.attention_factor,
                documents=[self.documents[index] for index in missing],
            )
        except (InvalidRescaleFactors, ScoringFailed):
            self.failed.add(trial)
            return
        known.update(zip(missing, found, strict=True))
        self.passes += len(missing)

    def nats(self, trial: int) -> dict[int, DocumentNats]:
        """As strategies read them."""
        return {
            index: DocumentNats(index=index, nats=score.nats, tokens=score.tokens)
            for index, score in self.scores.get(trial, {}).items()
        }

    def in_order(self, trial: int) -> tuple[DocumentScore, ...]:
        """By document."""
        known = self.scores.get(trial, {})
        return tuple(known[index] for index in sorted(known))


def breed(strategy: Strategy, book: Book, *, has_time: Callable[[], bool]) -> tuple[ScoredCandidate, ...]:
    """Every trial, once the strategy has no more or the time is over, which is looked at between generations."""
    ledger, numbers = Ledger(), itertools.count()
    for generation in itertools.count():
        history = ledger.history(book.nats, book.failed)
        if generation and not has_time():
            return history
        step = strategy.propose(generation, history)
        assigned = ledger.begin(generation, step, [next(numbers) for _ in step.candidates])
        if step.is_last:
            break
        for trial, documents in assigned.items():
            book.score(trial, ledger.candidate(trial), documents)
    return ledger.history(book.nats, book.failed)


def validate(history: tuple[ScoredCandidate, ...], book: Book) -> Finalists:
    """Baselines and the best bred candidates on held-out documents, in the service's rounds.

    Raises:
        RuntimeError: no baseline could be scored.
    """
    finalists = _finalists(history)
    contenders = [Contender(trial=one.trial, is_baseline=one.candidate.baseline_name is not None) for one in finalists]

    def scores() -> dict[int, tuple[DocumentScore, ...]]:
        return {one.trial: book.in_order(one.trial) for one in finalists}

    def following() -> Round | None:
        return next_round(contenders, scores(), documents=len(book.documents), failed=frozenset(book.failed), seed=0)

    while (current := following()) is not None:
        for one in finalists:
            if one.trial in current.trials:
                book.score(one.trial, one.candidate, range(current.documents))
    found = outcome(contenders, scores(), failed=frozenset(book.failed), seed=0)
    if found is None:
        raise RuntimeError("a baseline must be scored to compare a winner with, but none was")
    bred = (one.trial for one in finalists if one.candidate.baseline_name is None)
    return Finalists(
        history=history, outcome=found, best_bred=next(bred, None) if found.best_bred is None else found.best_bred
    )


def _finalists(history: Sequence[ScoredCandidate]) -> list[ScoredCandidate]:
    scored = [one for one in history if not one.failed]
    bred = [one for one in scored if one.candidate.baseline_name is None and not one.pruned]
    most = max((len(one.scores) for one in bred), default=0)
    seasoned = sorted((one for one in bred if 2 * len(one.scores) >= most), key=lambda one: (one.nll, one.trial))
    return [*(one for one in scored if one.candidate.baseline_name is not None), *seasoned[:_BRED_FINALISTS]]
