"""The moves of a trial that a controller makes most often, each one statement: started, told, raced out.

What Optuna's `set_trial_state_values` does in four to six; a test holds the two against each other.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from optuna.storages._rdb import models

from storage.jobs.fenced import HELD, execute_held
from storage.postgres.database import Database
from storage.records import Lease

# Optuna writes the local time of the process.
_START = sa.text(f"""
    {HELD},
    moved AS (
        UPDATE trials SET state = 'RUNNING', datetime_start = :now
        FROM held WHERE trial_id = :trial_id AND state = 'WAITING' RETURNING trial_id
    )
    SELECT held.request, (SELECT count(*) FROM moved) AS moved FROM held
""")
_END = """
    moved AS (
        UPDATE trials SET state = '{state}', datetime_complete = :now
        FROM held WHERE trial_id = :trial_id AND state IN ('WAITING', 'RUNNING') RETURNING trial_id
    )
"""
_PRUNE = sa.text(f"""
    {HELD}, {_END.format(state="PRUNED")}
    SELECT held.request, (SELECT count(*) FROM moved) AS moved FROM held
""")
_COMPLETE = sa.text(f"""
    {HELD}, {_END.format(state="COMPLETE")},
    told AS (
        INSERT INTO trial_values (trial_id, objective, value, value_type)
        SELECT trial_id, 0, CAST(:value AS float8), CAST(:value_type AS trialvaluetype) FROM moved
    )
    SELECT held.request, (SELECT count(*) FROM moved) AS moved FROM held
""")


def start(database: Database, lease: Lease, trial_id: int) -> bool:
    """Waiting -> running; `trial_id` is Optuna's. Every move returns whether there was anything to move.

    Raises:
        LeaseLost, DatabaseUnreachable.
    """
    return _move(database, lease, _START, trial_id=trial_id)


def prune(database: Database, lease: Lease, trial_id: int) -> bool:
    """Unfinished -> pruned."""
    return _move(database, lease, _PRUNE, trial_id=trial_id)


def complete(database: Database, lease: Lease, trial_id: int, value: float) -> bool:
    """Unfinished -> complete with its value, a number or infinity."""
    stored, value_type = models.TrialValueModel.value_to_stored_repr(value)
    return _move(database, lease, _COMPLETE, trial_id=trial_id, value=stored, value_type=value_type.name)


def _move(database: Database, lease: Lease, statement: sa.TextClause, **values: object) -> bool:
    row = execute_held(database, lease, statement, {**values, "now": datetime.now()})
    return bool(row.moved)
