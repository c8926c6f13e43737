"""What this package refuses, and why.

Every class inherits a builtin, so that a caller who knows nothing of this package can still catch it, and carries a
stable ``code`` for callers who translate errors at the edge.
"""


class RopewalkError(Exception):
    """Base of every error of this package."""

    code: str = "ROPEWALK_ERROR"


class UnsupportedRope(RopewalkError, ValueError):
    """The model has no rotary embedding whose factors can be searched: the message says which rule it breaks."""

    code = "UNSUPPORTED_ROPE"


class InvalidOriginalLength(UnsupportedRope):
    """No original length is known, or one was given that the model does not serve."""

    code = "INVALID_ORIGINAL_LENGTH"


class InvalidRescaleFactors(RopewalkError, ValueError):
    """A factor vector breaks a constraint (length, finite, at least 1, non-decreasing), or its attention factor does
    (finite, positive)."""

    code = "INVALID_RESCALE_FACTORS"


class InvalidTargetLength(RopewalkError, ValueError):
    """The target length is shorter than the original one, or no positive whole number."""

    code = "INVALID_TARGET_LENGTH"


class FactorsDoNotFit(RopewalkError, ValueError):
    """The factor file was found for another model, or for another RoPE than the model's."""

    code = "FACTORS_DO_NOT_FIT"


class InvalidSwitch(RopewalkError, ValueError):
    """A request to a vLLM engine asks for factors that there are none of, or that its length forbids."""

    code = "INVALID_SWITCH"


class NotServed(RopewalkError, ValueError):
    """A vLLM engine cannot serve a model with a switch: the message says which rule is broken."""

    code = "NOT_SERVED"


class InvalidFactorFile(RopewalkError, ValueError):
    """A factor file breaks its format, or an export format is unknown.

    ``pointer`` is the JSON pointer (RFC 6901) of the field at fault, "" for the whole document.
    """

    code = "INVALID_FACTOR_FILE"

    def __init__(self, message: str, *, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer
