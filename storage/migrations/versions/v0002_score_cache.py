"""The score cache, what produced each document score, and derivatives of scores.

Revision 0002, after 0001.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

# The default stays: scores that are there already are of unknown origin, and controllers of the version before go on
# writing theirs while the new ones come up. A constant default rewrites no rows.
SCORER = """
ALTER TABLE ropewalk.document_scores
    ADD COLUMN scorer text NOT NULL DEFAULT '',
    ADD CONSTRAINT ck_document_scores_scorer CHECK (scorer ~ '^([0-9a-f]{16})?$')
"""

# A derivative per pair and one for the attention factor, where a strategy asked for them.
GRADIENT = """
ALTER TABLE ropewalk.document_scores
    ADD COLUMN gradient double precision[],
    ADD CONSTRAINT ck_document_scores_gradient CHECK (
        cardinality(gradient) > 1 AND array_position(gradient, NULL) IS NULL
        AND '-Infinity' < ALL (gradient) AND 'Infinity' > ALL (gradient)
    )
"""

SCORE_CACHE = """
CREATE TABLE ropewalk.score_cache (
    key bytea CONSTRAINT pk_score_cache PRIMARY KEY,
    nats double precision NOT NULL,
    tokens integer NOT NULL,
    exact boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ck_score_cache_key CHECK (octet_length(key) = 32),
    CONSTRAINT ck_score_cache_nats CHECK (nats >= -0.001 AND nats < 'Infinity'),
    CONSTRAINT ck_score_cache_tokens CHECK (tokens > 0)
)
"""

# A cached score is valid for its key forever, so nothing may change it. It may be deleted: it can be computed again.
UNCHANGEABLE = """
CREATE TRIGGER unchangeable BEFORE UPDATE ON ropewalk.score_cache
FOR EACH STATEMENT EXECUTE FUNCTION ropewalk.refuse_change()
"""


def upgrade() -> None:
    """Add all of it."""
    for statement in (SCORER, GRADIENT, SCORE_CACHE, UNCHANGEABLE):
        op.execute(statement)
