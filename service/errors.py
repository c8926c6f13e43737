"""What the controller's room refuses, and why.

ServiceError
├── InvalidSpec       a field of the spec breaks a rule: reported once, at submission
│   ├── AddressNotAllowed  the field names an address that the service may not call
│   └── PathNotAllowed  the field names a file that the requester may not make the service read
├── UnknownSpec       a job's spec is one of a newer version: left to a controller of that
├── FilesUnreachable  the store of files cannot be used now
│   └── FileDamaged   a file is not the one that was stored
├── FileMissing       the store of files has no such file
├── LimitReached      the owner has all that it may have
├── FactorsNotReady   the search has no winner yet
├── RunStopped        the run ends early because the user asked for it (internal)
└── RunFailed         the run ended in a failure that is recorded on the job
"""


class ServiceError(Exception):
    """Anything this room refuses."""

    code = "SERVICE_ERROR"


class InvalidSpec(ServiceError, ValueError):
    """A field of the spec breaks a rule. `pointer` is the field's JSON pointer."""

    code = "INVALID_SPEC"

    def __init__(self, message: str, *, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class PathNotAllowed(InvalidSpec):
    """A field of the spec names a file outside the operator's roots."""

    code = "PATH_NOT_ALLOWED"


class AddressNotAllowed(InvalidSpec):
    """A webhook's URL leads to an address of the operator's own networks, or to none."""

    code = "ADDRESS_NOT_ALLOWED"


class UnknownSpec(ServiceError, RuntimeError):
    """The stored spec of a job cannot be read: a newer version accepted it."""

    code = "UNKNOWN_SPEC"


class FilesUnreachable(ServiceError, OSError):
    """The store of files is away or full, or does not let us in; the message says what must hold."""

    code = "FILES_UNREACHABLE"


class FileMissing(ServiceError, LookupError):
    """The store has no such file: somebody else has removed it."""

    code = "FILE_MISSING"


class FileDamaged(FilesUnreachable):
    """A file is not what was stored: its checksum is another."""

    code = "FILE_DAMAGED"


class LimitReached(ServiceError, RuntimeError):
    """The owner has, or the job would need, more than the operator allows it."""

    code = "LIMIT_REACHED"


class FactorsNotReady(ServiceError, RuntimeError):
    """The search has not reached its winner, or ended without one."""

    code = "FACTORS_NOT_READY"


class RunStopped(ServiceError, RuntimeError):
    """The run stops early because a pause or a cancellation was requested, or the controller shuts down."""

    code = "RUN_STOPPED"


class RunFailed(ServiceError, RuntimeError):
    """The run cannot go on; `code` and message are recorded on the job."""

    code = "RUN_FAILED"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
