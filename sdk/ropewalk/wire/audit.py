"""The audit log as a server sends it."""

from datetime import datetime

from pydantic import Field, JsonValue

from ropewalk.wire.jobs import Resource


class AuditResource(Resource):
    """Who did what to what."""

    id: int
    actor: str = Field(
        description="key:ID; local: who has the token; operator: who reaches the database; or a part of the service"
    )
    action: str = Field(description="e.g. job.deleted")
    subject: str = Field(description="the id of a job, of a key or of a webhook, which may be gone")
    data: dict[str, JsonValue]
    created_at: datetime


class AuditList(Resource):
    """Entries, newest first."""

    items: list[AuditResource]
    next_before: int | None = Field(description="pass it as before to continue; null: the last page")
