"""Needle documents under every contender, scored by the pool of a search's workers."""

from collections.abc import Iterator, Mapping, Sequence

from evaluation.documents.needle import NeedleDocument
from evaluation.scores.score import DocumentScore, summarise
from service.evaluations.contenders import Contender, Setup
from service.evaluations.progress import EvaluationProgress
from service.evaluations.report import EvaluationRow
from service.runtime.job import Runtime
from workers.base import ScorerSettings, ScoringTask
from workers.errors import ScoringFailed

Documents = Mapping[int, tuple[NeedleDocument, ...]]
"""The same number of documents by length."""


def setups(contenders: Sequence[Contender], lengths: Sequence[int]) -> tuple[Setup, ...]:
    """What must be scored, each once."""
    return tuple(dict.fromkeys(contender.at(length) for contender in contenders for length in lengths))


def score_needles(
    runtime: Runtime,
    contenders: Sequence[Contender],
    documents: Documents,
    *,
    settings: Mapping[str, ScorerSettings],
    workers: int,
    progress: EvaluationProgress,
) -> Iterator[EvaluationRow]:
    """A row for each contender at each length; `settings` by the model that they open.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`.
        ScoringFailed: a document could not be scored.
    """
    known: dict[Setup, tuple[DocumentScore, ...]] = {}
    for model, opened in settings.items():
        wanted = [setup for setup in setups(contenders, tuple(documents)) if setup.model == model]
        note = ", ".join(one.name for one in contenders if one.model == model)
        scores = _scores(runtime, _tasks(wanted, documents), opened, workers)
        ordered = _in_order(scores, progress, note=f"needles: {note}")
        count = len(next(iter(documents.values())))
        known |= {setup: ordered[place * count : (place + 1) * count] for place, setup in enumerate(wanted)}
    for contender in contenders:
        for length in documents:
            scores_at = known[contender.at(length)]
            yield _row(contender.name, length, documents[length], scores_at)


def _tasks(wanted: Sequence[Setup], documents: Documents) -> Iterator[ScoringTask]:
    pairs = ((setup, document) for setup in wanted for document in documents[setup.length])
    for place, (setup, document) in enumerate(pairs):
        yield ScoringTask(key=f"{place}", scaling=setup.scaling, document=document)


def _scores(
    runtime: Runtime, tasks: Iterator[ScoringTask], settings: ScorerSettings, workers: int
) -> Iterator[tuple[int, DocumentScore]]:
    with runtime.open_pool(settings, workers) as pool:
        for outcome in pool.run(tasks, check=runtime.keeper.check):
            runtime.keeper.check()
            if outcome.score is None:
                raise ScoringFailed(f"document of task {outcome.task_key} could not be scored: {outcome.error}")
            yield int(outcome.task_key), outcome.score


def _in_order(
    scores: Iterator[tuple[int, DocumentScore]], progress: EvaluationProgress, *, note: str
) -> tuple[DocumentScore, ...]:
    found: dict[int, DocumentScore] = {}
    for place, score in scores:
        found[place] = score
        progress.advance(note)
    return tuple(found[place] for place in range(len(found)))


def _row(name: str, length: int, documents: Sequence[NeedleDocument], scores: Sequence[DocumentScore]) -> EvaluationRow:
    summary = summarise(scores)
    return EvaluationRow(
        name=name,
        length=length,
        nll=summary.nll,
        nll_standard_error=summary.nll_standard_error,
        perplexity=summary.perplexity,
        exact_match=summary.exact_match,
        documents=summary.documents,
        by_depth=tuple(
            (document.depth, score.nats / score.tokens, score.exact)
            for document, score in zip(documents, scores, strict=True)
        ),
    )
