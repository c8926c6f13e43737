"""Needle documents under every contender, scored by the pool of a search's workers."""

from collections.abc import Iterator, Mapping, Sequence

from evaluation.documents.needle import NeedleDocument
from evaluation.scores.score import DocumentScore, summarise
from ropewalk.wire.evaluation import EvaluationReport, EvaluationRow, RetentionRow
from service.evaluations.contenders import Setup, setups_at
from service.evaluations.figure import Figure
from service.evaluations.measure import Found, Measure, OwnWork, PreparedEvaluation
from service.evaluations.progress import EvaluationProgress
from service.evaluations.retention import kept_within
from service.runtime.job import Runtime
from service.runtime.starting import StartWatch, tell_limits
from workers.base import ScorerSettings, ScoringTask
from workers.errors import ScoringFailed

Documents = Mapping[int, tuple[NeedleDocument, ...]]
"""The same number of documents by length."""


class NeedleWork(OwnWork):
    """Held-out documents of each length."""

    def __init__(self, prepared: PreparedEvaluation) -> None:
        self._prepared = prepared
        self.units = prepared.spec.documents * prepared.count_setups(prepared.lengths)

    def check(self) -> None:
        """Build all documents. Raises EvaluationError where the corpus or a length does not hold them."""
        for length in self._prepared.lengths:
            self._documents(length)

    def run(self, runtime: Runtime, progress: EvaluationProgress) -> Found:
        """A row for each contender at each length."""
        prepared = self._prepared
        documents = {length: self._documents(length) for length in prepared.lengths}
        known: dict[Setup, tuple[DocumentScore, ...]] = {}
        for model, opened in prepared.settings().items():
            ours = [one for one in prepared.contenders if one.model == model]
            wanted = tuple(setups_at(ours, prepared.lengths))
            scores = _scores(runtime, _tasks(wanted, documents), opened, prepared.spec.workers)
            count = prepared.spec.documents
            lengths = [setup.length for setup in wanted for _ in range(count)]
            ordered = _in_order(scores, progress, lengths, note=f"needles: {', '.join(one.name for one in ours)}")
            known |= {setup: ordered[place * count : (place + 1) * count] for place, setup in enumerate(wanted)}
        return {
            "rows": tuple(
                _row(one.name, length, documents[length], known[one.at(length)])
                for one in prepared.contenders
                for length in prepared.lengths
            )
        }

    def _documents(self, length: int) -> tuple[NeedleDocument, ...]:
        prepared = self._prepared
        return prepared.model.documents(
            split="validation",
            length=length,
            count=prepared.spec.documents,
            needles=prepared.spec.needles_per_document,
            seed=prepared.seed,
        )


def _tasks(wanted: Sequence[Setup], documents: Documents) -> Iterator[ScoringTask]:
    pairs = ((setup, document) for setup in wanted for document in documents[setup.length])
    for place, (setup, document) in enumerate(pairs):
        yield ScoringTask(key=f"{place}", scaling=setup.scaling, document=document)


def _scores(
    runtime: Runtime, tasks: Iterator[ScoringTask], settings: ScorerSettings, workers: int
) -> Iterator[tuple[int, DocumentScore]]:
    with runtime.open_pool(settings, workers) as pool:
        tell_limits(runtime, pool.room())
        scorer = pool.scorer(check=StartWatch(runtime, pool.room).check)
        runtime.set_condition("WorkersReady", True, "Ready", f"{scorer.backend} on {scorer.device}")
        for outcome in pool.run(tasks, check=runtime.keeper.check):
            runtime.keeper.check()
            if outcome.score is None:
                raise ScoringFailed(f"document of task {outcome.task_key} could not be scored: {outcome.error}")
            yield int(outcome.task_key), outcome.score


def _in_order(
    scores: Iterator[tuple[int, DocumentScore]], progress: EvaluationProgress, lengths: Sequence[int], *, note: str
) -> tuple[DocumentScore, ...]:
    found: dict[int, DocumentScore] = {}
    for place, score in scores:
        found[place] = score
        progress.advance(note, tokens=lengths[place])
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


NLL = Figure(
    title="NLL",
    axis="NLL, nats per answer token",
    rows="rows",
    field="nll",
    unit="nats",
    less_is_better=True,
    glance="needle NLL",
)
EXACT = Figure(
    title="Exact match",
    axis="documents answered exactly",
    rows="rows",
    field="exact_match",
    unit="share",
    low=0.0,
    high=1.0,
    glance="exact match",
)


def _note(report: EvaluationReport) -> str:
    return (
        f"{max(row.documents for row in report.rows)} held-out documents per length with needles at stratified depths. "
        "NLL is of the answer's tokens, sum over count; a document is exact when each of them is the model's first "
        "choice."
    )


def _retention(report: EvaluationReport) -> Iterator[RetentionRow]:
    return kept_within(report, "needle exact match", EXACT)


ROW = Measure(
    name="needles",
    summary="held-out needle documents: NLL in nats per answer token, as sum over count, and exact match, where every "
    "answer token is the first choice; by length and depth",
    asked_by=None,
    fields=("documents", "needles_per_document"),
    results=("rows",),
    title="Needles",
    note=_note,
    figures=(NLL, EXACT),
    prepare=NeedleWork,
    retention=_retention,
)
