"""Whose turn it is: priorities, workers of waiting jobs, and limits of owners; a scope for one's own jobs.

Revision 0008, after 0007.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

JOBS = """
ALTER TABLE ropewalk.jobs
    ADD COLUMN priority integer NOT NULL DEFAULT 0,
    ADD COLUMN workers integer NOT NULL DEFAULT 1,
    ADD CONSTRAINT ck_jobs_priority CHECK (priority BETWEEN -100 AND 100),
    ADD CONSTRAINT ck_jobs_workers CHECK (workers >= 1)
"""

# Of jobs that may still run; processes of the version before leave the default.
WORKERS = """
UPDATE ropewalk.jobs SET workers = greatest(1, coalesce(
    CAST(CAST(spec_json AS jsonb)->>'workers' AS integer),
    CAST(CAST(spec_json AS jsonb)->'settings'->>'workers' AS integer), 1
)) WHERE state NOT IN ('cancelled', 'failed', 'succeeded')
"""

OWNER_INDEX = "CREATE INDEX ix_jobs_owner_kind_created_at_id ON ropewalk.jobs (owner, kind, created_at DESC, id DESC)"

LIMITS = """
CREATE TABLE ropewalk.owner_limits (
    owner text CONSTRAINT pk_owner_limits PRIMARY KEY,
    running_jobs integer,
    workers integer,
    stored_bytes bigint,
    CONSTRAINT ck_owner_limits_given CHECK (
        owner <> '' AND coalesce(running_jobs, 1) >= 1 AND coalesce(workers, 1) >= 1 AND coalesce(stored_bytes, 0) >= 0
    )
)
"""

SCOPES = """
ALTER TABLE ropewalk.api_keys
    DROP CONSTRAINT ck_api_keys_scopes,
    ADD CONSTRAINT ck_api_keys_scopes CHECK (
        cardinality(scopes) > 0 AND scopes <@ ARRAY['admin', 'own', 'read', 'submit', 'worker']::text[]
    )
"""


def upgrade() -> None:
    """Add all of it."""
    for statement in (JOBS, WORKERS, OWNER_INDEX, LIMITS, SCOPES):
        op.execute(statement)
