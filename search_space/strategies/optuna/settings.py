"""What a search spec may say about Optuna's samplers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, Self

from ropewalk.reading.annotations import Range
from search_space.errors import InvalidStrategy
from search_space.strategies.arguments import AT_ONCE, LARGEST, Settings, check_names, read_arguments

TPE: Final = "TPESampler"
CMA_ES: Final = "CmaEsSampler"
GP: Final = "GPSampler"
RANDOM: Final = "RandomSampler"

_SHARED = ("sampler", "batch", "startup", "candidates")
# What else of a sampler's constructor can be set. The rest would break a search's promises (seed, constant_liar), means
# nothing in a shape space (group, with_margin), follows from the first generation (n_startup_trials, source_trials), or
# is on its way out of Optuna (sigma0, gamma, ...).
_OWN: Mapping[str, tuple[str, ...]] = {
    TPE: ("multivariate",),
    CMA_ES: ("popsize", "lr_adapt"),
    GP: ("deterministic_objective",),
    RANDOM: (),
}
# With fewer the learning rates of CMA-ES divide by zero.
_SMALLEST_POPSIZE = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class OptunaSettings(Settings):
    """The knobs. Those after `candidates` are arguments of one sampler each, by the same name; others ignore them.

    Raises:
        InvalidStrategy: a value out of its range.
    """

    owner: ClassVar[str] = "optuna"

    sampler: Literal["TPESampler", "CmaEsSampler", "GPSampler", "RandomSampler"] = TPE
    """Which of Optuna's samplers proposes candidates."""
    batch: Annotated[int, AT_ONCE] = 8
    """Candidates of each generation but the first, scored at once, whatever the number of workers."""
    startup: Annotated[int, AT_ONCE] = 16
    """Candidates of the first generation, baselines not counted."""
    candidates: Annotated[int, Range(1, LARGEST)] = 96
    """Candidates over all generations, baselines not counted."""
    multivariate: bool = True
    """TPE's: whether it learns how axes go together."""
    popsize: Annotated[int, Range(_SMALLEST_POPSIZE, LARGEST)] | None = None
    """How many candidates CMA-ES learns from at once; null: the first multiple of `batch` that is enough."""
    lr_adapt: bool = False
    """CMA-ES's: whether its learning rate follows the noise."""
    deterministic_objective: bool = False
    """GP's: whether it takes scores for exact."""

    def __post_init__(self) -> None:
        self.check()
        if self.candidates < self.startup:
            raise InvalidStrategy(
                f"candidates must be at least startup, but got candidates={self.candidates}, startup={self.startup}"
            )
        # CMA-ES learns from popsize candidates of one distribution and drops what a batch has beyond them.
        if self.popsize is not None and self.popsize % self.batch:
            raise InvalidStrategy(
                f"popsize must be a multiple of batch, but got popsize={self.popsize}, batch={self.batch}"
            )

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, object]) -> Self:
        """Settings from the names and values of a search spec.

        Raises:
            InvalidStrategy: unknown sampler or an argument that it does not have, wrong type, value out of its range.
        """
        sampler = str(arguments.get("sampler", TPE))
        if sampler in _OWN:
            check_names(arguments, (*_SHARED, *_OWN[sampler]), whose=sampler)
        return read_arguments(cls, arguments)

    def popsize_for(self, axes: int) -> int:
        """`popsize`, or the first multiple of `batch` from CMA-ES's usual 4 + 3 ln(axes) on."""
        usual = _SMALLEST_POPSIZE + math.floor(3 * math.log(axes))
        return self.popsize or math.ceil(usual / self.batch) * self.batch
