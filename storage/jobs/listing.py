"""Lists of jobs, newest first, page by page (keyset: pages stay right while jobs are added)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from ropewalk.wire.kinds import JobKind, JobState
from storage.errors import UnknownPageToken
from storage.jobs.rows import job_from_row
from storage.postgres.tables import jobs
from storage.records import Job, Page

MAX_LIMIT = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFilter:
    """Which jobs a list shows."""

    kind: JobKind
    state: JobState | None = None
    label: tuple[str, str] | None = None
    owner: str | None = None

    def digest(self) -> str:
        """What binds a page token to these filters."""
        return hashlib.sha256(repr(self._told()).encode()).hexdigest()[:12]

    def _told(self) -> tuple[object, ...]:
        """Without an owner as before there were any: tokens that were given out then stay right."""
        filters = (self.kind, str(self.state), self.label)
        return filters if self.owner is None else (*filters, self.owner)


def list_jobs(connection: sa.Connection, chosen: JobFilter, *, limit: int, page_token: str | None) -> Page[Job]:
    """One page of at most `limit` jobs (never more than MAX_LIMIT). Raises: UnknownPageToken."""
    limit = max(1, min(limit, MAX_LIMIT))
    query = sa.select(jobs).where(jobs.c.kind == chosen.kind)
    if chosen.state is not None:
        query = query.where(jobs.c.state == chosen.state.value)
    if chosen.label is not None:
        query = query.where(jobs.c.labels.contains(dict([chosen.label])))
    if chosen.owner is not None:
        query = query.where(jobs.c.owner == chosen.owner)
    if page_token is not None:
        query = query.where(sa.tuple_(jobs.c.created_at, jobs.c.id) < _after(page_token, chosen))
    rows = connection.execute(query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit + 1)).all()
    items = tuple(job_from_row(row) for row in rows[:limit])
    return Page(items=items, next_page_token=_token(items[-1], chosen) if len(rows) > limit else None)


def _token(last: Job, chosen: JobFilter) -> str:
    text = json.dumps([last.created_at.isoformat(), last.id, chosen.digest()])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _after(token: str, chosen: JobFilter) -> sa.ColumnElement[tuple[datetime, str]]:
    try:
        created_at, job_id, digest = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        moment = datetime.fromisoformat(created_at)
        if not isinstance(job_id, str) or "\0" in job_id or moment.tzinfo is None:
            raise ValueError("not a token of ours")
    except (ValueError, TypeError, binascii.Error, UnicodeError):
        raise UnknownPageToken(f"page_token must be one that this list gave out, but got {token[:80]!r}") from None
    if digest != chosen.digest():
        raise UnknownPageToken("page_token must be used with the filters of its list, but they changed")
    return sa.tuple_(sa.literal(moment), sa.literal(job_id))
