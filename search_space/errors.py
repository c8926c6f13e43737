"""What a search refuses; :mod:`ropewalk.errors` has what the maths below it do."""

from ropewalk.errors import RopewalkError


class InvalidStrategy(RopewalkError, ValueError):
    """Unknown strategy, baseline or argument, or settings that leave nothing to search."""

    code = "INVALID_STRATEGY"
