"""Who a key is of: several keys may be one owner's.

Revision 0009, after 0008.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

# Null: the key is its own owner, as "key:ID".
OWNER = """
ALTER TABLE ropewalk.api_keys
    ADD COLUMN owner text,
    ADD CONSTRAINT ck_api_keys_owner CHECK (owner <> '' AND owner NOT IN ('*', 'local', 'nobody') AND owner !~ '^key:')
"""


def upgrade() -> None:
    """Add the column."""
    op.execute(OWNER)
