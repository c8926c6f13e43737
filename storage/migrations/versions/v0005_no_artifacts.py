"""No table of artifacts: nothing wrote to it. What a job leaves behind is in its result and under its directory.

Revision 0005, after 0004.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Drop the table."""
    op.execute("DROP TABLE ropewalk.artifacts")
