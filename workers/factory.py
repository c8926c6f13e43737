"""Which scorer a spec's `backend` means here."""

from __future__ import annotations

from workers.base import Backend, Scorer, ScorerSettings
from workers.errors import ScorerUnavailable

# What `auto` takes differentiates too.
_DIFFERENTIABLE: tuple[Backend, ...] = ("auto", "transformers", "analytic")


def make_scorer(settings: ScorerSettings) -> Scorer:
    """Open the scorer that `settings.backend` names; `auto` takes transformers.

    Raises:
        ScorerUnavailable: the backend cannot run here, or the model cannot be loaded or scored by it.
        EvaluationError: the model was not found or is not supported.
    """
    check_scorer(settings.backend, tensor_parallel=settings.tensor_parallel)
    # Imported late: torch takes seconds, and who opens an analytic scorer needs none of it.
    if settings.backend == "analytic":
        from workers.testing import AnalyticScorer

        return AnalyticScorer(settings)
    from workers.transformers_scorer import TransformersScorer

    return TransformersScorer(settings)


def check_scorer(backend: Backend, *, tensor_parallel: int, gradients: bool = False) -> None:
    """Raise ScorerUnavailable when no scorer can be opened for these settings here; cheap, loads nothing.

    With `gradients` the scorer must be a :class:`workers.base.DifferentiableScorer`.
    """
    if gradients and backend not in _DIFFERENTIABLE:
        raise ScorerUnavailable(
            f"strategy gradient needs a scorer that differentiates: transformers or analytic, but got backend={backend}"
        )
    if backend == "vllm":
        raise ScorerUnavailable(
            "backend=vllm needs vLLM (pip install '.[vllm]') and a Ropewalk with a vLLM scorer, which this one is not; "
            "backend must be auto, transformers or analytic here"
        )
    if tensor_parallel != 1:
        raise ScorerUnavailable(
            f"tensor_parallel must be 1 with backend={backend}, but got tensor_parallel={tensor_parallel}"
        )
