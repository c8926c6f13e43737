"""`/v1/audit`: who did what."""

import json
from typing import Annotated

from fastapi import APIRouter, Query

from api.http import deps
from api.http.routes import common
from ropewalk.wire.audit import AuditList, AuditResource
from storage.records import AuditEntry

router = APIRouter(prefix="/v1", tags=["operations"])


@router.get("/audit", operation_id="list_audit", responses=common.problems())
def list_audit(
    door: deps.TheDoor,
    limit: deps.Limit,
    subject: Annotated[
        str | None,
        Query(
            max_length=deps.MAX_FILTER_CHARACTERS, description="only what was done to this job, key, webhook or owner"
        ),
    ] = None,
    actor: Annotated[
        str | None,
        Query(max_length=deps.MAX_FILTER_CHARACTERS, description="only what this one did: key:..., local, operator"),
    ] = None,
    before: Annotated[
        int | None, Query(ge=0, le=deps.MAX_EVENT_ID, description="only entries with a lesser id: next_before")
    ] = None,
) -> AuditList:
    """Who did what, newest first: submissions, requests, changes, deletions, keys, limits, webhooks. Needs scope
    admin. No text that a user chose is in it."""
    found = door.audit(subject=subject, actor=actor, before=before, limit=limit + 1)
    items = [_resource(entry) for entry in found[:limit]]
    return AuditList(items=items, next_before=items[-1].id if len(found) > limit else None)


def _resource(entry: AuditEntry) -> AuditResource:
    return AuditResource(
        id=entry.id,
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        data=json.loads(entry.data_json),
        created_at=entry.created_at,
    )
