"""The evolution's two moves, and how its first candidates are drawn.

Pure functions of their arguments and of the random generator handed in; they know no history and no scores. All of them
keep the constraints by construction: factors stay on the grid, within its bounds and non-decreasing.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from search_space.strategies.evolution.genome import Genome, GenomeSpace, Grid

# In a crossover a visited pair is copied as often as not, as in the authors' released search code.
_COPY_PROBABILITY = 0.5


def flat(space: GenomeSpace, critical_pair: int, rng: np.random.Generator) -> Genome:
    """One random factor for all pairs from `critical_pair` on: LongRoPE2 (arXiv 2502.20082) Algorithm 1.

    A searched attention factor is drawn uniformly from its grid.
    """
    factor = _draw(space.factors.lowest, space.factors.highest, rng)
    return Genome(
        critical_pair=critical_pair,
        tail=(factor,) * (space.num_pairs - critical_pair),
        attention=_draw_attention(space.attention, rng),
    )


def mutate(genome: Genome, space: GenomeSpace, rng: np.random.Generator, *, probability: float) -> Genome:
    """One sweep of mutation; may return an equal genome. LongRoPE2 (arXiv 2502.20082) Algorithm 2.

    1. With `probability`, the critical pair moves by one pair, up or down (the only way there is at an end of its
       range). Down: the new first gene starts as a copy of the old first one. Up: the first gene is dropped.
    2. Each pair from the critical pair on, from fast to slow, is redrawn with `probability`, uniformly from the gap
       between its neighbours: the factor just before it (already redrawn) and the one after it; the outermost pairs
       reach to the bounds of the grid. That keeps factors non-decreasing without repair.
    3. With `probability`, a searched attention factor is redrawn from its grid.
    """
    if rng.random() < probability:
        genome = move_critical_pair(genome, space, rng)
    attention = genome.attention
    tail = _mutate_tail(genome.tail, space.factors, rng, probability)
    if attention is not None and rng.random() < probability:
        attention = _draw_attention(space.attention, rng)
    return Genome(critical_pair=genome.critical_pair, tail=tail, attention=attention)


def _mutate_tail(tail: tuple[int, ...], grid: Grid, rng: np.random.Generator, probability: float) -> tuple[int, ...]:
    result = [grid.lowest, *tail, grid.highest]
    for position in range(1, len(tail) + 1):
        if rng.random() < probability:
            result[position] = _draw(result[position - 1], result[position + 1], rng)
    return tuple(result[1:-1])


def move_critical_pair(genome: Genome, space: GenomeSpace, rng: np.random.Generator) -> Genome:
    """The critical pair one up or down within its range; the same genome where the range is a single pair."""
    pair = genome.critical_pair
    choices = [target for target in (pair - 1, pair + 1) if target in space.critical_pairs]
    if not choices:
        return genome
    target = choices[int(rng.integers(len(choices)))]
    tail = (genome.tail[0], *genome.tail) if target < pair else genome.tail[1:]
    return Genome(critical_pair=target, tail=tail, attention=genome.attention)


def crossover(
    first: Genome,
    second: Genome,
    rng: np.random.Generator,
    *,
    probability: float,
    max_tries: int,
    is_new: Callable[[Genome], bool],
) -> Genome | None:
    """`first` with single genes copied from `second`, or None when nothing new came of `max_tries` sweeps.

    The child keeps the critical pair of `first`. A sweep visits the pairs that are genes in both parents, and then a
    searched attention factor; each is visited with `probability` and copied half of the times. The child is the first
    state that is non-decreasing and new; until then copies add up, over sweeps too, as in the authors' released code.
    """
    tail, attention = list(first.tail), first.attention
    shared = range(max(first.critical_pair, second.critical_pair), first.critical_pair + len(first.tail))
    for _ in range(max_tries):
        for pair in [*shared, None]:
            if rng.random() >= probability or rng.random() >= _COPY_PROBABILITY:
                continue
            if pair is None:
                attention = second.attention
            else:
                tail[pair - first.critical_pair] = second.tail[pair - second.critical_pair]
            if all(left <= right for left, right in pairwise(tail)):
                child = Genome(critical_pair=first.critical_pair, tail=tuple(tail), attention=attention)
                if is_new(child):
                    return child
    return None


def _draw(lowest: int, highest: int, rng: np.random.Generator) -> int:
    """Uniform over the whole numbers in [lowest, highest]."""
    return int(rng.integers(lowest, highest, endpoint=True))


def _draw_attention(grid: Grid | None, rng: np.random.Generator) -> int | None:
    return None if grid is None else _draw(grid.lowest, grid.highest, rng)
