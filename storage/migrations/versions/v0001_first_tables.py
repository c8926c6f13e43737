"""The first tables: jobs, document scores, events, idempotency keys, API keys and artifacts.

Revision 0001, after nothing.
"""

from alembic import op

revision = "0001"
down_revision = None

JOBS = """
CREATE TABLE ropewalk.jobs (
    id text CONSTRAINT pk_jobs PRIMARY KEY,
    kind text NOT NULL,
    state text NOT NULL DEFAULT 'queued',
    spec_json text NOT NULL,
    labels jsonb NOT NULL DEFAULT '{}',
    parent_id text CONSTRAINT fk_jobs_parent_id REFERENCES ropewalk.jobs (id),
    request text NOT NULL DEFAULT 'none',
    progress jsonb NOT NULL DEFAULT '{}',
    result_json text,
    error_code text,
    error_message text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    lease_owner text,
    lease_epoch bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT ck_jobs_state_of_kind CHECK (
        (kind = 'search' AND state IN ('cancelled', 'cancelling', 'failed', 'finetuning', 'paused', 'preparing',
                                       'queued', 'searching', 'succeeded', 'validating'))
        OR (kind = 'finetune' AND state IN ('cancelled', 'cancelling', 'evaluating', 'failed', 'paused', 'preparing',
                                            'queued', 'succeeded', 'training'))
        OR (kind = 'evaluation' AND state IN ('cancelled', 'cancelling', 'evaluating', 'failed', 'paused',
                                              'preparing', 'queued', 'succeeded'))
    ),
    CONSTRAINT ck_jobs_request CHECK (request IN ('none', 'cancel', 'pause')),
    CONSTRAINT ck_jobs_finished_when_final CHECK (
        (finished_at IS NOT NULL) = (state IN ('cancelled', 'failed', 'succeeded'))
    ),
    CONSTRAINT ck_jobs_lease_whole CHECK ((lease_owner IS NULL) = (lease_expires_at IS NULL)),
    CONSTRAINT ck_jobs_lease_when_in_hands CHECK (
        lease_owner IS NULL OR state NOT IN ('cancelled', 'failed', 'finetuning', 'paused', 'succeeded')
    ),
    CONSTRAINT ck_jobs_error_when_failed CHECK ((error_code IS NOT NULL) = (state = 'failed')),
    CONSTRAINT ck_jobs_error_whole CHECK ((error_code IS NULL) = (error_message IS NULL)),
    CONSTRAINT ck_jobs_cancelling_when_requested CHECK (state <> 'cancelling' OR request = 'cancel'),
    CONSTRAINT ck_jobs_request_when_active CHECK (
        request = 'none' OR state NOT IN ('cancelled', 'failed', 'paused', 'queued', 'succeeded')
    ),
    CONSTRAINT ck_jobs_parent_of_finetune CHECK (parent_id IS NULL OR kind = 'finetune'),
    CONSTRAINT ck_jobs_objects CHECK (jsonb_typeof(labels) = 'object' AND jsonb_typeof(progress) = 'object'),
    CONSTRAINT ck_jobs_counters CHECK (lease_epoch >= 0 AND version >= 1)
)
"""

JOB_INDEXES = (
    "CREATE INDEX ix_jobs_kind_created_at_id ON ropewalk.jobs (kind, created_at DESC, id DESC)",
    "CREATE INDEX ix_jobs_labels ON ropewalk.jobs USING gin (labels)",
    """
    CREATE INDEX ix_jobs_claimable ON ropewalk.jobs (created_at, id)
    WHERE state NOT IN ('cancelled', 'failed', 'finetuning', 'paused', 'succeeded')
    """,
    """
    CREATE UNIQUE INDEX uq_jobs_live_child ON ropewalk.jobs (parent_id)
    WHERE parent_id IS NOT NULL AND state NOT IN ('cancelled', 'failed', 'succeeded')
    """,
)

DOCUMENT_SCORES = """
CREATE TABLE ropewalk.document_scores (
    job_id text CONSTRAINT fk_document_scores_job_id REFERENCES ropewalk.jobs (id),
    split text,
    trial integer,
    document_id text,
    nats double precision NOT NULL,
    tokens integer NOT NULL,
    exact boolean NOT NULL,
    worker text NOT NULL,
    attempts integer NOT NULL,
    seconds double precision NOT NULL,
    lease_epoch bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_document_scores PRIMARY KEY (job_id, split, trial, document_id),
    CONSTRAINT ck_document_scores_nats CHECK (nats >= -0.001 AND nats < 'Infinity'),
    CONSTRAINT ck_document_scores_tokens CHECK (tokens > 0),
    CONSTRAINT ck_document_scores_key CHECK (trial >= 0 AND split <> '' AND document_id <> ''),
    CONSTRAINT ck_document_scores_effort CHECK (attempts >= 1 AND seconds >= 0 AND seconds < 'Infinity')
)
"""

EVENTS = """
CREATE TABLE ropewalk.events (
    id bigserial CONSTRAINT pk_events PRIMARY KEY,
    job_id text NOT NULL CONSTRAINT fk_events_job_id REFERENCES ropewalk.jobs (id),
    type text NOT NULL,
    data_json text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ck_events_type CHECK (type <> '')
)
"""

EVENT_INDEX = "CREATE INDEX ix_events_job_id_id ON ropewalk.events (job_id, id)"

IDEMPOTENCY_KEYS = """
CREATE TABLE ropewalk.idempotency_keys (
    principal text,
    key text,
    request_hash text NOT NULL,
    job_id text NOT NULL CONSTRAINT fk_idempotency_keys_job_id REFERENCES ropewalk.jobs (id)
        DEFERRABLE INITIALLY DEFERRED,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_idempotency_keys PRIMARY KEY (principal, key),
    CONSTRAINT ck_idempotency_keys_given CHECK (key <> '' AND request_hash <> '')
)
"""

API_KEYS = """
CREATE TABLE ropewalk.api_keys (
    id text CONSTRAINT pk_api_keys PRIMARY KEY,
    name text NOT NULL,
    scopes text[] NOT NULL,
    salt bytea NOT NULL,
    secret_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz,
    CONSTRAINT ck_api_keys_scopes CHECK (
        cardinality(scopes) > 0 AND scopes <@ ARRAY['admin', 'read', 'submit', 'worker']::text[]
    ),
    CONSTRAINT ck_api_keys_name CHECK (name <> ''),
    CONSTRAINT ck_api_keys_hashed CHECK (octet_length(salt) >= 16 AND octet_length(secret_hash) >= 32)
)
"""

ARTIFACTS = """
CREATE TABLE ropewalk.artifacts (
    job_id text CONSTRAINT fk_artifacts_job_id REFERENCES ropewalk.jobs (id),
    name text,
    path text NOT NULL,
    media_type text NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_artifacts PRIMARY KEY (job_id, name),
    CONSTRAINT ck_artifacts_bytes CHECK (bytes >= 0),
    CONSTRAINT ck_artifacts_sha256 CHECK (sha256 ~ '^[0-9a-f]{64}$')
)
"""

# History is only added to: neither a mistake of ours nor a client's UPDATE changes what was accepted.
APPEND_ONLY = """
CREATE FUNCTION ropewalk.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of %.% are only ever added, but got %', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$
"""


def upgrade() -> None:
    """Make everything."""
    op.execute(JOBS)
    for index in JOB_INDEXES:
        op.execute(index)
    for table in (DOCUMENT_SCORES, EVENTS, EVENT_INDEX, IDEMPOTENCY_KEYS, API_KEYS, ARTIFACTS):
        op.execute(table)
    op.execute(APPEND_ONLY)
    for name in ("document_scores", "events"):
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ropewalk.{name} "
            "FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_change()"
        )
