"""Webhooks and their deliveries, and who a job belongs to.

Revision 0007, after 0006.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

# Null: nobody knows, as of jobs from before creators were recorded.
OWNER = "ALTER TABLE ropewalk.jobs ADD COLUMN owner text"

OWNERS = """
UPDATE ropewalk.jobs SET owner = (
    SELECT CAST(data_json AS jsonb)->>'creator' FROM ropewalk.events
    WHERE type = 'job.created' AND job_id = coalesce(jobs.parent_id, jobs.id) ORDER BY id LIMIT 1
)
"""

WEBHOOKS = """
CREATE TABLE ropewalk.webhooks (
    id text CONSTRAINT pk_webhooks PRIMARY KEY,
    owner text NOT NULL,
    every_job boolean NOT NULL,
    url text NOT NULL,
    states text[] NOT NULL,
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    CONSTRAINT ck_webhooks_given CHECK (owner <> '' AND url <> '' AND cardinality(states) > 0),
    CONSTRAINT ck_webhooks_secret CHECK (octet_length(secret) >= 24)
)
"""

DELIVERIES = """
CREATE TABLE ropewalk.deliveries (
    id bigserial CONSTRAINT pk_deliveries PRIMARY KEY,
    webhook_id text NOT NULL CONSTRAINT fk_deliveries_webhook_id REFERENCES ropewalk.webhooks (id),
    job_id text NOT NULL,
    event_id bigint NOT NULL,
    state text NOT NULL,
    previous_state text,
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz DEFAULT clock_timestamp(),
    ended_at timestamptz,
    delivered boolean,
    status integer,
    reason text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ck_deliveries_attempts CHECK (attempts >= 0),
    CONSTRAINT ck_deliveries_ended CHECK (
        (ended_at IS NULL) = (due_at IS NOT NULL) AND (ended_at IS NULL) = (delivered IS NULL)
    )
)
"""

INDEXES = (
    "CREATE INDEX ix_deliveries_due_at ON ropewalk.deliveries (due_at) WHERE ended_at IS NULL",
    "CREATE INDEX ix_deliveries_webhook_id_id ON ropewalk.deliveries (webhook_id, id)",
    "CREATE INDEX ix_deliveries_job_id ON ropewalk.deliveries (job_id)",
)

# In the transaction that changes the state, whichever version of the code that is of: what is told is what happened.
FOLLOW = """
CREATE FUNCTION ropewalk.follow_state() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told jsonb := CAST(NEW.data_json AS jsonb);
    owned text;
BEGIN
    IF NEW.type = 'job.created' THEN
        UPDATE ropewalk.jobs AS child
        SET owner = coalesce(told->>'creator', (SELECT owner FROM ropewalk.jobs WHERE id = child.parent_id))
        WHERE id = NEW.job_id AND owner IS NULL;
    END IF;
    SELECT owner INTO owned FROM ropewalk.jobs WHERE id = NEW.job_id;
    INSERT INTO ropewalk.deliveries (webhook_id, job_id, event_id, state, previous_state)
    SELECT id, NEW.job_id, NEW.id, coalesce(told->>'to', 'queued'), told->>'from'
    FROM ropewalk.webhooks
    WHERE ended_at IS NULL AND (every_job OR owner = owned) AND coalesce(told->>'to', 'queued') = ANY (states);
    RETURN NULL;
END $$
"""

TRIGGER = """
CREATE TRIGGER follow_state AFTER INSERT ON ropewalk.events
FOR EACH ROW WHEN (NEW.type IN ('job.created', 'state.changed')) EXECUTE FUNCTION ropewalk.follow_state()
"""


def upgrade() -> None:
    """Add all of it."""
    for statement in (OWNER, OWNERS, WEBHOOKS, DELIVERIES, *INDEXES, FOLLOW, TRIGGER):
        op.execute(statement)
