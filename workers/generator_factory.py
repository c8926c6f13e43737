"""Which generator a spec's `backend` means here."""

from __future__ import annotations

from workers.base import Backend, ScorerSettings
from workers.errors import ScorerUnavailable
from workers.generator import Generator


def make_generator(settings: ScorerSettings) -> Generator:
    """Open the generator that `settings.backend` names; `auto` takes transformers.

    Raises:
        ScorerUnavailable: no generator of this kind exists, or the model cannot be loaded by it.
        EvaluationError: the model was not found or is not supported.
    """
    check_generator(settings.backend, tensor_parallel=settings.tensor_parallel)
    # Imported late: torch takes seconds.
    from workers.transformers_generator import TransformersGenerator

    return TransformersGenerator(settings)


def check_generator(backend: Backend, *, tensor_parallel: int) -> None:
    """Raise ScorerUnavailable when no generator can be opened for these settings; cheap, loads nothing."""
    if backend not in ("auto", "transformers"):
        raise ScorerUnavailable(
            f"generation and plain text need backend=transformers (or auto), but got backend={backend}"
        )
    if tensor_parallel != 1:
        raise ScorerUnavailable(
            f"tensor_parallel must be 1 with backend=transformers, but got tensor_parallel={tensor_parallel}"
        )
