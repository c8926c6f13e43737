"""What all jobs together have done and are waiting for, counted in the database: any process tells the whole truth,
whichever controllers did the work and whether they still live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from ropewalk.wire.kinds import JobKind, JobState
from storage.jobs import claims, counting
from storage.postgres.database import Database
from storage.postgres.retries import retried

_JOBS = sa.text("SELECT kind, state, count(*) FROM ropewalk.jobs GROUP BY kind, state")
_CONTROLLERS = sa.text(
    "SELECT count(DISTINCT lease_owner) FROM ropewalk.jobs WHERE lease_expires_at > clock_timestamp()"
)
# By what is told, with indexes and whatever a table keeps elsewhere. Tables of a study are Optuna's.
_SIZES = sa.text("""
    SELECT coalesce(part, 'other'), sum(pg_total_relation_size(pg_class.oid))
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    LEFT JOIN (VALUES ('jobs', 'jobs'), ('document_scores', 'scores'), ('score_cache', 'score_cache'),
                      ('events', 'events'), ('audit', 'audit')) AS parts (relname, part)
         ON nspname = 'ropewalk' AND parts.relname = pg_class.relname
    WHERE relkind = 'r' AND nspname = 'ropewalk' GROUP BY 1
    UNION ALL
    SELECT 'studies', coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE relkind = 'r' AND nspname = 'optuna'
""")

_DELIVERIES = sa.text("""
    SELECT CASE WHEN delivered IS NULL THEN 'pending' WHEN delivered THEN 'delivered' ELSE 'failed' END, count(*)
    FROM ropewalk.deliveries GROUP BY 1
""")
_OUTCOMES = {"pending": 0, "delivered": 0, "failed": 0}


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
    """Everything since the database was made, with jobs that were deleted since; nothing for what has not happened."""

    jobs: Mapping[tuple[JobKind, JobState], int]
    #: by kind: document passes, and those of them that the score cache answered
    passes: Mapping[JobKind, tuple[int, int]]
    #: by kind: what those passes read, and trainings were trained on
    tokens: Mapping[JobKind, int]
    #: by kind and error code: jobs that failed
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
    #: by part: bytes on the database's disk
    sizes: Mapping[str, int]
    #: to webhooks, by outcome: pending, delivered or failed
    deliveries: Mapping[str, int]


@retried()
def read_statistics(database: Database) -> Statistics:
    """Count everything anew. Raises: DatabaseUnreachable, SchemaOutdated."""
    with database.transaction() as connection:
        counts = counting.totals(connection)
        by_name = {name: [one for one in counts if one.name == name] for name in {one.name for one in counts}}

        def named(name: str) -> Mapping[JobKind, int]:
            return {one.kind: one.times for one in by_name.get(name, ())}

        cached = named("cached")
        return Statistics(
            jobs={(kind, JobState(state)): count for kind, state, count in connection.execute(_JOBS)},
            passes={kind: (passes, cached.get(kind, 0)) for kind, passes in named("pass").items()},
            tokens=named("token"),
            failed_jobs={(one.kind, one.label): one.times for one in by_name.get("failed", ())},
            infrastructure_failures={one.label: one.times for one in by_name.get("infrastructure.failed", ())},
            failed_trials=sum(one.times for one in by_name.get("trial.failed", ())),
            lease_losses=sum(one.times for one in by_name.get("job.taken_over", ())),
            waiting={
                kind: Waiting(jobs=count, longest_seconds=float(longest))
                for kind, count, longest in connection.execute(claims.QUEUE)
            },
            controllers=connection.execute(_CONTROLLERS).scalar_one(),
            stages={
                (one.kind, one.label): StageTime(times=one.times, seconds=one.seconds)
                for one in by_name.get("stage", ())
            },
            sizes={part: int(size) for part, size in connection.execute(_SIZES)},
            deliveries=_OUTCOMES | {outcome: count for outcome, count in connection.execute(_DELIVERIES)},  # noqa: C416
        )
