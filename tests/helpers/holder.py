"""Somebody else's actor on a cluster. On its own: a process that runs it imports the module that it is of."""


class Holder:
    """Has what it was given, and does nothing."""

    def held(self) -> None:
        """Returns when it has it."""
