"""The audit log, and history that goes with its job once that is recorded there.

Revision 0006, after 0005.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

AUDIT = """
CREATE TABLE ropewalk.audit (
    id bigserial CONSTRAINT pk_audit PRIMARY KEY,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    data_json text NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ck_audit_given CHECK (actor <> '' AND action <> '' AND subject <> '')
)
"""

AUDIT_INDEXES = (
    "CREATE INDEX ix_audit_subject_id ON ropewalk.audit (subject, id)",
    # What is asked for every row of a job that goes, and by whoever looks for files of deleted jobs.
    "CREATE UNIQUE INDEX uq_audit_deleted ON ropewalk.audit (subject) WHERE action = 'job.deleted'",
)

# What deleted jobs had counted: counters never go down.
TALLIES = """
CREATE TABLE ropewalk.tallies (
    name text,
    kind text,
    label text,
    times bigint NOT NULL,
    seconds double precision NOT NULL,
    CONSTRAINT pk_tallies PRIMARY KEY (name, kind, label),
    CONSTRAINT ck_tallies_counts CHECK (times >= 0 AND seconds >= 0)
)
"""

# Rows still are only ever added, from any session, but with their job they go: its deletion is in the audit log first.
REFUSE_UNRECORDED = """
CREATE FUNCTION ropewalk.refuse_unrecorded_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (SELECT DISTINCT job_id FROM gone) AS jobs
        WHERE NOT EXISTS (SELECT FROM ropewalk.audit WHERE action = 'job.deleted' AND subject = jobs.job_id)
    ) THEN
        RAISE EXCEPTION 'rows of %.% go only with their job, whose deletion is recorded first, but got %',
            TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$
"""

# A fine-tuning outlives the search that handed it off, and goes on to say which that was.
PARENT = "ALTER TABLE ropewalk.jobs DROP CONSTRAINT fk_jobs_parent_id"


def upgrade() -> None:
    """Add the table, and let history go."""
    for statement in (AUDIT, *AUDIT_INDEXES, TALLIES, REFUSE_UNRECORDED, PARENT):
        op.execute(statement)
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ropewalk.audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_change()"
    )
    for name in ("document_scores", "events"):
        op.execute(f"DROP TRIGGER append_only ON ropewalk.{name}")
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON ropewalk.{name} "
            "FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER kept_with_its_job AFTER DELETE ON ropewalk.{name} REFERENCING OLD TABLE AS gone "
            "FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_unrecorded_deletion()"
        )
