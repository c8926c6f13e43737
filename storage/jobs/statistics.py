"""What all jobs together have done and are waiting for, counted in the database: any process tells the whole truth,
whichever controllers did the work and whether they still live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from ropewalk.wire.kinds import JobKind, JobState
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.transitions import CLAIMABLE

_JOBS = sa.text("SELECT kind, state, count(*) FROM ropewalk.jobs GROUP BY kind, state")
_PASSES = sa.text("""
    SELECT kind, coalesce(sum(CAST(progress->>'document_passes' AS bigint)), 0),
           coalesce(sum(CAST(progress->>'cached_passes' AS bigint)), 0),
           coalesce(sum(CAST(progress->>'tokens' AS bigint)), 0)
    FROM ropewalk.jobs GROUP BY kind
""")
_JOB_FAILURES = sa.text(
    "SELECT kind, error_code, count(*) FROM ropewalk.jobs WHERE error_code IS NOT NULL GROUP BY kind, error_code"
)
_INFRASTRUCTURE = sa.text("""
    SELECT CAST(data_json AS jsonb)->>'reason', count(*) FROM ropewalk.events
    WHERE type = 'infrastructure.failed' GROUP BY 1
""")
_EVENTS = sa.text(
    "SELECT type, count(*) FROM ropewalk.events WHERE type IN ('job.taken_over', 'trial.failed') GROUP BY type"
)
# Free, and due: what the next look for work would find.
_QUEUE = sa.text("""
    SELECT kind, count(*), extract(epoch FROM max(clock_timestamp() - updated_at)) FROM ropewalk.jobs
    WHERE state = ANY(:claimable) AND (lease_expires_at IS NULL OR lease_expires_at <= clock_timestamp())
          AND (retry_at IS NULL OR retry_at <= clock_timestamp())
    GROUP BY kind
""")
_CONTROLLERS = sa.text(
    "SELECT count(DISTINCT lease_owner) FROM ropewalk.jobs WHERE lease_expires_at > clock_timestamp()"
)
# A stage ends where the next one begins; the last one of a job has not ended.
_STAGES = sa.text("""
    SELECT jobs.kind, stage, count(*), extract(epoch FROM sum(ended_at - began_at))
    FROM (
        SELECT job_id, created_at AS began_at,
               CASE type WHEN 'job.created' THEN 'queued' ELSE CAST(data_json AS jsonb)->>'to' END AS stage,
               lead(created_at) OVER (PARTITION BY job_id ORDER BY id) AS ended_at
        FROM ropewalk.events WHERE type IN ('job.created', 'state.changed')
    ) AS stages JOIN ropewalk.jobs ON jobs.id = job_id
    WHERE ended_at IS NOT NULL GROUP BY jobs.kind, stage
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class StageTime:
    """How often jobs have been through a stage, and the seconds that all of them spent in it."""

    times: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """Jobs that a controller could claim now, and how long the longest of them has been so, in seconds."""

    jobs: int
    longest_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """Everything since the database was made; nothing for what has not happened."""

    jobs: Mapping[tuple[JobKind, JobState], int]
    #: by kind: document passes, and those of them that the score cache answered
    passes: Mapping[JobKind, tuple[int, int]]
    #: by kind: what those passes read, and trainings were trained on
    tokens: Mapping[JobKind, int]
    #: by kind and error code: jobs in state failed
    failed_jobs: Mapping[tuple[JobKind, str], int]
    #: by reason: how often a job was requeued because the infrastructure failed
    infrastructure_failures: Mapping[str, int]
    #: candidates that could not be scored
    failed_trials: int
    #: leases that ran out in their owner's hands, so that another controller took the job over
    lease_losses: int
    waiting: Mapping[JobKind, Waiting]
    #: that hold a job now
    controllers: int
    #: by kind and state
    stages: Mapping[tuple[JobKind, str], StageTime]


@retried()
def read_statistics(database: Database) -> Statistics:
    """Count everything anew. Raises: DatabaseUnreachable, SchemaOutdated."""
    claimable = sorted(state.value for state in CLAIMABLE)
    with database.transaction() as connection:
        work = connection.execute(_PASSES).all()
        events = {kind: count for kind, count in connection.execute(_EVENTS)}  # noqa: C416 (rows are no pairs to mypy)
        return Statistics(
            jobs={(kind, JobState(state)): count for kind, state, count in connection.execute(_JOBS)},
            passes={kind: (int(passes), int(cached)) for kind, passes, cached, _ in work},
            tokens={kind: int(tokens) for kind, _, _, tokens in work},
            failed_jobs={(kind, code): count for kind, code, count in connection.execute(_JOB_FAILURES)},
            infrastructure_failures={reason: count for reason, count in connection.execute(_INFRASTRUCTURE)},  # noqa: C416
            failed_trials=events.get("trial.failed", 0),
            lease_losses=events.get("job.taken_over", 0),
            waiting={
                kind: Waiting(jobs=count, longest_seconds=float(longest))
                for kind, count, longest in connection.execute(_QUEUE, {"claimable": claimable})
            },
            controllers=connection.execute(_CONTROLLERS).scalar_one(),
            stages={
                (kind, stage): StageTime(times=times, seconds=float(seconds))
                for kind, stage, times, seconds in connection.execute(_STAGES)
            },
        )
