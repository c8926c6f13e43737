"""What a job's controller sees of it, and when a job that had to be released may be claimed again.

Revision 0003, after 0002.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

# Controllers of the version before leave the defaults alone and claim jobs before their time, which harms nothing.
JOBS = """
ALTER TABLE ropewalk.jobs
    ADD COLUMN conditions jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN failures integer NOT NULL DEFAULT 0,
    ADD COLUMN retry_at timestamptz,
    ADD CONSTRAINT ck_jobs_conditions CHECK (jsonb_typeof(conditions) = 'object'),
    ADD CONSTRAINT ck_jobs_failures CHECK (failures >= 0),
    ADD CONSTRAINT ck_jobs_retry_when_free CHECK (
        retry_at IS NULL
        OR (lease_owner IS NULL AND state NOT IN ('cancelled', 'failed', 'finetuning', 'paused', 'succeeded'))
    )
"""


def upgrade() -> None:
    """Add the columns."""
    op.execute(JOBS)
