"""What jobs have done, as counts that only ever grow: those of a job that is deleted are added to the tallies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

# name, kind, label, times, seconds: one row for each count of the jobs in `chosen` (id, kind, progress, error_code).
# A stage ends where the next one begins; the last one of a job has not ended.
_COUNTS = """
    SELECT 'pass' AS name, kind, '' AS label, CAST(progress->>'document_passes' AS bigint) AS times,
           CAST(0 AS float8) AS seconds FROM chosen
    UNION ALL
    SELECT 'cached', kind, '', CAST(progress->>'cached_passes' AS bigint), 0 FROM chosen
    UNION ALL
    SELECT 'token', kind, '', CAST(progress->>'tokens' AS bigint), 0 FROM chosen
    UNION ALL
    SELECT 'failed', kind, error_code, 1, 0 FROM chosen WHERE error_code IS NOT NULL
    UNION ALL
    SELECT type, '', coalesce(CAST(data_json AS jsonb)->>'reason', ''), count(*), 0
    FROM ropewalk.events WHERE type = 'infrastructure.failed' AND {of_chosen} GROUP BY 1, 3
    UNION ALL
    SELECT type, '', '', count(*), 0
    FROM ropewalk.events WHERE type IN ('job.taken_over', 'trial.failed') AND {of_chosen} GROUP BY 1
    UNION ALL
    SELECT 'stage', chosen.kind, stage, count(*), CAST(extract(epoch FROM sum(ended_at - began_at)) AS float8)
    FROM (
        SELECT job_id, created_at AS began_at,
               CASE type WHEN 'job.created' THEN 'queued' ELSE CAST(data_json AS jsonb)->>'to' END AS stage,
               lead(created_at) OVER (PARTITION BY job_id ORDER BY id) AS ended_at
        FROM ropewalk.events WHERE type IN ('job.created', 'state.changed') AND {of_chosen}
    ) AS stages JOIN chosen ON chosen.id = job_id
    WHERE ended_at IS NOT NULL GROUP BY chosen.kind, stage
"""
_TOTALS = sa.text(f"""
    WITH chosen AS (SELECT id, kind, progress, error_code FROM ropewalk.jobs)
    SELECT name, kind, label, CAST(sum(times) AS bigint) AS times, sum(seconds) AS seconds
    FROM ({_COUNTS.format(of_chosen="true")} UNION ALL SELECT * FROM ropewalk.tallies) AS counts
    WHERE times IS NOT NULL GROUP BY name, kind, label
""")
# In the order of the keys: two deletions that add to the same rows would otherwise deadlock.
_KEEP = sa.text(f"""
    WITH chosen AS (SELECT id, kind, progress, error_code FROM ropewalk.jobs WHERE id = :job_id)
    INSERT INTO ropewalk.tallies (name, kind, label, times, seconds)
    SELECT name, kind, label, times, seconds FROM ({_COUNTS.format(of_chosen="job_id = :job_id")}) AS counts
    WHERE times > 0 ORDER BY name, kind, label
    ON CONFLICT (name, kind, label) DO UPDATE
    SET times = tallies.times + excluded.times, seconds = tallies.seconds + excluded.seconds
""")


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """How often something happened to jobs of a kind, and the seconds that it took where it takes any."""

    name: str
    kind: Any
    label: str
    times: int
    seconds: float


def totals(connection: sa.Connection) -> tuple[Count, ...]:
    """Over all jobs, deleted ones too. Rounded, since sums in another order differ in the last bit, and a counter that
    goes down by that much has been reset to those who read it."""
    return tuple(
        Count(name=row.name, kind=row.kind, label=row.label, times=row.times, seconds=round(float(row.seconds), 6))
        for row in connection.execute(_TOTALS)
    )


def keep(connection: sa.Connection, job_id: str) -> None:
    """Add the counts of a job that is about to be deleted to the tallies."""
    connection.execute(_KEEP, {"job_id": job_id})
