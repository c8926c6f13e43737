"""A whole search in this process, without a database: the decisions of the service, nothing of its record keeping.

Strategy, ledger, choice of finalists, validation rounds and verdict are the service's own, so that what is measured
here is what the service would have returned.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from evaluation.documents.needle import NeedleDocument
from evaluation.scores.score import DocumentScore
from search_space.candidates.candidate import GRADIENT_COST, Candidate, DocumentNats, ScoredCandidate
from search_space.candidates.ledger import Ledger, leader
from search_space.candidates.step import Step
from search_space.errors import InvalidRescaleFactors
from service.errors import RunFailed
from service.searches.finals import choose_finalists
from service.searches.prepare import PreparedSearch
from service.searches.results import SearchResult, decide
from service.searches.validation import Contender, next_round, outcome
from workers.base import DifferentiableScorer, Scorer
from workers.errors import ScorerUnavailable, ScoringFailed

OFFLINE_ID = "offline"  # stands in the factor file where a search has its id
# What a candidate itself is to blame for; everything else ends the search.
CANDIDATE_ERRORS = (InvalidRescaleFactors, ScoringFailed)


@dataclass(frozen=True, kw_only=True, slots=True)
class TracePoint:
    """How things stood after a step.

    `document_passes` are those of the search so far, in forward passes: one with gradients counts as `GRADIENT_COST`.
    `leader` is what the strategy would have returned then; None while nothing could be scored.
    """

    generation: int
    document_passes: int
    leader: ScoredCandidate | None


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineSearch:
    """A finished search: every trial, what was paid for them in forward passes, and what became of the finalists."""

    history: tuple[ScoredCandidate, ...]
    trace: tuple[TracePoint, ...]
    search_passes: int
    validation_passes: int
    result: SearchResult
    """The winner with its trial and candidate, and the verdict."""

    def leader_at(self, document_passes: int) -> TracePoint | None:
        """The last step that was paid for by then, as long as the search went on; None before the first and after."""
        if document_passes > self.search_passes:
            return None
        paid = [point for point in self.trace if point.document_passes <= document_passes]
        return paid[-1] if paid else None


def run_offline(
    prepared: PreparedSearch, scorer: Scorer, *, on_step: Callable[[TracePoint], object] | None = None
) -> OfflineSearch:
    """Breed, score and validate until the winner is known; `on_step` hears of each step once it is scored.

    Raises:
        RunFailed: no analytic baseline could be scored.
        ScorerUnavailable: the strategy asks for gradients, and the scorer has none.
        Anything that `scorer` raises beyond a candidate's own fault.
    """
    book = _Book(scorer, prepared.documents("search"))
    ledger, trace = _search(prepared, book, on_step or (lambda point: None))
    history = ledger.history(book.nats, book.failed)
    finals = _Book(scorer, prepared.documents("validation"))
    result = _validate(prepared, history, finals)
    return OfflineSearch(
        history=history,
        trace=trace,
        search_passes=book.passes,
        validation_passes=finals.passes,
        result=result,
    )


class _Book:
    """The scores of one split by trial and document index, and who could not be scored."""

    def __init__(self, scorer: Scorer, documents: Sequence[NeedleDocument]) -> None:
        self._scorer = scorer
        self._documents = documents
        self._scores: dict[int, dict[int, DocumentScore]] = {}
        self.failed: set[int] = set()
        self.passes = 0  # in forward passes

    def score(self, trial: int, candidate: Candidate, indices: Iterable[int], *, gradients: bool = False) -> None:
        """Score what is missing of `indices`; a candidate that cannot be scored is noted in `failed`."""
        known = self._scores.setdefault(trial, {})
        missing = [index for index in indices if index not in known]
        if trial in self.failed or not missing:
            return
        try:
            scores = self._ask(candidate, [self._documents[index] for index in missing], gradients=gradients)
        except CANDIDATE_ERRORS:
            self.failed.add(trial)
            return
        known.update(zip(missing, scores, strict=True))
        self.passes += len(missing) * (GRADIENT_COST if gradients else 1)

    def _ask(
        self, candidate: Candidate, documents: Sequence[NeedleDocument], *, gradients: bool
    ) -> tuple[DocumentScore, ...]:
        factors, attention_factor = candidate.factors, candidate.attention_factor
        if not gradients:
            return self._scorer.score(factors=factors, attention_factor=attention_factor, documents=documents)
        if not isinstance(self._scorer, DifferentiableScorer):
            raise ScorerUnavailable(
                f"the strategy needs a scorer that differentiates, but got backend={self._scorer.info.backend}"
            )
        return self._scorer.score_with_gradients(
            factors=factors, attention_factor=attention_factor, documents=documents
        )

    def nats(self, trial: int) -> Mapping[int, DocumentNats]:
        """The trial's scores as strategies read them."""
        return {
            index: DocumentNats(index=index, nats=score.nats, tokens=score.tokens, gradient=score.gradient)
            for index, score in self._scores.get(trial, {}).items()
        }

    def in_order(self, trial: int) -> tuple[DocumentScore, ...]:
        """The trial's scores in the order of the documents."""
        known = self._scores.get(trial, {})
        return tuple(known[index] for index in sorted(known))


def _search(
    prepared: PreparedSearch, book: _Book, on_step: Callable[[TracePoint], object]
) -> tuple[Ledger, tuple[TracePoint, ...]]:
    """Score step after step until the strategy has no more."""
    ledger, numbers = Ledger(), count()
    trace: list[TracePoint] = []
    for generation in count():
        step = prepared.strategy.propose(generation, ledger.history(book.nats, book.failed))
        assigned = ledger.begin(generation, step, [next(numbers) for _ in step.candidates])
        if step.is_last:  # entered all the same: it may send trials home
            break
        _score_step(ledger, book, step, assigned)
        best = leader(ledger.history(book.nats, book.failed))
        trace.append(TracePoint(generation=generation, document_passes=book.passes, leader=best))
        on_step(trace[-1])
    return ledger, tuple(trace)


def _score_step(ledger: Ledger, book: _Book, step: Step, assigned: Mapping[int, tuple[int, ...]]) -> None:
    for trial, documents in assigned.items():
        book.score(trial, ledger.candidate(trial), documents, gradients=step.gradients)


def _validate(prepared: PreparedSearch, history: Sequence[ScoredCandidate], book: _Book) -> SearchResult:
    """The finalists on held-out documents, round after round, and the decision."""
    finalists = choose_finalists(history)
    contenders = [Contender(trial=one.trial, is_baseline=one.candidate.baseline_name is not None) for one in finalists]
    most, seed = prepared.spec.objective.validation_documents, prepared.spec.seed

    def scores() -> dict[int, tuple[DocumentScore, ...]]:
        return {one.trial: book.in_order(one.trial) for one in finalists}

    def failed() -> frozenset[int]:
        return frozenset(book.failed)

    while (current := next_round(contenders, scores(), documents=most, failed=failed(), seed=seed)) is not None:
        for one in finalists:
            if one.trial in current.trials:
                book.score(one.trial, one.candidate, range(current.documents))
    found = outcome(contenders, scores(), failed=failed(), seed=seed)
    if found is None:
        raise RunFailed("no analytic baseline could be scored, so there is nothing to compare a winner with")
    sound = [one for one in finalists if one.trial not in book.failed]
    return decide(prepared, OFFLINE_ID, history, sound, scores(), found)
