"""What scoring refuses, and why.

Every class inherits a builtin and carries a stable ``code`` for callers who translate errors at the edge. All of them
cross process borders by pickle, so they take one message and nothing else.
"""

from ropewalk.errors import RopewalkError


class WorkersError(Exception):
    """Base of every error of this room."""

    code: str = "WORKERS_ERROR"


class ScoringFailed(WorkersError, RuntimeError):
    """This candidate cannot be scored on this document, here or anywhere: trying again gives the same."""

    code = "SCORING_FAILED"


class DocumentTooLong(WorkersError, ValueError):
    """A document holds more tokens than the scorer was opened for."""

    code = "DOCUMENT_TOO_LONG"


class InvalidScorerSettings(WorkersError, ValueError):
    """Scorer or pool settings that nothing could run with."""

    code = "INVALID_SCORER_SETTINGS"


class ScorerUnavailable(WorkersError, RuntimeError):
    """No scorer of this kind can be opened here: software, model or hardware is missing."""

    code = "SCORER_UNAVAILABLE"


class ScorerClosed(WorkersError, RuntimeError):
    """A scorer or pool was used after `close`."""

    code = "SCORER_CLOSED"


class WorkerLost(WorkersError, RuntimeError):
    """Workers died more often than the pool replaces them."""

    code = "WORKER_LOST"


class PoolBusy(WorkersError, RuntimeError):
    """A pool was asked to run tasks while it runs others: one run at a time."""

    code = "POOL_BUSY"


CANDIDATE_ERRORS = (RopewalkError, ScoringFailed, DocumentTooLong)
"""What a candidate or a document is itself to blame for: every scorer would say the same."""
