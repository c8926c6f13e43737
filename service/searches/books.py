"""Where a search is written down: what the loop asks of a book, and a book in this process's memory.

Imports neither database, pydantic, Optuna nor Ray: the loop runs wherever a scorer does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from evaluation.documents.needle import NeedleDocument, Split
from evaluation.scores.score import DocumentScore, ScoreSummary, summarise
from search_space.candidates.candidate import Candidate
from search_space.candidates.cost import GRADIENT_COST, NOTHING, Spent
from search_space.candidates.step import Step
from workers.base import DifferentiableScorer, Scorer
from workers.errors import CANDIDATE_ERRORS, ScorerUnavailable


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """The documents, by index, that a trial is to be scored on."""

    candidate: Candidate
    documents: tuple[int, ...]
    gradients: bool = False


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Listeners:
    """What the caller wants to hear while trials are scored."""

    on_start: Callable[[int], object] = _ignore
    """(trial), before its first missing document is scored."""
    on_score: Callable[[int, int, DocumentScore], object] = _ignore
    """(trial, document index, score), after the score is in the book."""
    on_complete: Callable[[int, ScoreSummary], object] = _ignore
    """(trial, summary of all its scores), once every assigned document of the trial is scored."""
    on_failure: Callable[[int, str], object] = _ignore
    """(trial, reason), when the candidate cannot be scored; its other documents are dropped."""


class BookScores(ABC):
    """The scores of one split by trial and document index, each paid for once."""

    def __init__(self, documents: Sequence[NeedleDocument]) -> None:
        self.documents = tuple(documents)
        self._scores: dict[int, dict[int, DocumentScore]] = {}
        self._spent = NOTHING

    @property
    def spent(self) -> Spent:
        """What the scores cost: a pass with derivatives counts as `GRADIENT_COST`."""
        return self._spent

    def by_index(self, trial: int) -> Mapping[int, DocumentScore]:
        """The trial's scores by document index."""
        return self._scores.get(trial, {})

    def in_order(self, trial: int) -> tuple[DocumentScore, ...]:
        """The trial's scores in the order of the documents."""
        known = self.by_index(trial)
        return tuple(known[index] for index in sorted(known))

    def summary(self, trial: int) -> ScoreSummary:
        """Sum over count of the trial's scores."""
        return summarise(self.in_order(trial))

    @abstractmethod
    def score_missing(self, assignments: Mapping[int, Assignment], listeners: Listeners) -> None:
        """Score what is missing of `assignments`, by trial; returns when each is complete or has failed.

        Raises:
            Anything beyond a candidate's own fault; scores that are in the book by then stay there.
        """

    def _missing(self, trial: int, assignment: Assignment) -> tuple[int, ...]:
        known = self.by_index(trial)
        return tuple(index for index in assignment.documents if index not in known)

    def _enter(self, trial: int, index: int, score: DocumentScore) -> None:
        passes = 1 if score.gradient is None else GRADIENT_COST
        self._spent += Spent(passes=passes, tokens=passes * len(self.documents[index].token_ids))
        self._scores.setdefault(trial, {})[index] = score


class Book(Protocol):
    """What a search asked for and what came of it. A loop over a book that is not empty goes on where it ends."""

    def recorded_steps(self) -> Sequence[Step]:
        """By generation."""

    def failed_trials(self) -> Collection[int]:
        """Trials whose candidate could not be scored."""

    def record_step(self, generation: int, step: Step) -> Sequence[int]:
        """Write `step` down before it is scored; returns the trial numbers of its candidates, the same each time."""

    def scores(self, split: Split) -> BookScores:
        """The scores of one split; the same object each time."""

    def start(self, trial: int) -> object:
        """Its first document goes to a scorer."""

    def finish(self, trial: int, nll: float) -> object:
        """Every document that was asked for is scored: `nll` in nats per answer token."""

    def prune(self, trial: int) -> object:
        """It is raced out."""

    def fail(self, trial: int, reason: str) -> bool:
        """It cannot be scored; returns whether that is news."""


class InMemoryBook:
    """Implements :class:`Book` with one scorer, in this process. A second loop over it goes on where the first ended.

    `documents` gives those of a split, once for each.
    """

    def __init__(self, scorer: Scorer, documents: Callable[[Split], Sequence[NeedleDocument]]) -> None:
        self._scorer = scorer
        self._documents = documents
        self._numbers = count()
        self._steps: list[tuple[Step, tuple[int, ...]]] = []
        self._scores: dict[Split, _InMemoryScores] = {}
        self._failed: set[int] = set()

    def recorded_steps(self) -> tuple[Step, ...]:
        """See :class:`Book`."""
        return tuple(step for step, _ in self._steps)

    def failed_trials(self) -> Collection[int]:
        """See :class:`Book`."""
        return frozenset(self._failed)

    def record_step(self, generation: int, step: Step) -> tuple[int, ...]:
        """See :class:`Book`."""
        if generation == len(self._steps):
            self._steps.append((step, tuple(next(self._numbers) for _ in step.candidates)))
        return self._steps[generation][1]

    def scores(self, split: Split) -> BookScores:
        """See :class:`Book`."""
        if split not in self._scores:
            self._scores[split] = _InMemoryScores(self._scorer, self._documents(split))
        return self._scores[split]

    def start(self, trial: int) -> None:
        """See :class:`Book`; nothing to write down here."""

    def finish(self, trial: int, nll: float) -> None:
        """See :class:`Book`; its scores are there."""

    def prune(self, trial: int) -> None:
        """See :class:`Book`; the step says so."""

    def fail(self, trial: int, reason: str) -> bool:
        """See :class:`Book`."""
        is_new = trial not in self._failed
        self._failed.add(trial)
        return is_new


class _InMemoryScores(BookScores):
    """Trial after trial, the missing documents of each in one call."""

    def __init__(self, scorer: Scorer, documents: Sequence[NeedleDocument]) -> None:
        super().__init__(documents)
        self._scorer = scorer

    def score_missing(self, assignments: Mapping[int, Assignment], listeners: Listeners) -> None:
        """See :class:`BookScores`.

        Raises:
            ScorerUnavailable: gradients are asked for, and the scorer has none.
            Anything that the scorer raises beyond a candidate's own fault.
        """
        for trial, assignment in assignments.items():
            missing = self._missing(trial, assignment)
            if missing:
                listeners.on_start(trial)
                try:
                    found = self._ask(assignment, [self.documents[index] for index in missing])
                except CANDIDATE_ERRORS as error:
                    listeners.on_failure(trial, str(error))
                    continue
                for index, score in zip(missing, found, strict=True):
                    self._enter(trial, index, score)
                    listeners.on_score(trial, index, score)
            listeners.on_complete(trial, self.summary(trial))

    def _ask(self, assignment: Assignment, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        if not assignment.gradients:
            return self._scorer.score(assignment.candidate.scaling, documents)
        if not isinstance(self._scorer, DifferentiableScorer):
            raise ScorerUnavailable(
                f"the strategy needs a scorer that differentiates, but got backend={self._scorer.info.backend}"
            )
        return self._scorer.score_with_gradients(assignment.candidate.scaling, documents)
