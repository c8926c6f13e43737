"""Tasks of lm-evaluation-harness, on the model as it is and on the fine-tuned one."""

from collections.abc import Iterator
from pathlib import Path

from evaluation.models.user_path import user_path
from ropewalk.wire.evaluation import EvaluationReport, HarnessRow, RetentionRow
from service.errors import InvalidSpec
from service.evaluations.contenders import BASE, FINETUNED
from service.evaluations.measure import Found, Measure, OwnWork, PreparedEvaluation
from service.evaluations.progress import EvaluationProgress
from service.evaluations.retention import kept
from service.runtime.job import Runtime
from service.specs.evaluation import EvaluationSpec
from workers.errors import ScorerUnavailable
from workers.harness.names import check_tasks
from workers.harness.run import HarnessRequest, check_harness


class HarnessWork(OwnWork):
    """A run of all tasks for each model. Early: a task may be unknown, or its data missing."""

    is_early = True

    def __init__(self, prepared: PreparedEvaluation) -> None:
        models = {BASE: str(prepared.model.source.path)}
        models |= {one.name: one.model for one in prepared.contenders if one.name == FINETUNED}
        self._requests = tuple((name, _request(prepared, model)) for name, model in models.items())
        self.units = len(self._requests)

    def run(self, runtime: Runtime, progress: EvaluationProgress) -> Found:
        """A row for each metric of each task."""
        from service.evaluations.harness_process import run_harnesses  # Ray

        return {"harness": tuple(run_harnesses(runtime, self._requests, progress=progress))}


def _request(prepared: PreparedEvaluation, model: str) -> HarnessRequest:
    spec = prepared.spec
    return HarnessRequest(
        model=model,
        tasks=spec.harness,
        max_length=prepared.original_length,
        dtype=spec.scorer.dtype,
        path=_path(spec),
        limit=spec.harness_limit,
        seed=spec.seed,
        files=prepared.files.get(model),
    )


def _path(spec: EvaluationSpec) -> str | None:
    return None if spec.harness_path is None else str(user_path(spec.harness_path))


def _check_machine(spec: EvaluationSpec) -> None:
    path = _path(spec)
    check_harness(path)
    try:
        check_tasks(spec.harness, None if path is None else Path(path))
    except ScorerUnavailable as error:
        raise InvalidSpec(str(error), pointer="/harness") from error


def _note(report: EvaluationReport) -> str:
    return "As the harness reports them, within the original length."


def _retention(report: EvaluationReport) -> Iterator[RetentionRow]:
    for task, metric, higher in dict.fromkeys(map(_key, report.harness)):
        same = {(row.name, None): row.value for row in report.harness if _key(row) == (task, metric, higher)}
        yield from kept(f"{task}: {metric}", same, less_is_better=not higher)


def _key(row: HarnessRow) -> tuple[str, str, bool]:
    return row.task, row.metric, row.higher_is_better


ROW = Measure(
    name="harness",
    summary="lm-evaluation-harness on the original model and on the fine-tuned checkpoint, within L",
    asked_by="harness",
    fields=("harness_path", "harness_limit"),
    results=("harness",),
    title="lm-evaluation-harness",
    note=_note,
    figures=(),
    prepare=HarnessWork,
    retention=_retention,
    check_machine=_check_machine,
)
