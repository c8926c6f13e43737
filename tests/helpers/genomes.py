"""A genome space, and any genome of it."""

from __future__ import annotations

from hypothesis import strategies as st

from search_space.strategies.evolution.genome import Genome, GenomeSpace, Grid

SPACE = GenomeSpace(
    num_pairs=16,
    lowest_critical_pair=4,
    highest_critical_pair=9,
    factors=Grid.inside(low=4.0, high=8.0, step=0.01),
    attention=Grid.inside(low=1.0, high=1.2773, step=0.001),
)


@st.composite
def genomes(draw: st.DrawFn, space: GenomeSpace = SPACE) -> Genome:
    pair = draw(st.sampled_from(space.critical_pairs))
    width = space.num_pairs - pair
    indices = st.integers(space.factors.lowest, space.factors.highest)
    attention = space.attention
    return Genome(
        critical_pair=pair,
        tail=tuple(sorted(draw(st.lists(indices, min_size=width, max_size=width)))),
        attention=None if attention is None else draw(st.integers(attention.lowest, attention.highest)),
    )
