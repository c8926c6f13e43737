"""The run of an evaluation: needles, RULER, plain text and harness tasks, for every contender at several lengths."""

from service.evaluations.harness import run_harnesses
from service.evaluations.needles import score_needles, setups
from service.evaluations.prepare import PreparedEvaluation
from service.evaluations.progress import EvaluationProgress
from service.evaluations.report import EvaluationReport
from service.evaluations.retention import retention_rows
from service.evaluations.serving import effective_lengths, serve
from service.runtime.job import Runtime
from storage.records import JobState


def run_evaluation(runtime: Runtime, prepared: PreparedEvaluation) -> EvaluationReport:
    """Measure everything that the spec asks for; what two contenders share is measured once.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`.
        ScoringFailed: a document, a prompt or a text could not be scored, or the harness failed.
    """
    runtime.enter(JobState.evaluating)
    spec, settings = prepared.spec, prepared.settings()
    work, harness = prepared.served_work(), prepared.harness_requests()
    needle_setups = setups(prepared.contenders, prepared.lengths)
    total = len(needle_setups) * spec.documents + work.units(prepared.contenders) + len(harness)
    progress = EvaluationProgress(runtime, total=total)
    # First: a task that the harness does not have, or has no data for, is reported before anything long begins.
    harness_rows = tuple(run_harnesses(runtime, harness, progress=progress))
    documents = {length: prepared.documents(length) for length in prepared.lengths}
    needles = tuple(
        score_needles(
            runtime,
            prepared.contenders,
            documents,
            settings=settings,
            workers=spec.workers,
            progress=progress,
        )
    )
    ruler, text = serve(runtime, prepared.contenders, work, settings=settings, workers=spec.workers, progress=progress)
    report = EvaluationReport(
        model=prepared.model.source.name,
        original_length=prepared.original_length,
        target_length=prepared.target_length,
        threshold=spec.threshold,
        rows=needles,
        ruler=ruler,
        effective_lengths=effective_lengths(ruler, spec.threshold),
        text=text,
        harness=harness_rows,
    )
    return report.model_copy(update={"retention": tuple(retention_rows(report))})
