"""An index of the few events that are counted over all jobs.

Revision 0004, after 0003.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

COUNTED = """
CREATE INDEX ix_events_counted ON ropewalk.events (type, job_id, id)
WHERE type IN ('infrastructure.failed', 'job.created', 'job.taken_over', 'state.changed', 'trial.failed')
"""


def upgrade() -> None:
    """Add the index."""
    op.execute(COUNTED)
