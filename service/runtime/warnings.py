"""What a user must know of a job's model, as its history tells it from the submission on."""

import json
from collections.abc import Iterable, Iterator

from storage.jobs.store import JobStore

WARNING = "model.warning"
_FIRST_EVENTS = 32
"""Warnings are among these: they are told when a job is created, or when it is prepared first."""


def warnings_of(jobs: JobStore, job_id: str) -> tuple[str, ...]:
    """Those that the job's history tells. Raises: JobNotFound."""
    first = jobs.events(job_id, limit=_FIRST_EVENTS)
    return tuple(json.loads(event.data_json)["text"] for event in first if event.type == WARNING)


def new_warnings(jobs: JobStore, job_id: str, warnings: Iterable[str]) -> Iterator[str]:
    """Those of `warnings` that the job's history does not tell yet."""
    told = warnings_of(jobs, job_id)
    return (warning for warning in warnings if warning not in told)
