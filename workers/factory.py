"""Which backend a spec's `backend` means here, and why; and its scorer and its generator."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from workers.backends import BACKENDS, Backend, backends_that
from workers.base import DType, Scorer, ScorerSettings
from workers.errors import ScorerUnavailable
from workers.generator import Generator
from workers.model import find_model


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendChoice:
    """What `backend` comes to: never "auto"; reason is a clause for a message."""

    backend: str
    reason: str

    @property
    def row(self) -> Backend:
        """What is known of it."""
        return BACKENDS[self.backend]


def make_scorer(settings: ScorerSettings) -> Scorer:
    """Open the scorer that `settings.backend` names.

    Raises:
        InvalidScorerSettings: no backend has this name.
        ScorerUnavailable: the backend cannot run here, or the model cannot be loaded or scored by it.
        EvaluationError: the model was not found or is not supported.
    """
    choice = choose_backend(settings.backend, gradients=settings.gradients)
    _check(choice, tensor_parallel=settings.tensor_parallel, gradients=settings.gradients)
    _check_dtype(choice, settings.dtype)
    _check_memory(choice.row, settings)
    return choice.row.open_scorer(settings)


def make_generator(settings: ScorerSettings) -> Generator:
    """Open the generator that `settings.backend` names; `auto` as for scorers.

    Raises:
        ScorerUnavailable: no generator of this kind exists, or the model cannot be loaded by it.
        EvaluationError: the model was not found or is not supported.
    """
    check_generator(settings.backend, tensor_parallel=settings.tensor_parallel)
    row = choose_backend(settings.backend).row
    _check_memory(row, settings)
    assert row.open_generator is not None  # checked
    return row.open_generator(settings)


def choose_backend(backend: str, *, gradients: bool = False) -> BackendChoice:
    """`auto` takes vLLM where it is installed and a GPU is present, unless gradients are asked for.

    Cheap, and loads no model. With gradients the scorer must be a :class:`workers.base.DifferentiableScorer`. Raises
    InvalidScorerSettings for a name that is none.
    """
    if backend != "auto":
        return BackendChoice(backend=BACKENDS.find(backend).name, reason="it was asked for")
    if gradients:
        return BackendChoice(backend="transformers", reason="gradients are asked for")
    if (problem := BACKENDS["vllm"].problem()) is not None:
        return BackendChoice(backend="transformers", reason=problem)
    gpus = _gpus_here()
    if not gpus:
        return BackendChoice(backend="transformers", reason="torch sees no GPU")
    return BackendChoice(backend="vllm", reason=f"it is installed and torch sees {gpus} GPU{'s' if gpus > 1 else ''}")


def check_scorer(backend: str, *, tensor_parallel: int, dtype: DType = "auto", gradients: bool = False) -> None:
    """Raise ScorerUnavailable when no scorer can be opened for these settings; cheap, loads nothing.

    What depends on the machine is judged by this one, unless workers run in a cluster elsewhere (RAY_ADDRESS): then
    what its machines lack is said when a worker opens its scorer.
    """
    elsewhere = bool(os.environ.get("RAY_ADDRESS"))
    if elsewhere and not gradients and (backend == "auto" or BACKENDS.find(backend).is_optional):
        return
    choice = choose_backend(backend, gradients=gradients)
    _check(choice, tensor_parallel=tensor_parallel, gradients=gradients)
    if not elsewhere:
        _check_dtype(choice, dtype)


def check_places_positions(backend: str, *, gradients: bool = False) -> None:
    """Raise ScorerUnavailable when the backend cannot score position-skipped documents."""
    choice = choose_backend(backend, gradients=gradients)
    if not choice.row.places_positions:
        raise ScorerUnavailable(
            f"position-skipped documents need backend={backends_that(lambda row: row.places_positions)}, "
            f"but got backend={choice.row.name} ({choice.reason})"
        )


def check_generator(backend: str, *, tensor_parallel: int) -> None:
    """Raise ScorerUnavailable when no generator can be opened for these settings; cheap, loads nothing."""
    if backend != "auto" and BACKENDS.find(backend).open_generator is None:
        names = backends_that(lambda row: row.open_generator is not None)
        raise ScorerUnavailable(f"generation and plain text need backend={names}, but got backend={backend}")
    check_scorer(backend, tensor_parallel=tensor_parallel)


def check_model_fits(path: Path, settings: ScorerSettings) -> None:
    """Raise ScorerUnavailable when the model in `path` is too large for this machine, whatever else runs on it.

    Reads the headers of its files. With workers in a cluster elsewhere it is said when one opens its scorer.
    """
    row = choose_backend(settings.backend, gradients=settings.gradients).row
    if not os.environ.get("RAY_ADDRESS"):
        _check_memory(row, settings, path)


def _check_memory(row: Backend, settings: ScorerSettings, path: Path | None = None) -> None:
    if not row.loads_model:
        return
    from workers.memory import check_whole_memory  # torch takes seconds

    path = path or find_model(settings).path
    check_whole_memory(path, settings, row.kv_cache_bytes)


def _check(choice: BackendChoice, *, tensor_parallel: int, gradients: bool) -> None:
    row = choice.row
    if gradients and not row.differentiates:
        raise ScorerUnavailable(
            "the strategy needs a scorer that differentiates: "
            f"{backends_that(lambda other: other.differentiates)}, but got backend={row.name}"
        )
    if (problem := row.problem()) is not None:
        raise ScorerUnavailable(f"backend={row.name} needs {row.needs}, but {problem}")
    if tensor_parallel == 1:
        return
    if not row.ranks:
        raise ScorerUnavailable(
            f"tensor_parallel must be 1 with backend={row.name} ({choice.reason}), "
            f"but got tensor_parallel={tensor_parallel}"
        )
    if tensor_parallel > (gpus := _gpus_here()):
        raise ScorerUnavailable(
            "tensor_parallel must be at most the GPUs of the machine, "
            f"but got tensor_parallel={tensor_parallel} with {gpus} GPUs"
        )


def _check_dtype(choice: BackendChoice, dtype: DType) -> None:
    if not choice.row.loads_model or dtype in ("auto", "float32"):
        return
    from workers.arithmetic import choose_device, choose_dtype

    choose_dtype(dtype, choose_device())


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()
