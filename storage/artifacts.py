"""Which files a job left behind."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from storage.database import Database
from storage.leases import hold
from storage.records import Artifact, Lease
from storage.retries import retried
from storage.tables import artifacts


class ArtifactStore:
    """The artifacts of one database. Thread-safe; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried()
    def put(self, lease: Lease, artifact: Artifact) -> None:
        """Record a file that is on disk, whole; a later one of the same name takes its place. Raises: LeaseLost."""
        values = {
            "path": artifact.path,
            "media_type": artifact.media_type,
            "bytes": artifact.bytes,
            "sha256": artifact.sha256,
        }
        statement = insert(artifacts).values(job_id=lease.job_id, name=artifact.name, **values)
        with self._database.transaction() as connection:
            hold(connection, lease, shared=True)
            connection.execute(statement.on_conflict_do_update(index_elements=["job_id", "name"], set_=values))

    @retried()
    def all(self, job_id: str) -> tuple[Artifact, ...]:
        """The job's artifacts by name."""
        query = sa.select(artifacts).where(artifacts.c.job_id == job_id).order_by(artifacts.c.name)
        with self._database.transaction() as connection:
            rows = connection.execute(query).all()
        return tuple(
            Artifact(name=row.name, path=row.path, media_type=row.media_type, bytes=row.bytes, sha256=row.sha256)
            for row in rows
        )
