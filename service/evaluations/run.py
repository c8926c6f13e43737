"""The run of an evaluation: every measure that its spec asks for, for every contender at several lengths."""

from ropewalk.wire.evaluation import EvaluationReport
from ropewalk.wire.kinds import JobState
from service.evaluations.measure import OwnWork, PreparedEvaluation, ServedWork
from service.evaluations.measures import MEASURES
from service.evaluations.progress import EvaluationProgress
from service.evaluations.serving import serve
from service.runtime.job import Runtime


def run_evaluation(runtime: Runtime, prepared: PreparedEvaluation) -> EvaluationReport:
    """Measure everything that the spec asks for; what two contenders share is measured once.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`.
        ScoringFailed: a document, a prompt or a text could not be scored, or the harness failed.
    """
    runtime.enter(JobState.evaluating)
    works = prepared.works
    progress = EvaluationProgress(runtime, total=sum(work.units for work in works.values()))
    found: dict[str, object] = {}
    for work in sorted(works.values(), key=lambda one: not one.is_early):
        if isinstance(work, OwnWork):
            found |= work.run(runtime, progress)
    served = {name: work for name, work in works.items() if isinstance(work, ServedWork)}
    found |= serve(runtime, prepared, served, progress)
    report = EvaluationReport.model_validate(
        {
            "model": prepared.model.source.name,
            "original_length": prepared.original_length,
            "target_length": prepared.target_length,
            "threshold": prepared.spec.threshold,
            "tokens": progress.tokens,
            **found,
        }
    )
    kept = tuple(row for measure in MEASURES.values() for row in measure.retention(report))
    return report.model_copy(update={"retention": kept})
