"""What the records of the other rooms look like over HTTP."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ropewalk.wire.files import FileList, FileResource
from ropewalk.wire.jobs import (
    REPORTS,
    ConditionResource,
    DeletedResource,
    EstimateResource,
    EventResource,
    JobError,
    JobPage,
    JobResource,
    JobSummary,
    ProgressResource,
)
from storage.records import Artifact, Condition, Event, Job, Page

if TYPE_CHECKING:
    # These bring the database drivers along.
    from service.submissions import SearchEstimate
    from storage.jobs.deletion import Deleted


def job_resource(job: Job, warnings: Sequence[str] = ()) -> JobResource:
    """A job, from its stored row, with what its history tells of its model."""
    return JobResource(
        id=job.id,
        kind=job.kind,
        state=job.state,
        request=job.request,
        labels=dict(job.labels),
        parent_id=job.parent_id,
        owner=job.owner,
        priority=job.priority,
        spec=json.loads(job.spec_json),
        progress=_progress(job),
        conditions=[_condition(condition) for condition in job.conditions],
        failures=job.failures,
        retry_at=job.retry_at,
        result=REPORTS[job.kind].from_json(job.result_json) if job.result_json else None,
        error=_error(job),
        warnings=list(warnings),
        created_at=job.created_at,
        updated_at=job.updated_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def job_page(page: Page[Job]) -> JobPage:
    """A page of jobs, from stored rows."""
    return JobPage(items=[_summary(job) for job in page.items], next_page_token=page.next_page_token)


def deleted_resource(deleted: "Deleted", size: int) -> DeletedResource:
    """What went with a job, and the bytes of its files."""
    return DeletedResource(
        id=deleted.id,
        kind=deleted.kind,
        scores=deleted.scores,
        events=deleted.events,
        trials=deleted.trials,
        bytes=size,
    )


def event_resource(event: Event) -> EventResource:
    """An event, from its stored row."""
    return EventResource(id=event.id, type=event.type, data=json.loads(event.data_json), created_at=event.created_at)


def estimate_resource(estimate: "SearchEstimate") -> EstimateResource:
    """What a spec would cost, from the service's estimate."""
    return EstimateResource(
        spec=json.loads(estimate.spec.canonical_json()),
        candidates=estimate.candidates,
        baselines=estimate.baselines,
        document_passes=estimate.document_passes,
        tokens=estimate.tokens,
        validation_document_passes=estimate.validation_document_passes,
        validation_tokens=estimate.validation_tokens,
        warnings=list(estimate.warnings),
    )


def _summary(job: Job) -> JobSummary:
    spec = json.loads(job.spec_json)
    return JobSummary(
        id=job.id,
        kind=job.kind,
        state=job.state,
        model=spec.get("model"),
        target_length=spec.get("target_length"),
        labels=dict(job.labels),
        parent_id=job.parent_id,
        owner=job.owner,
        priority=job.priority,
        progress=_progress(job),
        error=_error(job),
        created_at=job.created_at,
        finished_at=job.finished_at,
    )


def _progress(job: Job) -> ProgressResource:
    """What a stage had left says nothing once the job is elsewhere."""
    progress = job.progress
    return ProgressResource(
        stage=progress.stage,
        generation=progress.generation,
        trials=progress.trials,
        document_passes=progress.document_passes,
        total_document_passes=progress.total_document_passes,
        tokens=progress.tokens,
        total_tokens=progress.total_tokens,
        cached_passes=progress.cached_passes,
        best_nll=progress.best_nll,
        best_trial=progress.best_trial,
        fraction=progress.fraction,
        seconds_left=progress.seconds_left if progress.stage == job.state else None,
        note=progress.note,
    )


def _condition(condition: Condition) -> ConditionResource:
    return ConditionResource(
        type=condition.type,
        status=condition.status,
        reason=condition.reason,
        message=condition.message,
        last_transition_time=condition.changed_at,
    )


def _error(job: Job) -> JobError | None:
    """None unless the job failed."""
    return JobError(code=job.error_code, message=job.error_message or "") if job.error_code else None


def file_list(files: Sequence[Artifact]) -> FileList:
    """The resource of a job's files."""
    return FileList(items=[FileResource(name=one.name, bytes=one.bytes, sha256=one.sha256) for one in files])
