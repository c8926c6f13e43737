"""What the store refuses, and why.

    StorageError
    ├── InvalidDatabaseUrl    not a PostgreSQL URL
    ├── DatabaseUnreachable   the server does not answer, or ended the connection
    ├── SchemaOutdated        the tables are missing or of another version
    │   └── SchemaTooNew      a newer version has upgraded them
    ├── NotPermitted          the database's user may not do this
    ├── SharedSessions        a pooler gives each transaction another session
    ├── DatabaseNotEmpty      a backup would be restored over tables
    ├── BackupFailed          PostgreSQL's own programs could not write or read a backup
    ├── StorageNotWritable    a path of the embedded server cannot be written
    ├── JobNotFound           no such job
    │   └── JobDeleted        there was one
    ├── JobInUse              a job that has not ended needs this one
    ├── WebhookNotFound       no such webhook of whoever asks
    ├── TooManyWebhooks       of one owner
    ├── TrialNotFound         no such trial in the study
    ├── LeaseLost             another controller owns the job, or the lease has expired: nothing was written
    ├── InvalidTransition     the job's state does not allow this
    ├── StudyConflict         a finished trial, or a slot that is taken, would change
    ├── IdempotencyConflict   the key was used for another request
    └── UnknownPageToken      a page token that this list did not give out

Every class inherits a builtin too, and carries a stable ``code`` for callers who translate errors at the edge.
"""


class StorageError(Exception):
    """Base of every error of this room."""

    code = "STORAGE_ERROR"


class InvalidDatabaseUrl(StorageError, ValueError):
    """The URL is not one of a PostgreSQL server."""

    code = "INVALID_DATABASE_URL"


class DatabaseUnreachable(StorageError, ConnectionError):
    """The server does not answer, refuses us or ended the connection; the message never holds the password."""

    code = "DATABASE_UNREACHABLE"

    #: a commit was sent, and nobody said whether it was done
    outcome_unknown = False


class SchemaOutdated(StorageError, RuntimeError):
    """The tables are missing or of another version: `ropewalk db upgrade` brings them up to date."""

    code = "SCHEMA_OUTDATED"


class SchemaTooNew(SchemaOutdated):
    """The tables were upgraded by a newer version of Ropewalk or Optuna."""

    code = "SCHEMA_TOO_NEW"


class NotPermitted(StorageError, PermissionError):
    """The database's user lacks a right; the message says which."""

    code = "DATABASE_NOT_PERMITTED"


class SharedSessions(StorageError, RuntimeError):
    """A pooler between us and the server hands a session to others after each transaction."""

    code = "SHARED_SESSIONS"


class DatabaseNotEmpty(StorageError, ValueError):
    """The database has tables, over which no backup is restored."""

    code = "DATABASE_NOT_EMPTY"


class BackupFailed(StorageError, RuntimeError):
    """A backup could not be written or read; the message is that of PostgreSQL's program."""

    code = "BACKUP_FAILED"


class StorageNotWritable(StorageError, OSError):
    """A directory of the embedded server cannot be created or written; the message names it."""

    code = "STORAGE_NOT_WRITABLE"


class JobNotFound(StorageError, LookupError):
    """There is no job with this id."""

    code = "JOB_NOT_FOUND"


class JobDeleted(JobNotFound):
    """The job with this id was deleted; the message says when and by whom."""

    code = "JOB_DELETED"


class JobInUse(StorageError, ValueError):
    """Jobs that have not ended need this one; the message names them."""

    code = "JOB_IN_USE"


class WebhookNotFound(StorageError, LookupError):
    """Whoever asks has no webhook with this id."""

    code = "WEBHOOK_NOT_FOUND"


class TooManyWebhooks(StorageError, ValueError):
    """An owner has as many webhooks as one may have."""

    code = "TOO_MANY_WEBHOOKS"


class TrialNotFound(StorageError, LookupError):
    """The search's study has no trial with this number."""

    code = "TRIAL_NOT_FOUND"


class LeaseLost(StorageError, RuntimeError):
    """The lease has expired or another controller holds the job. Nothing of this call was written."""

    code = "LEASE_LOST"


class InvalidTransition(StorageError, ValueError):
    """The job's state does not allow this; the message names the state."""

    code = "INVALID_TRANSITION"


class StudyConflict(StorageError, ValueError):
    """A finished trial, or a (generation, slot) that is taken by another candidate, would change."""

    code = "STUDY_CONFLICT"


class IdempotencyConflict(StorageError, ValueError):
    """The same principal used this idempotency key for another request."""

    code = "IDEMPOTENCY_KEY_REUSED"


class UnknownPageToken(StorageError, ValueError):
    """The page token was not given out by this list with these filters."""

    code = "INVALID_PAGE_TOKEN"
