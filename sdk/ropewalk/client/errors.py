"""What a client raises.

RopewalkError
├── ApiError             the server refused a request
├── IncompatibleServer   its answer is not one that this version knows
├── ServerUnreachable    no server answers
└── BadInput             what was given cannot be sent
"""

from ropewalk.errors import RopewalkError
from ropewalk.wire.problems import FieldProblem


class ApiError(RopewalkError, RuntimeError):
    """The server refused a request: `status` of HTTP, the stable `code`, and in `detail` the rule that was broken."""

    code = "HTTP_ERROR"

    def __init__(self, status: int, code: str, detail: str, errors: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors

    def __reduce__(self) -> tuple[type["ApiError"], tuple[object, ...]]:
        return type(self), (self.status, self.code, self.detail, self.errors)

    @property
    def pointer(self) -> str | None:
        """JSON pointer of the first field that breaks a rule; None where no field does."""
        return self.errors[0].pointer if self.errors else None


class IncompatibleServer(RopewalkError, RuntimeError):
    """The server is of another version, or no Ropewalk server: the message says which."""

    code = "INCOMPATIBLE_SERVER"


class ServerUnreachable(RopewalkError, ConnectionError):
    """No server answers at the URL."""

    code = "SERVER_UNREACHABLE"


class BadInput(RopewalkError, ValueError):
    """What was given for a request breaks a rule before it is sent."""

    code = "BAD_INPUT"
