from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_space.strategies.evolution.genome import Genome, GenomeSpace, Grid
from search_space.strategies.evolution.operators import crossover, flat, move_critical_pair, mutate
from tests.helpers.genomes import SPACE, genomes

seeds = st.integers(0, 2**32 - 1)
probabilities = st.sampled_from([0.05, 0.3, 1.0])


def _check(genome: Genome, space: GenomeSpace = SPACE) -> None:
    assert genome.critical_pair in space.critical_pairs
    assert len(genome.tail) == space.num_pairs - genome.critical_pair
    assert all(left <= right for left, right in pairwise(genome.tail))
    assert space.factors.lowest <= genome.tail[0]
    assert genome.tail[-1] <= space.factors.highest
    if space.attention is None:
        assert genome.attention is None
    else:
        assert genome.attention is not None
        assert space.attention.lowest <= genome.attention <= space.attention.highest


@given(genomes(), seeds, probabilities)
def test_mutation_keeps_every_constraint_and_is_determined_by_its_generator(
    genome: Genome, seed: int, probability: float
) -> None:
    child = mutate(genome, SPACE, np.random.default_rng(seed), probability=probability)
    _check(child)
    assert child == mutate(genome, SPACE, np.random.default_rng(seed), probability=probability)
    assert abs(child.critical_pair - genome.critical_pair) <= 1


@pytest.mark.slow
@given(genomes(), genomes(), seeds, probabilities)
def test_crossover_keeps_every_constraint_and_mixes_only_its_parents(
    first: Genome, second: Genome, seed: int, probability: float
) -> None:
    def cross() -> Genome | None:
        return crossover(
            first,
            second,
            np.random.default_rng(seed),
            probability=probability,
            max_tries=20,
            is_new=lambda genome: genome not in (first, second),
        )

    child = cross()
    assert child == cross()
    if child is None:
        return
    _check(child)
    assert child not in (first, second)
    assert child.critical_pair == first.critical_pair
    assert child.attention in (first.attention, second.attention)
    for pair in range(child.critical_pair, 16):
        allowed = {first.tail[pair - first.critical_pair]}
        if pair >= second.critical_pair:
            allowed.add(second.tail[pair - second.critical_pair])
        assert child.tail[pair - child.critical_pair] in allowed


@given(st.sampled_from(list(SPACE.critical_pairs)), seeds)
def test_flat_genomes_are_flat_and_inside(pair: int, seed: int) -> None:
    genome = flat(SPACE, pair, np.random.default_rng(seed))
    _check(genome)
    assert genome.critical_pair == pair
    assert len(set(genome.tail)) == 1


@pytest.mark.slow
@given(genomes(), seeds)
def test_moving_the_critical_pair_touches_one_gene(genome: Genome, seed: int) -> None:
    moved = move_critical_pair(genome, SPACE, np.random.default_rng(seed))
    _check(moved)
    if moved.critical_pair < genome.critical_pair:
        assert moved.tail == (genome.tail[0], *genome.tail)
    else:
        assert moved.tail == genome.tail[1:]


def test_the_critical_pair_stays_where_there_is_only_one() -> None:
    space = GenomeSpace(num_pairs=4, lowest_critical_pair=2, highest_critical_pair=2, factors=SPACE.factors)
    genome = Genome(critical_pair=2, tail=(400, 500))
    assert move_critical_pair(genome, space, np.random.default_rng(0)) is genome


def test_flat_draws_reach_both_bounds() -> None:
    space = GenomeSpace(
        num_pairs=2, lowest_critical_pair=1, highest_critical_pair=1, factors=Grid(step=1.0, lowest=4, highest=6)
    )
    drawn = {flat(space, 1, np.random.default_rng(seed)).tail[0] for seed in range(60)}
    assert drawn == {4, 5, 6}


def test_mutation_reaches_the_whole_space_from_a_flat_start() -> None:
    """Gaps between equal neighbours are empty, so that changes spread from the ends: they must get everywhere."""
    space = GenomeSpace(
        num_pairs=4, lowest_critical_pair=1, highest_critical_pair=2, factors=Grid(step=1.0, lowest=4, highest=5)
    )
    genome = Genome(critical_pair=1, tail=(5, 5, 5))
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(1000):
        genome = mutate(genome, space, rng, probability=0.3)
        seen.add(genome)
    assert len(seen) == 4 + 3  # sorted tails of three and of two pairs over {4, 5}


def test_mutation_changes_about_as_many_pairs_as_its_probability_says() -> None:
    space = GenomeSpace(
        num_pairs=100, lowest_critical_pair=0, highest_critical_pair=0, factors=Grid(step=1.0, lowest=0, highest=10**9)
    )
    genome = Genome(critical_pair=0, tail=tuple(range(10**6, 10**6 + 100 * 10**6, 10**6)))
    changed = [
        sum(a != b for a, b in zip(genome.tail, child.tail, strict=True))
        for child in (mutate(genome, space, np.random.default_rng(seed), probability=0.3) for seed in range(100))
    ]
    assert np.mean(changed) == pytest.approx(30, abs=1.5)


def test_crossover_of_equal_parents_gives_up() -> None:
    genome = Genome(critical_pair=9, tail=(500,) * 7, attention=1000)
    child = crossover(
        genome, genome, np.random.default_rng(0), probability=0.3, max_tries=20, is_new=lambda child: child != genome
    )
    assert child is None
