"""Who held a search when, and whether every score was accepted under the lease of its time."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Event


def passes(database: Database, search_id: str) -> int:
    return JobStore(database).get(search_id).progress.document_passes


def claims(database: Database, search_id: str) -> list[tuple[Event, dict[str, Any]]]:
    """Claims and take-overs, in order."""
    events = JobStore(database).events(search_id)
    return [(event, json.loads(event.data_json)) for event in events if event.type in ("job.claimed", "job.taken_over")]


def accepted(database: Database, search_id: str) -> list[tuple[int, datetime]]:
    """Epoch and time of every accepted score that a document was scored for, rather than found in the cache."""
    query = """
        SELECT lease_epoch, created_at FROM ropewalk.document_scores
        WHERE job_id = :id AND worker <> 'cache' ORDER BY created_at
    """
    with database.engine.begin() as connection:
        rows = connection.execute(sa.text(query), {"id": search_id}).all()
    return [(row.lease_epoch, row.created_at) for row in rows]


def assert_fenced(database: Database, search_id: str) -> None:
    """Every score was accepted under the lease of its time: by whoever had claimed the search last."""
    starts = [(told["epoch"], event.created_at) for event, told in claims(database, search_id)]
    assert [number for number, _ in starts] == list(range(1, len(starts) + 1))
    for number, when in accepted(database, search_id):
        assert [epoch for epoch, start in starts if start <= when][-1] == number
