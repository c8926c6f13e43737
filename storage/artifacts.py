"""The files that jobs have left, as the database knows them. The files themselves are in a store that is not this
room's: what is uploaded there is visible to nobody before its row is here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from storage.jobs.leases import hold
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.postgres.tables import job_files, jobs
from storage.records import Artifact, Lease


class Artifacts:
    """Of one database. Thread-safe; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried()
    def record(self, lease: Lease, files: Sequence[Artifact]) -> None:
        """Files that are whole in the store; one of the same name is replaced. All or none. Raises: LeaseLost."""
        rows = [
            {"job_id": lease.job_id, "name": one.name, "key": one.key, "bytes": one.bytes, "sha256": one.sha256}
            for one in files
        ]
        with self._database.transaction() as connection:
            hold(connection, lease)
            connection.execute(
                sa.delete(job_files).where(
                    job_files.c.job_id == lease.job_id, job_files.c.name.in_([one.name for one in files])
                )
            )
            if rows:
                connection.execute(sa.insert(job_files), rows)

    @retried()
    def of(self, job_id: str) -> tuple[Artifact, ...]:
        """A job's files by name; none where there is no such job."""
        query = sa.select(job_files).where(job_files.c.job_id == job_id).order_by(job_files.c.name)
        with self._database.transaction() as connection:
            return tuple(
                Artifact(name=row.name, key=row.key, bytes=row.bytes, sha256=row.sha256)
                for row in connection.execute(query)
            )

    @retried()
    def first_live_epoch(self, job_ids: Collection[str]) -> Mapping[str, int]:
        """By job, the least epoch under which a file can still be recorded: what uploads of those before have left, no
        row will ever name. Jobs that do not exist are missing."""
        epoch = jobs.c.lease_epoch + sa.case((jobs.c.lease_owner.is_(None), 1), else_=0)
        with self._database.transaction() as connection:
            rows = connection.execute(sa.select(jobs.c.id, epoch).where(jobs.c.id.in_(job_ids)))
            return {row[0]: row[1] for row in rows}

    @retried()
    def keys(self, job_ids: Collection[str]) -> frozenset[str]:
        """Of all files of these jobs."""
        with self._database.transaction() as connection:
            found = connection.execute(sa.select(job_files.c.key).where(job_files.c.job_id.in_(job_ids)))
            return frozenset(found.scalars())

    @retried()
    def forget(self, job_id: str) -> None:
        """None of a job's files is there any more."""
        with self._database.transaction() as connection:
            connection.execute(sa.delete(job_files).where(job_files.c.job_id == job_id))
