"""What a search refuses; :mod:`ropewalk.errors` has what the maths below it do."""

from ropewalk.errors import RopewalkError


class InvalidStrategy(RopewalkError, ValueError):
    """Unknown strategy, baseline or argument, or settings that leave nothing to search. `pointer`: the
    field of a spec at fault, where it is not the strategy."""

    code = "INVALID_STRATEGY"

    def __init__(self, message: str, *, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer
