"""One job in this controller's hands, from the claim to the end of the lease, and what is recorded of how it ended."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ropewalk.wire.kinds import JobKind, JobState
from service.artifacts.copies import StoredModels
from service.errors import RunFailed, RunStopped
from service.evaluations.prepare import prepare_evaluation
from service.evaluations.run import run_evaluation
from service.finetunes.prepare import finetune_report, prepare_finetune
from service.finetunes.run import forget_states, run_finetune_job
from service.runtime.artifacts import write_artifact
from service.runtime.failures import RetryPolicy, condition_of, is_infrastructure
from service.runtime.job import Runtime
from service.runtime.tracing import span
from service.runtime.warnings import WARNING, new_warnings
from service.searches.prepare import USER_ERRORS, prepare_search
from service.searches.run import run_search
from service.searches.starts import starts_of
from service.specs.base import Spec, stored_spec
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from service.specs.search import SearchSpec
from storage.errors import DatabaseUnreachable, InvalidTransition, LeaseLost, SchemaOutdated, StorageError
from workers.pool.cluster import ensure_ray

SpecT = TypeVar("SpecT", bound=Spec)

logger = logging.getLogger("ropewalk.controller")


def run_job(runtime: Runtime, *, retry: RetryPolicy) -> None:
    """Run the job; returns when it has ended, waits for its user, or is requeued.

    Raises:
        LeaseLost: another controller has it.
        DatabaseUnreachable, SchemaOutdated: nothing could be recorded; the lease ends by itself.
    """
    try:
        runtime.keeper.check()
        RUNS[runtime.job.kind](runtime)
    except RunStopped as stopped:
        _stop(runtime, stopped)
    except InvalidTransition as refused:
        # The user's cancellation or pause reached the database between two renewals.
        runtime.keeper.renew_now()
        if runtime.keeper.request == "none":
            raise
        _stop(runtime, refused)
    except (LeaseLost, DatabaseUnreachable, SchemaOutdated):
        raise
    except Exception as error:
        _end_in_failure(runtime, error, retry)


def _stop(runtime: Runtime, stopped: Exception) -> None:
    try:
        _obey(runtime)
    except InvalidTransition:  # a pause that has become a cancellation meanwhile
        runtime.keeper.renew_now()
        _obey(runtime)
    logger.info("%s: %s", runtime.job.id, stopped)


def _obey(runtime: Runtime) -> None:
    lease = runtime.keeper.lease
    if runtime.keeper.request == "cancel":
        runtime.jobs.transition(lease, JobState.cancelled)
    elif runtime.keeper.request == "pause":
        runtime.jobs.transition(lease, JobState.paused)
    else:
        runtime.jobs.release(lease)


def _end_in_failure(runtime: Runtime, error: Exception, retry: RetryPolicy) -> None:
    if isinstance(error, (RunFailed, StorageError, *USER_ERRORS)) and not is_infrastructure(error):
        _fail(runtime, error.code, str(error))
    elif is_infrastructure(error):
        _put_back(runtime, error, retry)
    else:
        logger.exception("%s failed unexpectedly", runtime.job.id)
        _fail(runtime, "INTERNAL_ERROR", f"{type(error).__name__}: {error}")


def _fail(runtime: Runtime, code: str, message: str) -> None:
    runtime.jobs.transition(runtime.keeper.lease, JobState.failed, error_code=code, error_message=message)


def _put_back(runtime: Runtime, error: Exception, retry: RetryPolicy) -> None:
    failures = 1 if runtime.keeper.has_progressed else runtime.job.failures + 1
    pause = retry.pause_after(failures)
    why = condition_of(error, failures=failures, pause=pause)
    logger.warning("%s: %s: %s", runtime.job.id, why.reason, why.message)
    runtime.jobs.put_back(runtime.keeper.lease, why, failures=failures, retry_in=pause)


def _search(runtime: Runtime, spec: SearchSpec) -> None:
    with span("preparing"):
        prepared = prepare_search(spec, starts=starts_of(spec, runtime.database))
    for warning in new_warnings(runtime.jobs, runtime.job.id, prepared.warnings):
        runtime.event(WARNING, text=warning)
    result = run_search(runtime, prepared)
    write_artifact(runtime, "factors.json", result.factor_file.to_json())
    runtime.event("winner.chosen", trial=result.winner.trial, verdict=result.verdict, text=result.statement())
    runtime.reach("before hand-off")
    if spec.finetune is None:
        runtime.jobs.transition(runtime.keeper.lease, JobState.succeeded, result_json=result.report().to_json())
    else:
        labels = dict(runtime.jobs.get(runtime.job.id).labels)  # as they are now: they may have been changed
        finetune = FinetuneSpec(search_id=runtime.job.id, model=spec.model, settings=spec.finetune, labels=labels)
        runtime.jobs.hand_off(
            runtime.keeper.lease,
            finetune.canonical_json(),
            result.report().to_json(),
            workers=spec.finetune.workers or 1,
        )
    runtime.reach("after hand-off")


def _finetune(runtime: Runtime, spec: FinetuneSpec) -> None:
    prepared = prepare_finetune(spec, runtime.jobs)
    ensure_ray()  # anew, if the cluster has died since
    trained = run_finetune_job(runtime, prepared)
    report = finetune_report(prepared, trained)
    runtime.jobs.transition(runtime.keeper.lease, JobState.succeeded, result_json=report.to_json())
    forget_states(runtime)


def _evaluation(runtime: Runtime, spec: EvaluationSpec) -> None:
    stored = StoredModels(runtime.database, runtime.store, runtime.home)
    prepared = prepare_evaluation(spec, runtime.jobs, stored=stored)
    result = run_evaluation(runtime, prepared)
    runtime.jobs.transition(runtime.keeper.lease, JobState.succeeded, result_json=result.to_json())


@dataclass(frozen=True, kw_only=True, slots=True)
class Run(Generic[SpecT]):
    """How jobs of one kind are run."""

    spec: type[SpecT]
    run: Callable[[Runtime, SpecT], None]

    def __call__(self, runtime: Runtime) -> None:
        """Read the job's spec and run it."""
        spec = stored_spec(self.spec, runtime.job.spec_json)
        if runtime.job.state is JobState.queued:
            runtime.enter(JobState.preparing)
        self.run(runtime, spec)


RUNS: Mapping[JobKind, Run[Any]] = {
    "search": Run(spec=SearchSpec, run=_search),
    "finetune": Run(spec=FinetuneSpec, run=_finetune),
    "evaluation": Run(spec=EvaluationSpec, run=_evaluation),
}
