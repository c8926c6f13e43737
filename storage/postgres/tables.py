"""Our tables, in schema `ropewalk`. What must always hold is a constraint here, not a habit of the code.

The migrations in `migrations/versions` make exactly these tables, and the triggers that make events and scores
append-only as long as their job is there, and cached scores unchangeable; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from ropewalk.wire.kinds import JOB_KINDS
from storage.postgres.schema_names import OUR_SCHEMA
from storage.records import SCOPES
from storage.transitions import FINAL, STATES, UNLEASED

metadata = sa.MetaData(
    schema=OUR_SCHEMA,
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    },
)

Timestamp = sa.DateTime(timezone=True)

# In PostgreSQL NaN is greater than infinity, so this refuses both. Low precision may come out a hair below zero.
_NATS = "nats >= -0.001 AND nats < 'Infinity'"
_TOKENS = "tokens > 0"
# A missing element would make both comparisons unknown, which a constraint lets pass.
_GRADIENT = (
    "cardinality(gradient) > 1 AND array_position(gradient, NULL) IS NULL "
    "AND '-Infinity' < ALL (gradient) AND 'Infinity' > ALL (gradient)"
)


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in sorted(words))


def _created_at() -> sa.Column[object]:
    return sa.Column("created_at", Timestamp, nullable=False, server_default=sa.text("clock_timestamp()"))


#: Jobs that a controller has or may claim: few of many, and in an index.
IN_HANDS = f"state NOT IN ({_quoted(UNLEASED)})"

_STATE_OF_KIND = " OR ".join(f"(kind = '{kind}' AND state IN ({_quoted(STATES[kind])}))" for kind in JOB_KINDS)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="queued"),
    sa.Column("spec_json", sa.Text, nullable=False),
    sa.Column("labels", pg.JSONB, nullable=False, server_default="{}"),
    # The search may be deleted before the fine-tuning that it handed off.
    sa.Column("parent_id", sa.Text, nullable=True),
    sa.Column("request", sa.Text, nullable=False, server_default="none"),
    sa.Column("progress", pg.JSONB, nullable=False, server_default="{}"),
    sa.Column("result_json", sa.Text, nullable=True),
    sa.Column("error_code", sa.Text, nullable=True),
    sa.Column("error_message", sa.Text, nullable=True),
    _created_at(),
    sa.Column("updated_at", Timestamp, nullable=False, server_default=sa.text("clock_timestamp()")),
    sa.Column("started_at", Timestamp, nullable=True),
    sa.Column("finished_at", Timestamp, nullable=True),
    sa.Column("lease_owner", sa.Text, nullable=True),
    sa.Column("lease_epoch", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("lease_expires_at", Timestamp, nullable=True),
    sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("1")),
    sa.Column("conditions", pg.JSONB, nullable=False, server_default="{}"),
    # Infrastructure failures in a row, and from when on the job may be claimed after the last of them.
    sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("retry_at", Timestamp, nullable=True),
    # Who submitted it, or the search that handed it off; null: nobody knows. A trigger fills it in for old code.
    sa.Column("owner", sa.Text, nullable=True),
    sa.Column("priority", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("workers", sa.Integer, nullable=False, server_default=sa.text("1")),
    sa.CheckConstraint(_STATE_OF_KIND, name="state_of_kind"),
    sa.CheckConstraint("request IN ('none', 'cancel', 'pause')", name="request"),
    sa.CheckConstraint(f"(finished_at IS NOT NULL) = (state IN ({_quoted(FINAL)}))", name="finished_when_final"),
    sa.CheckConstraint("(lease_owner IS NULL) = (lease_expires_at IS NULL)", name="lease_whole"),
    sa.CheckConstraint(f"lease_owner IS NULL OR state NOT IN ({_quoted(UNLEASED)})", name="lease_when_in_hands"),
    sa.CheckConstraint("(error_code IS NOT NULL) = (state = 'failed')", name="error_when_failed"),
    sa.CheckConstraint("(error_code IS NULL) = (error_message IS NULL)", name="error_whole"),
    sa.CheckConstraint("state <> 'cancelling' OR request = 'cancel'", name="cancelling_when_requested"),
    sa.CheckConstraint(
        f"request = 'none' OR state NOT IN ({_quoted(FINAL | {'paused', 'queued'})})", name="request_when_active"
    ),
    sa.CheckConstraint("parent_id IS NULL OR kind = 'finetune'", name="parent_of_finetune"),
    sa.CheckConstraint("jsonb_typeof(labels) = 'object' AND jsonb_typeof(progress) = 'object'", name="objects"),
    sa.CheckConstraint("lease_epoch >= 0 AND version >= 1", name="counters"),
    sa.CheckConstraint("jsonb_typeof(conditions) = 'object'", name="conditions"),
    sa.CheckConstraint("failures >= 0", name="failures"),
    sa.CheckConstraint(
        f"retry_at IS NULL OR (lease_owner IS NULL AND state NOT IN ({_quoted(UNLEASED)}))", name="retry_when_free"
    ),
    sa.CheckConstraint("priority BETWEEN -100 AND 100", name="priority"),
    sa.CheckConstraint("workers >= 1", name="workers"),
    sa.Index("ix_jobs_owner_kind_created_at_id", "owner", "kind", sa.text("created_at DESC"), sa.text("id DESC")),
    # Lists: newest first by kind, by state, by label. Claims: oldest first among the few that can be claimed.
    sa.Index("ix_jobs_kind_created_at_id", "kind", sa.text("created_at DESC"), sa.text("id DESC")),
    sa.Index("ix_jobs_labels", "labels", postgresql_using="gin"),
    sa.Index("ix_jobs_claimable", "created_at", "id", postgresql_where=sa.text(IN_HANDS)),
    # A search hands off once: at most one unfinished fine-tuning waits on it.
    sa.Index(
        "uq_jobs_live_child",
        "parent_id",
        unique=True,
        postgresql_where=sa.text(f"parent_id IS NOT NULL AND state NOT IN ({_quoted(FINAL)})"),
    ),
)

document_scores = sa.Table(
    "document_scores",
    metadata,
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("split", sa.Text, primary_key=True),
    sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("document_id", sa.Text, primary_key=True),
    sa.Column("nats", sa.Double, nullable=False),
    sa.Column("tokens", sa.Integer, nullable=False),
    sa.Column("exact", sa.Boolean, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("lease_epoch", sa.BigInteger, nullable=False),
    _created_at(),
    # Empty: not known, as of scores from before the column; a controller of that time may still be writing such.
    sa.Column("scorer", sa.Text, nullable=False, server_default=""),
    # Only strategies that follow gradients ask for one: null costs a bit in the row.
    sa.Column("gradient", pg.ARRAY(sa.Double), nullable=True),
    sa.CheckConstraint(_NATS, name="nats"),
    sa.CheckConstraint(_TOKENS, name="tokens"),
    sa.CheckConstraint("scorer ~ '^([0-9a-f]{16})?$'", name="scorer"),
    sa.CheckConstraint(_GRADIENT, name="gradient"),
    sa.CheckConstraint("trial >= 0 AND split <> '' AND document_id <> ''", name="key"),
    sa.CheckConstraint("attempts >= 1 AND seconds >= 0 AND seconds < 'Infinity'", name="effort"),
)

score_cache = sa.Table(
    "score_cache",
    metadata,
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("nats", sa.Double, nullable=False),
    sa.Column("tokens", sa.Integer, nullable=False),
    sa.Column("exact", sa.Boolean, nullable=False),
    _created_at(),
    sa.CheckConstraint("octet_length(key) = 32", name="key"),
    sa.CheckConstraint(_NATS, name="nats"),
    sa.CheckConstraint(_TOKENS, name="tokens"),
)

COUNTED = ("infrastructure.failed", "job.created", "job.taken_over", "state.changed", "trial.failed")

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("data_json", sa.Text, nullable=False),
    _created_at(),
    sa.CheckConstraint("type <> ''", name="type"),
    sa.Index(None, "job_id", "id"),
    # What is counted over all jobs (storage/jobs/statistics.py), in few rows of many.
    sa.Index("ix_events_counted", "type", "job_id", "id", postgresql_where=sa.text(f"type IN ({_quoted(COUNTED)})")),
)

DELETED = "job.deleted"

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    # Of a job or a key that may be gone: no reference.
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("data_json", sa.Text, nullable=False, server_default="{}"),
    _created_at(),
    sa.CheckConstraint("actor <> '' AND action <> '' AND subject <> ''", name="given"),
    sa.Index(None, "subject", "id"),
    sa.Index("uq_audit_deleted", "subject", unique=True, postgresql_where=sa.text(f"action = '{DELETED}'")),
)

tallies = sa.Table(
    "tallies",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("label", sa.Text, primary_key=True),
    sa.Column("times", sa.BigInteger, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.CheckConstraint("times >= 0 AND seconds >= 0", name="counts"),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("principal", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("request_hash", sa.Text, nullable=False),
    # Deferred: the key is taken first, its job follows in the same transaction.
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id", deferrable=True, initially="DEFERRED"), nullable=False),
    _created_at(),
    sa.CheckConstraint("key <> '' AND request_hash <> ''", name="given"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("scopes", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("secret_hash", sa.LargeBinary, nullable=False),
    _created_at(),
    sa.Column("revoked_at", Timestamp, nullable=True),
    sa.CheckConstraint(f"cardinality(scopes) > 0 AND scopes <@ ARRAY[{_quoted(SCOPES)}]::text[]", name="scopes"),
    # Null: the key is its own owner.
    sa.Column("owner", sa.Text, nullable=True),
    sa.CheckConstraint("owner <> '' AND owner NOT IN ('*', 'local', 'nobody') AND owner !~ '^key:'", name="owner"),
    sa.CheckConstraint("name <> ''", name="name"),
    sa.CheckConstraint("octet_length(salt) >= 16 AND octet_length(secret_hash) >= 32", name="hashed"),
)

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    # Or those of its owner.
    sa.Column("every_job", sa.Boolean, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("states", pg.ARRAY(sa.Text), nullable=False),
    # As it is: what is signed with it is checked with it.
    sa.Column("secret", sa.LargeBinary, nullable=False),
    _created_at(),
    sa.Column("ended_at", Timestamp, nullable=True),
    sa.CheckConstraint("owner <> '' AND url <> '' AND cardinality(states) > 0", name="given"),
    sa.CheckConstraint("octet_length(secret) >= 24", name="secret"),
)

# Made by a trigger, in the transaction that changes a job's state.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
    sa.Column("webhook_id", sa.Text, sa.ForeignKey("webhooks.id"), nullable=False),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("event_id", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("previous_state", sa.Text, nullable=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    # When it is tried next; whoever tries puts it off first, so that nobody else does meanwhile.
    sa.Column("due_at", Timestamp, nullable=True, server_default=sa.text("clock_timestamp()")),
    sa.Column("ended_at", Timestamp, nullable=True),
    sa.Column("delivered", sa.Boolean, nullable=True),
    # Of the last attempt: the HTTP status, and what was wrong.
    sa.Column("status", sa.Integer, nullable=True),
    sa.Column("reason", sa.Text, nullable=True),
    _created_at(),
    sa.CheckConstraint("attempts >= 0", name="attempts"),
    sa.CheckConstraint(
        "(ended_at IS NULL) = (due_at IS NOT NULL) AND (ended_at IS NULL) = (delivered IS NULL)", name="ended"
    ),
    sa.Index(None, "due_at", postgresql_where=sa.text("ended_at IS NULL")),
    sa.Index(None, "webhook_id", "id"),
    sa.Index(None, "job_id"),
)

# What a job has left in the store of files; a file that is not here is not there for anybody.
job_files = sa.Table(
    "job_files",
    metadata,
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    _created_at(),
    sa.CheckConstraint("name <> '' AND key <> '' AND bytes >= 0", name="given"),
    sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
)

EVERY_KEY, LOCAL = "*", "local"

owner_limits = sa.Table(
    "owner_limits",
    metadata,
    # As jobs name it, or EVERY_KEY: that of keys without a row of their own.
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("running_jobs", sa.Integer, nullable=True),
    sa.Column("workers", sa.Integer, nullable=True),
    sa.Column("stored_bytes", sa.BigInteger, nullable=True),
    sa.CheckConstraint(
        "owner <> '' AND coalesce(running_jobs, 1) >= 1 AND coalesce(workers, 1) >= 1 "
        "AND coalesce(stored_bytes, 0) >= 0",
        name="given",
    ),
)
