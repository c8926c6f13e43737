"""What a search proposes and what comes back."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ropewalk.rope.scaling import Scaling
from search_space.candidates.cost import PASSES, PassCost
from search_space.errors import InvalidStrategy

# Grid values are decimals rounded to 6 places (genome.py), so real misfits are far larger than this.
_GRID_TOLERANCE = 1e-6

BASELINE_ORIGIN = "baseline:"  # how the origin of an analytic candidate begins


@dataclass(frozen=True, kw_only=True, slots=True)
class Gene:
    """One searched number with its range, everything a study needs to record it as a parameter.

    With a `step`, values lie on low + k * step and `high` is on that grid too.
    """

    name: str
    value: float
    low: float
    high: float
    step: float | None = None
    integer: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise InvalidStrategy(
                f"a gene must lie within its range, but got {self.name}={self.value!r}, "
                f"low={self.low!r}, high={self.high!r}"
            )
        if self.integer and not float(self.value).is_integer():
            raise InvalidStrategy(f"an integer gene must be whole, but got {self.name}={self.value!r}")
        if self.step is not None:
            self._check_grid(self.step)

    def _check_grid(self, step: float) -> None:
        if not (math.isfinite(step) and step > 0):
            raise InvalidStrategy(f"a gene's step must be positive, but got {self.name}: step={step!r}")
        for label, number in (("value", self.value), ("high", self.high)):
            steps = (number - self.low) / step
            if abs(steps - round(steps)) > _GRID_TOLERANCE:
                raise InvalidStrategy(
                    f"a gene must lie on its grid, but got {self.name}: {label}={number!r}, "
                    f"low={self.low!r}, step={step!r}"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One scaling to score, with the genes that it was bred from.

    `origin` is "baseline:<name>" or how the strategy came to it ("initial", "mutation", "crossover", ...); `parents`
    are trial numbers. Candidates without genes (baselines) are scored and reported, but not bred from.
    """

    scaling: Scaling
    critical_pair: int | None = None
    genes: tuple[Gene, ...] = ()
    origin: str = ""
    parents: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        pairs = len(self.scaling.factors)
        if self.critical_pair is not None and not 0 <= self.critical_pair < pairs:
            raise InvalidStrategy(
                f"critical_pair must be a pair in [0, {pairs}), but got critical_pair={self.critical_pair}"
            )
        names = [gene.name for gene in self.genes]
        if len(set(names)) != len(names):
            raise InvalidStrategy(f"gene names must be unique, but got {names}")

    @property
    def baseline_name(self) -> str | None:
        """The analytic baseline that this candidate is; None for a bred one."""
        return self.origin.removeprefix(BASELINE_ORIGIN) if self.origin.startswith(BASELINE_ORIGIN) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentNats:
    """What one search document says about a candidate: the sum of nats over its answer tokens, and their number.

    `gradient`, where it was asked for: d nats / d ln lambda_i for each pair, then d nats / d ln A. `skipped`: the
    document's positions jump, so that the score ranks and does not measure.
    """

    index: int
    nats: float
    tokens: int
    gradient: tuple[float, ...] | None = None
    skipped: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredCandidate:
    """A candidate with its trial number and mean NLL in nats per answer token (+inf when it could not be scored).

    `scores` are its documents, by index; the mean is over :attr:`measured`; `pruned` when a step raced it out.
    """

    trial: int
    generation: int
    candidate: Candidate
    nll: float
    scores: tuple[DocumentNats, ...] = ()
    pruned: bool = False

    def __post_init__(self) -> None:
        if math.isnan(self.nll):
            raise InvalidStrategy(f"nll must be a number (+inf when failed), but got nan for trial {self.trial}")

    @property
    def measured(self) -> tuple[DocumentNats, ...]:
        """The scores on full documents where there are any, and all of them otherwise."""
        return measured(self.scores)

    @property
    def document_passes(self) -> int:
        """What its scores cost, in forward passes."""
        return self.cost(PASSES)

    def cost(self, cost: PassCost) -> int:
        """What its scores cost."""
        return sum(cost.of((score.index,), gradients=score.gradient is not None) for score in self.scores)

    @property
    def failed(self) -> bool:
        """Whether it could not be scored."""
        return math.isinf(self.nll)


def measured(scores: tuple[DocumentNats, ...]) -> tuple[DocumentNats, ...]:
    """Those on full documents where there are any, and all of them otherwise."""
    full = tuple(score for score in scores if not score.skipped)
    return full or scores
