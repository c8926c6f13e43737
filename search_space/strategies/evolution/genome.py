"""What the evolution searches, in whole grid steps.

A genome is the critical pair c, one factor for each pair from c on, and the attention factor where it is searched. All
numbers but c are kept as whole multiples of the grid step: comparing, sorting and de-duplicating are exact, and a
factor of 4.78 is the decimal 4.78 on every machine. Bounds are the outermost grid values inside the range asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling, ScalingKey
from search_space.candidates.baselines import ntk_below
from search_space.candidates.candidate import Candidate, Gene
from search_space.errors import InvalidStrategy

_DECIMALS = 6  # of grid values; steps finer than this are refused
_NOISE = 1e-9  # relative to one step: s * multiple / step is rarely exact in binary

CRITICAL_PAIR_GENE = "critical_pair"
ATTENTION_FACTOR_GENE = "attention_factor"


def factor_gene(pair: int) -> str:
    """The name of the factor gene of `pair`: factor_00, factor_01, ..."""
    return f"factor_{pair:02d}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The multiples k * step with lowest <= k <= highest.

    Raises:
        InvalidStrategy: `step` is not positive or has more than 6 decimals, or the grid has no point.
    """

    step: float
    lowest: int
    highest: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.step) and self.step > 0 and round(self.step, _DECIMALS) == self.step):
            raise InvalidStrategy(
                f"a grid step must be positive with at most {_DECIMALS} decimals, but got step={self.step!r}"
            )
        if self.lowest > self.highest:
            raise InvalidStrategy(
                f"the search space must not be empty, but no multiple of step={self.step!r} lies in the range"
            )

    @classmethod
    def inside(cls, *, low: float, high: float, step: float) -> Grid:
        """The multiples of `step` within [low, high]."""
        if not (math.isfinite(step) and step > 0):
            raise InvalidStrategy(f"a grid step must be positive, but got step={step!r}")
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InvalidStrategy(f"the bounds of a grid must be finite, but got low={low!r}, high={high!r}")
        lowest, highest = math.ceil(low / step - _NOISE), math.floor(high / step + _NOISE)
        if lowest > highest:
            raise InvalidStrategy(
                f"the search space must not be empty, but no multiple of step={step!r} lies in [{low!r}, {high!r}]"
            )
        return cls(step=step, lowest=lowest, highest=highest)

    def value(self, index: int) -> float:
        """Grid index to number."""
        return round(index * self.step, _DECIMALS)

    def index(self, value: float) -> int:
        """Number to grid index; :class:`InvalidStrategy` if `value` is off the grid or outside it."""
        index = round(value / self.step)
        if abs(value - self.value(index)) > _NOISE or not self.lowest <= index <= self.highest:
            raise InvalidStrategy(
                f"a gene must be a multiple of {self.step!r} in [{self.value(self.lowest)!r}, "
                f"{self.value(self.highest)!r}], but got {value!r}"
            )
        return index

    def gene(self, name: str, index: int) -> Gene:
        """The value at `index` as a gene, with this grid as its range."""
        return Gene(
            name=name,
            value=self.value(index),
            low=self.value(self.lowest),
            high=self.value(self.highest),
            step=self.step,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Genome:
    """c, the grid indices of the factors of pairs c..n-1 (non-decreasing), and of the attention factor if searched."""

    critical_pair: int
    tail: tuple[int, ...]
    attention: int | None = None

    def __post_init__(self) -> None:
        # Only operators build genomes, so these are promises to keep, not input to refuse.
        assert self.tail, "a genome has at least one factor gene"
        assert all(left <= right for left, right in pairwise(self.tail)), "tail not sorted"


@dataclass(frozen=True, kw_only=True, slots=True)
class GenomeSpace:
    """Which genomes exist: the range of c (both ends included), the factor grid, the attention grid if it is searched.

    `fixed_attention_factor` is what candidates carry when no attention grid is given.
    """

    num_pairs: int
    lowest_critical_pair: int
    highest_critical_pair: int
    factors: Grid
    attention: Grid | None = None
    fixed_attention_factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.lowest_critical_pair <= self.highest_critical_pair < self.num_pairs:
            raise InvalidStrategy(
                f"critical pairs must be an ascending range within [0, {self.num_pairs}), "
                f"but got {self.lowest_critical_pair}..{self.highest_critical_pair}"
            )

    @property
    def critical_pairs(self) -> range:
        """Every critical pair that a genome may have."""
        return range(self.lowest_critical_pair, self.highest_critical_pair + 1)

    def factor_values(self, genome: Genome) -> tuple[float, ...]:
        """The whole factor vector of `genome`, the pairs below its critical pair included."""
        return ntk_below(genome.critical_pair, tuple(self.factors.value(index) for index in genome.tail))

    def key(self, genome: Genome) -> ScalingKey:
        """Of its candidate's scaling, without making that; the attention factor is its gene, or the fixed one."""
        if self.attention is None or genome.attention is None:
            return self.factor_values(genome), self.fixed_attention_factor
        return self.factor_values(genome), self.attention.value(genome.attention)

    def candidate(self, genome: Genome, *, origin: str, parents: tuple[int, ...] = ()) -> Candidate:
        """`genome` as something to score."""
        values, attention_factor = self.key(genome)
        return Candidate(
            scaling=Scaling(RescaleFactors(values), attention_factor),
            critical_pair=genome.critical_pair,
            genes=self._genes(genome),
            origin=origin,
            parents=parents,
        )

    def _genes(self, genome: Genome) -> tuple[Gene, ...]:
        critical = Gene(
            name=CRITICAL_PAIR_GENE,
            value=genome.critical_pair,
            low=self.lowest_critical_pair,
            high=self.highest_critical_pair,
            integer=True,
        )
        factors = [
            self.factors.gene(factor_gene(pair), index) for pair, index in enumerate(genome.tail, genome.critical_pair)
        ]
        if self.attention is None or genome.attention is None:
            return (critical, *factors)
        return (critical, *factors, self.attention.gene(ATTENTION_FACTOR_GENE, genome.attention))

    def genome(self, candidate: Candidate) -> Genome:
        """Back from a candidate's genes.

        Raises:
            InvalidStrategy: the genes are not those of this space (recorded under other settings).
        """
        values = {gene.name: gene.value for gene in candidate.genes}
        critical_pair = round(values.pop(CRITICAL_PAIR_GENE, -1))
        expected = {factor_gene(pair): pair for pair in range(critical_pair, self.num_pairs)}
        attention = values.pop(ATTENTION_FACTOR_GENE, None)
        if (
            critical_pair not in self.critical_pairs
            or values.keys() != expected.keys()
            or (attention is None) != (self.attention is None)
        ):
            raise InvalidStrategy(
                f"a candidate's genes must be those of the search space, but got critical_pair={critical_pair}, "
                f"genes={[gene.name for gene in candidate.genes]}"
            )
        return Genome(
            critical_pair=critical_pair,
            tail=tuple(self.factors.index(values[name]) for name in expected),
            attention=None if self.attention is None or attention is None else self.attention.index(attention),
        )
