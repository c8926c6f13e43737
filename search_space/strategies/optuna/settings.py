"""What a search spec may say about Optuna's samplers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from search_space.errors import InvalidStrategy
from search_space.strategies.arguments import CANDIDATES_AT_ONCE, check_names, flag, one_of, whole

TPE, CMA_ES, GP, RANDOM = SAMPLERS = ("TPESampler", "CmaEsSampler", "GPSampler", "RandomSampler")

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
class OptunaSettings:
    """The knobs. Those after `candidates` are arguments of one sampler each, by the same name; others ignore them.

    Raises:
        InvalidStrategy: a value out of its range.
    """

    sampler: str = TPE
    batch: int = 8
    """Candidates of each generation but the first, scored at once. It is no number of workers: those may change while a
    search runs, its candidates may not."""
    startup: int = 16
    """Candidates of the first generation, baselines not counted."""
    candidates: int = 96
    """Candidates over all generations, baselines not counted."""
    multivariate: bool = True
    popsize: int | None = None
    """How many candidates CMA-ES learns from at once. None: the first multiple of `batch` that is enough."""
    lr_adapt: bool = False
    deterministic_objective: bool = False

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InvalidStrategy(f"sampler must be one of {', '.join(SAMPLERS)}, but got sampler={self.sampler!r}")
        for name in ("batch", "startup"):
            if getattr(self, name) < 1:
                raise InvalidStrategy(f"{name} must be at least 1, but got {name}={getattr(self, name)}")
        if self.candidates < self.startup:
            raise InvalidStrategy(
                f"candidates must be at least startup, but got candidates={self.candidates}, startup={self.startup}"
            )
        # CMA-ES learns from popsize candidates of one distribution and drops what a batch has beyond them.
        if self.popsize is not None and (self.popsize < _SMALLEST_POPSIZE or self.popsize % self.batch):
            raise InvalidStrategy(
                f"popsize must be a multiple of batch and at least {_SMALLEST_POPSIZE}, "
                f"but got popsize={self.popsize}, batch={self.batch}"
            )

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, object]) -> OptunaSettings:
        """Settings from the names and values of a search spec.

        Raises:
            InvalidStrategy: unknown sampler or an argument that it does not have, wrong type, value out of its range.
        """
        default = cls()
        sampler = one_of(arguments, "sampler", SAMPLERS, default.sampler)
        check_names(arguments, (*_SHARED, *_OWN[sampler]), whose=sampler)
        return cls(
            sampler=sampler,
            batch=whole(arguments, "batch", default.batch, most=CANDIDATES_AT_ONCE),
            startup=whole(arguments, "startup", default.startup, most=CANDIDATES_AT_ONCE),
            candidates=whole(arguments, "candidates", default.candidates),
            multivariate=flag(arguments, "multivariate", default.multivariate),
            popsize=whole(arguments, "popsize", 0) if "popsize" in arguments else None,
            lr_adapt=flag(arguments, "lr_adapt", default.lr_adapt),
            deterministic_objective=flag(arguments, "deterministic_objective", default.deterministic_objective),
        )

    def popsize_for(self, axes: int) -> int:
        """`popsize`, or the first multiple of `batch` from CMA-ES's usual 4 + 3 ln(axes) on."""
        usual = _SMALLEST_POPSIZE + math.floor(3 * math.log(axes))
        return self.popsize or math.ceil(usual / self.batch) * self.batch
