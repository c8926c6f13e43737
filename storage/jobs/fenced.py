"""Writes of a controller that are one statement: sent once, checked against the lease and committed by the server.

A transaction of several statements waits for the network and for two schedulers at each of them; on a busy machine that
costs more than the disk does.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from storage.errors import LeaseLost
from storage.jobs.leases import JobRow, hold
from storage.postgres.database import Database
from storage.records import Lease

#: The beginning of such a statement: `held` has the job's row if the lease is held, and none otherwise, so whatever is
#: selected from it is written or not.
HELD = """
    WITH locked AS MATERIALIZED (SELECT * FROM ropewalk.jobs WHERE id = :job_id FOR SHARE),
    held AS MATERIALIZED (
        SELECT request FROM locked WHERE lease_owner = :owner AND lease_epoch = :epoch
    )
"""


def execute_held(database: Database, lease: Lease, statement: sa.TextClause, values: Mapping[str, object]) -> JobRow:
    """The one row that `statement`, which starts with `HELD` and selects from `held` at its end, answers.

    Raises:
        LeaseLost: nothing was written.
        DatabaseUnreachable: perhaps it was; do it again only if twice is once.
    """
    fence = {"job_id": lease.job_id, "owner": lease.owner, "epoch": lease.epoch}
    with database.autocommit() as connection:
        row = connection.execute(statement, {**values, **fence}).one_or_none()
    if row is None:
        with database.transaction() as connection:
            hold(connection, lease, shared=True)  # says why
        raise LeaseLost(f"{lease.job_id} was lost by {lease.owner} at epoch {lease.epoch}")
    return row
