from __future__ import annotations

import warnings

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.candidate import Candidate
from search_space.errors import InvalidStrategy
from search_space.strategies.evolution.genome import Genome, GenomeSpace, Grid, factor_gene
from tests.helpers.genomes import SPACE, genomes


@pytest.mark.slow
@given(genomes())
def test_genome_to_candidate_and_back(genome: Genome) -> None:
    candidate = SPACE.candidate(genome, origin="mutation", parents=(3,))
    assert SPACE.genome(candidate) == genome
    assert candidate.critical_pair == genome.critical_pair
    assert (candidate.origin, candidate.parents) == ("mutation", (3,))
    names = [factor_gene(pair) for pair in range(genome.critical_pair, 16)]
    assert [gene.name for gene in candidate.genes] == ["critical_pair", *names, "attention_factor"]


@given(genomes())
def test_factors_below_the_critical_pair_follow_the_formula(genome: Genome) -> None:
    pair = genome.critical_pair
    values = SPACE.candidate(genome, origin="").scaling.factors.values
    assert values[:pair] == pytest.approx([values[pair] ** (i / pair) for i in range(pair)], rel=1e-14)
    assert all(4.0 <= value <= 8.0 and value == round(value, 2) for value in values[pair:])


@given(st.floats(1.0, 100.0), st.floats(1.0, 3.0), st.sampled_from([0.01, 0.001, 0.1, 0.5, 0.25, 1.0, 0.000001]))
def test_grid_stays_inside_its_bounds(low: float, multiple: float, step: float) -> None:
    high = low * multiple
    try:
        grid = Grid.inside(low=low, high=high, step=step)
    except InvalidStrategy:
        assert high - low < step
        return
    noise = 1e-8 * step + 1e-12 * high
    assert grid.value(grid.lowest) >= low - noise
    assert grid.value(grid.highest) <= high + noise
    assert grid.value(grid.lowest) - step < low + noise
    assert grid.value(grid.highest) + step > high - noise
    for index in (grid.lowest, (grid.lowest + grid.highest) // 2, grid.highest):
        assert grid.index(grid.value(index)) == index


@given(genomes())
def test_genes_are_parameters_that_optuna_takes_as_they_are(genome: Genome) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it would warn about a high that is off the grid, and change it
        for gene in SPACE.candidate(genome, origin="").genes:
            if gene.integer:
                continue
            distribution = optuna.distributions.FloatDistribution(gene.low, gene.high, step=gene.step)
            assert distribution.high == gene.high
            assert distribution._contains(distribution.to_internal_repr(gene.value))


@pytest.mark.parametrize("step", [0.0, -0.01, float("nan"), float("inf"), 1 / 3, 1e-7])
def test_bad_steps_are_refused(step: float) -> None:
    with pytest.raises(InvalidStrategy, match=r"grid step must be positive|search space must not be empty"):
        Grid.inside(low=4.0, high=8.0, step=step)


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(InvalidStrategy, match=r"no multiple of step=0.5 lies in \[4.1, 4.4\]"):
        Grid.inside(low=4.1, high=4.4, step=0.5)


def test_bounds_that_are_not_exact_in_binary_keep_their_end_points() -> None:
    grid = Grid.inside(low=16.1, high=32.2, step=0.01)
    assert (grid.value(grid.lowest), grid.value(grid.highest)) == (16.1, 32.2)


def test_genes_of_other_settings_are_refused() -> None:
    genome = Genome(critical_pair=9, tail=(400,) * 7, attention=1000)
    good = SPACE.candidate(genome, origin="")
    for genes in (good.genes[1:], good.genes[:-1], good.genes[:1] + good.genes[2:], ()):
        with pytest.raises(InvalidStrategy, match="those of the search space"):
            SPACE.genome(Candidate(scaling=Scaling(good.scaling.factors), genes=genes))
    wider = GenomeSpace(
        num_pairs=16,
        lowest_critical_pair=4,
        highest_critical_pair=9,
        factors=Grid.inside(low=2.0, high=8.0, step=0.01),
        attention=SPACE.attention,
    )
    outside = wider.candidate(Genome(critical_pair=9, tail=(300,) * 7, attention=1000), origin="")
    with pytest.raises(InvalidStrategy, match=r"multiple of 0.01 in \[4.0, 8.0\], but got 3.0"):
        SPACE.genome(outside)


def test_impossible_spaces_are_refused() -> None:
    for lowest, highest in ((-1, 3), (5, 4), (4, 16)):
        with pytest.raises(InvalidStrategy, match="ascending range"):
            GenomeSpace(num_pairs=16, lowest_critical_pair=lowest, highest_critical_pair=highest, factors=SPACE.factors)


def test_a_fixed_attention_factor_is_carried_and_is_no_gene() -> None:
    space = GenomeSpace(
        num_pairs=2,
        lowest_critical_pair=0,
        highest_critical_pair=1,
        factors=SPACE.factors,
        fixed_attention_factor=1.1,
    )
    candidate = space.candidate(Genome(critical_pair=0, tail=(400, 500)), origin="")
    assert candidate.scaling.attention_factor == 1.1
    assert candidate.scaling.factors == RescaleFactors((4.0, 5.0))
    assert [gene.name for gene in candidate.genes] == ["critical_pair", "factor_00", "factor_01"]
