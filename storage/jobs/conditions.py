"""What can be said of a job beside its state: a few conditions, each with a reason and the time of its last change.

As in Kubernetes: programs read `status` and `reason`, people read `message`. They are columns of the job's row, so that
whoever reads a job reads them too, and every one is written by a transaction that holds the row.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, cast, get_args

import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from storage.jobs import events
from storage.jobs.leases import JobRow
from storage.postgres.outages import Outage
from storage.records import Condition, ConditionType

_TYPES = frozenset(get_args(ConditionType))

#: What a state that nobody works in says about progress; states at work say who has claimed the job.
_RESTING: Mapping[JobState, tuple[str, str]] = {
    JobState.queued: ("Queued", "waits for a controller"),
    JobState.paused: ("Paused", "paused on request; continues when resumed"),
    JobState.finetuning: ("FineTuning", "waits for its fine-tuning job"),
    JobState.succeeded: ("Succeeded", "has its result"),
    JobState.failed: ("Failed", "cannot continue; its error says why"),
    JobState.cancelled: ("Cancelled", "ended on request"),
}


def resting(state: JobState) -> Condition | None:
    """The condition of a job that is moved to `state`, which nobody works in; None for a state at work."""
    if state not in _RESTING:
        return None
    reason, message = _RESTING[state]
    return Condition(type="Progressing", status=False, reason=reason, message=message)


def claimed(row: JobRow, owner: str, outage: Outage | None) -> tuple[Condition, Condition]:
    """The conditions of a job that `owner` claims; `row` is from before, with `db_now`. `outage`: in which the lease
    of before expired."""
    return _progressing(row, owner, outage), reachable(owner, outage)


def reachable(owner: str, outage: Outage | None) -> Condition:
    """The condition of a job whose owner reaches the database, after the outage if there was one."""
    if outage is None:
        return _true("DatabaseReachable", "Connected", f"{owner} reaches the database")
    away = f"the database was away for {outage.seconds(time.monotonic()):.0f} s: {outage.reason}"
    return _true("DatabaseReachable", "Reconnected", away)


def _progressing(row: JobRow, owner: str, outage: Outage | None) -> Condition:
    if row.lease_owner is None or outage is not None:
        return _true("Progressing", "Claimed", f"{owner} is at work")
    late = (row.db_now - row.lease_expires_at).total_seconds()
    if row.lease_owner == owner:
        return _true("Progressing", "Claimed", f"{owner} goes on; its own lease had expired {late:.1f} s before")
    message = f"{owner} took over from {row.lease_owner}, whose lease had expired {late:.1f} s before"
    return _true("Progressing", "TakenOver", message)


def _true(type: ConditionType, reason: str, message: str) -> Condition:
    return Condition(type=type, status=True, reason=reason, message=message)


def merged(known: Mapping[str, Any], conditions: Iterable[Condition], at: datetime) -> dict[str, Any]:
    """The column's value after `conditions`; the time stays where neither status nor reason changes."""
    result = dict(known)
    for condition in conditions:
        before = known.get(condition.type, {})
        same = (before.get("status"), before.get("reason")) == (condition.status, condition.reason)
        result[condition.type] = {
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message,
            "changed_at": before["changed_at"] if same else at.isoformat(),
        }
    return result


def record_changes(connection: sa.Connection, row: JobRow, conditions: Iterable[Condition]) -> None:
    """An event for each of `conditions` whose status or reason is another than in `row`, which is from before."""
    for condition in conditions:
        before = row.conditions.get(condition.type, {})
        if (before.get("status"), before.get("reason")) != (condition.status, condition.reason):
            events.record(
                connection,
                row.id,
                "condition.changed",
                condition=condition.type,
                status=condition.status,
                reason=condition.reason,
                message=condition.message,
            )


def from_column(value: Mapping[str, Any]) -> tuple[Condition, ...]:
    """The conditions by type; those that only a newer controller knows are not for this version."""
    return tuple(
        Condition(
            type=cast("ConditionType", name),
            status=one["status"],
            reason=one["reason"],
            message=one["message"],
            changed_at=datetime.fromisoformat(one["changed_at"]),
        )
        for name, one in sorted(value.items())
        if name in _TYPES
    )
