"""Which generator a spec's `backend` means here."""

from __future__ import annotations

from evaluation.models.scaled import find_model
from workers.base import Backend, ScorerSettings
from workers.errors import ScorerUnavailable
from workers.factory import check_scorer, choose_backend
from workers.generator import Generator


def make_generator(settings: ScorerSettings) -> Generator:
    """Open the generator that `settings.backend` names; `auto` as for scorers.

    Raises:
        ScorerUnavailable: no generator of this kind exists, or the model cannot be loaded by it.
        EvaluationError: the model was not found or is not supported.
    """
    check_generator(settings.backend, tensor_parallel=settings.tensor_parallel)
    choice = choose_backend(settings.backend)
    # Imported late: torch takes seconds.
    from workers.memory import check_whole_memory

    source = find_model(settings.model, original_length=settings.original_length)
    check_whole_memory(source.path, settings, choice.backend)
    if choice.backend == "vllm":
        from workers.vllm_backend.generator import VllmGenerator

        return VllmGenerator(settings)
    from workers.transformers_backend.generator import TransformersGenerator

    return TransformersGenerator(settings)


def check_generator(backend: Backend, *, tensor_parallel: int) -> None:
    """Raise ScorerUnavailable when no generator can be opened for these settings; cheap, loads nothing."""
    if backend == "analytic":
        raise ScorerUnavailable("generation and plain text need backend=transformers or vllm, but got backend=analytic")
    check_scorer(backend, tensor_parallel=tensor_parallel)
