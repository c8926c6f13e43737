"""Files of a model that are not where programs open them, and how they get there."""

from typing import Protocol


class ModelFiles(Protocol):
    """How the files of a model come to where `ScorerSettings.model` says, on whatever machine this is asked."""

    def fetch(self, *, weights: bool) -> None:
        """Return when they are there; weights: those with weights, too. Raises OSError while they cannot be had."""
