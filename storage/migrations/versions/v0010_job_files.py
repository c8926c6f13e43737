"""Which files a job has left, with their checksums: a file without a row here is not there for anybody.

Revision 0010, after 0009.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

# They go with their job, also when a process of the version before deletes it.
JOB_FILES = """
CREATE TABLE ropewalk.job_files (
    job_id text CONSTRAINT fk_job_files_job_id REFERENCES ropewalk.jobs (id) ON DELETE CASCADE,
    name text,
    key text NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_job_files PRIMARY KEY (job_id, name),
    CONSTRAINT ck_job_files_given CHECK (name <> '' AND key <> '' AND bytes >= 0),
    CONSTRAINT ck_job_files_sha256 CHECK (sha256 ~ '^[0-9a-f]{64}$')
)
"""


def upgrade() -> None:
    """Add the table."""
    op.execute(JOB_FILES)
