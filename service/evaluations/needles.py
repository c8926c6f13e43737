"""Needle documents under every contender, scored by the pool of a search's workers."""

from collections.abc import Iterator, Mapping, Sequence

from evaluation.documents.needle import NeedleDocument
from evaluation.documents.overlap import Overlap, measure_overlap, overlap_warning
from evaluation.scores.score import DocumentScore, summarise
from ropewalk.wire.evaluation import EvaluationReport, EvaluationRow, OverlapRow, RetentionRow
from service.evaluations.contenders import Setup, setups_at
from service.evaluations.figure import Figure
from service.evaluations.measure import Found, Measure, OwnWork, PreparedEvaluation
from service.evaluations.progress import EvaluationProgress
from service.evaluations.retention import kept_within
from service.runtime.job import Runtime
from service.runtime.starting import StartWatch, tell_limits
from service.runtime.warnings import WARNING, new_warnings
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
        overlaps = {length: measure_overlap([one.token_ids for one in documents[length]]) for length in documents}
        for length, overlap in overlaps.items():
            _tell(runtime, length, overlap)
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
            ),
            "overlap": tuple(_overlap_row(length, overlap) for length, overlap in overlaps.items()),
        }

    def _documents(self, length: int) -> tuple[NeedleDocument, ...]:
        prepared = self._prepared
        return prepared.model.documents(
            split="validation",
            length=length,
            count=prepared.spec.documents,
            needles=prepared.spec.needles_per_document,
            seed=prepared.seed,
            length_field="lengths" if prepared.spec.lengths else "target_length",
        )


def _overlap_row(length: int, overlap: Overlap) -> OverlapRow:
    return OverlapRow(
        length=length, documents=overlap.documents, share=overlap.share, effective_documents=overlap.effective
    )


def _tell(runtime: Runtime, length: int, overlap: Overlap) -> None:
    """As a search's history has it, and as a warning of the job where it counts."""
    runtime.event(
        "documents.overlap",
        length=length,
        documents=overlap.documents,
        share=round(overlap.share, 4),
        effective_documents=round(overlap.effective, 1),
    )
    if (told := overlap_warning(overlap, f"documents of {length} tokens")) is not None:
        for warning in new_warnings(runtime.jobs, runtime.job.id, (told,)):
            runtime.event(WARNING, text=warning)


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
        f"choice.{''.join(map(_shared, report.overlap))}"
    )


def _shared(row: OverlapRow) -> str:
    return (
        f" Those of {row.length} tokens have {row.share:.0%} of their text in common with the one most alike, and are "
        f"worth at least {row.effective_documents:.1f} independent ones."
    )


def _retention(report: EvaluationReport) -> Iterator[RetentionRow]:
    return kept_within(report, "needle exact match", EXACT)


ROW = Measure(
    name="needles",
    summary="held-out needle documents: NLL in nats per answer token, as sum over count, and exact match, where every "
    "answer token is the first choice; by length and depth",
    asked_by=None,
    fields=("documents", "needles_per_document"),
    results=("rows", "overlap"),
    title="Needles",
    note=_note,
    figures=(NLL, EXACT),
    prepare=NeedleWork,
    retention=_retention,
)
