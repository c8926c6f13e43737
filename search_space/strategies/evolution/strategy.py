"""LongRoPE2's evolutionary search (arXiv 2502.20082, Algorithms 1 and 2), generation by generation.

Generation 0 is every baseline, then the paper's initial population. Each later generation is bred from the best
candidates so far. What the paper leaves open (numbers of parents, mutations and crossovers, grid, crossover, gap-wise
mutation) follows its authors' released search code.

Two additions to the paper, whose search takes the critical pair as given: mutation may move it by one pair at a time
(:func:`search_space.strategies.evolution.operators.mutate`), and the attention factor can be searched as one more gene.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ropewalk.rope.config import scale
from ropewalk.rope.critical_pair import ten_period_critical_pair, theoretical_critical_pair
from ropewalk.rope.scaling import ScalingKey
from search_space.candidates.candidate import Candidate, ScoredCandidate
from search_space.candidates.step import END, Step
from search_space.errors import InvalidStrategy
from search_space.strategies.base import StrategyContext
from search_space.strategies.budgeting import candidates_left, most_candidates, patience_is_spent
from search_space.strategies.evolution.genome import Genome, GenomeSpace, Grid
from search_space.strategies.evolution.operators import crossover, flat, mutate
from search_space.strategies.evolution.settings import EvolutionSettings
from search_space.strategies.seeds import ScoredInFull, seed_baselines

# Draws or sweeps of mutation before a slot is left empty: only spaces that are nearly used up come close.
_MAX_TRIES = 200
_ATTENTION_STEP = 0.001
# Twice YaRN's 0.1 ln s + 1: room on the far side of the rule of thumb.
_ATTENTION_REACH = 0.2


class EvolutionStrategy(ScoredInFull):
    """The search as a :class:`search_space.strategies.base.Strategy`.

    Slot k of a generation (baselines not counted) draws from SeedSequence([seed, generation, k]) and nothing else, and
    parents are ranked by (nll, trial): arrival order cannot matter. No candidate is proposed twice in a search; a slot
    that finds nothing new stays empty, so generations of a nearly exhausted space are shorter.
    """

    name: ClassVar[str] = "evolution"
    settings: ClassVar[type[EvolutionSettings]] = EvolutionSettings
    needs_gradients: ClassVar[bool] = False

    def __init__(self, settings: EvolutionSettings, context: StrategyContext) -> None:
        self._settings = settings
        self._context = context
        self._space = genome_space(settings, context)

    @property
    def max_candidates(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        settings = self._settings
        most = settings.population + settings.iterations * (settings.mutations + settings.crossovers)
        return most_candidates(most, self._context.budget)

    def propose(self, generation: int, history: Sequence[ScoredCandidate]) -> Step:
        """See :class:`search_space.strategies.base.Strategy`. Ends after `iterations` bred generations.

        Every candidate is scored on every document. A budget that ends within a generation cuts its last candidates.
        """
        if generation < 0:
            raise InvalidStrategy(f"generation must be at least 0, but got generation={generation}")
        earlier = [scored for scored in history if scored.generation < generation]
        budget, documents = self._context.budget, self._context.documents
        if generation > self._settings.iterations or patience_is_spent(generation, earlier, budget):
            return END
        # The first generation is whole or the search was refused: see `make_strategy`.
        candidates = self._generation(generation, earlier)
        if generation > 0:
            candidates = candidates[: candidates_left(self.max_candidates, earlier, self._context)]
        return Step(candidates=candidates, documents=tuple(range(documents)))

    def _generation(self, generation: int, earlier: Sequence[ScoredCandidate]) -> tuple[Candidate, ...]:
        if generation == 0:
            seeds = seed_baselines(self._context)
            return seeds + self._initial(generation, seen={one.scaling.key for one in seeds})
        ranked = sorted(earlier, key=lambda scored: (scored.nll, scored.trial))
        seen = {scored.candidate.scaling.key for scored in ranked}
        parents = self._parents(ranked)
        if not parents:
            return self._initial(generation, seen=seen)
        return self._bred(generation, parents, seen)

    def _initial(self, generation: int, *, seen: set[ScalingKey]) -> tuple[Candidate, ...]:
        """Algorithm 1: one flat genome per critical pair, then mutations of earlier ones, up to `population`.

        The mutated genome is the one as many places before as there are critical pairs, so that every pair's line is
        carried on in turn. A population smaller than the range of critical pairs takes pairs spread evenly over it.
        """
        pairs = _spread(self._space.critical_pairs, self._settings.population)
        genomes: list[Genome] = []
        result: list[Candidate] = []
        for slot in range(self._settings.population):
            rng = self._rng(generation, slot)
            genome: Genome | None = None
            if slot < len(pairs):
                genome = self._flat(pairs[slot], rng, seen)
            elif genomes:
                genome = self._mutated(genomes[max(len(genomes) - len(pairs), 0)], rng, seen)
            if genome is not None:
                genomes.append(genome)
                result.append(self._take(genome, seen, origin="initial"))
        return tuple(result)

    def _parents(self, ranked: list[ScoredCandidate]) -> list[tuple[int, Genome]]:
        """The best scored candidates that have genes, best first, as (trial, genome).

        Failed ones (nll = inf) are taken only when nothing else has genes.
        """
        bred = [scored for scored in ranked if scored.candidate.genes]
        usable = [scored for scored in bred if math.isfinite(scored.nll)] or bred
        return [(s.trial, self._space.genome(s.candidate)) for s in usable[: self._settings.parents]]

    def _bred(self, generation: int, parents: list[tuple[int, Genome]], seen: set[ScalingKey]) -> tuple[Candidate, ...]:
        """Algorithm 2: slots [0, mutations) mutate one random parent each, the slots after cross two."""
        result: list[Candidate] = []
        for slot in range(self._settings.mutations + self._settings.crossovers):
            rng = self._rng(generation, slot)
            if slot >= self._settings.mutations and len(parents) > 1:
                child = self._crossed(parents, rng, seen)
            else:
                child = self._mutation_of(parents[int(rng.integers(len(parents)))], rng, seen)
            if child is not None:
                result.append(child)
        return tuple(result)

    def _crossed(
        self, parents: list[tuple[int, Genome]], rng: np.random.Generator, seen: set[ScalingKey]
    ) -> Candidate | None:
        """A crossover of two different parents, the better one first; a mutation of it when the crossover fails."""
        better, other = sorted(rng.choice(len(parents), size=2, replace=False).tolist())
        (trial, first), (other_trial, second) = parents[better], parents[other]
        child = crossover(
            first,
            second,
            rng,
            probability=self._settings.mutation_probability,
            max_tries=self._settings.max_crossover_tries,
            is_new=lambda genome: self._space.key(genome) not in seen,
        )
        if child is None:
            return self._mutation_of(parents[better], rng, seen)
        return self._take(child, seen, origin="crossover", parents=(trial, other_trial))

    def _mutation_of(
        self, parent: tuple[int, Genome], rng: np.random.Generator, seen: set[ScalingKey]
    ) -> Candidate | None:
        trial, genome = parent
        child = self._mutated(genome, rng, seen)
        return None if child is None else self._take(child, seen, origin="mutation", parents=(trial,))

    def _mutated(self, genome: Genome, rng: np.random.Generator, seen: set[ScalingKey]) -> Genome | None:
        """Sweeps of mutation, one upon the other, until the genome is new; None when it never is."""
        for _ in range(_MAX_TRIES):
            genome = mutate(genome, self._space, rng, probability=self._settings.mutation_probability)
            if self._space.key(genome) not in seen:
                return genome
        return None

    def _flat(self, critical_pair: int, rng: np.random.Generator, seen: set[ScalingKey]) -> Genome | None:
        """A flat genome that is new; None when there is none left."""
        for _ in range(_MAX_TRIES):
            genome = flat(self._space, critical_pair, rng)
            if self._space.key(genome) not in seen:
                return genome
        return None

    def _take(self, genome: Genome, seen: set[ScalingKey], *, origin: str, parents: tuple[int, ...] = ()) -> Candidate:
        candidate = self._space.candidate(genome, origin=origin, parents=parents)
        seen.add(candidate.scaling.key)
        return candidate

    def _rng(self, generation: int, slot: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self._context.seed, generation, slot]))


def genome_space(settings: EvolutionSettings, context: StrategyContext) -> GenomeSpace:
    """The genomes that a search under these settings may visit.

    Critical pairs as set, or from the ten-period to the theoretical one; factors on the grid in [s * lower_multiple,
    s * upper_multiple]; a searched attention factor on a grid of 0.001 in [1, 1 + 0.2 ln s].

    Raises:
        InvalidStrategy: no grid value lies in the bounds, or the bounds allow factors below 1.
    """
    s = scale(context.rope, context.target_length)
    low, high = s * settings.lower_multiple, s * settings.upper_multiple
    if low < 1.0:
        raise InvalidStrategy(
            f"lower_multiple must keep factors at 1 or above, but got lower_multiple={settings.lower_multiple!r} "
            f"at scale {s!r}"
        )
    attention = None
    if context.attention_factor is None:
        attention = Grid.inside(low=1.0, high=1.0 + _ATTENTION_REACH * math.log(s), step=_ATTENTION_STEP)
    lowest, highest = settings.lowest_critical_pair, settings.highest_critical_pair
    return GenomeSpace(
        num_pairs=context.rope.num_pairs,
        lowest_critical_pair=ten_period_critical_pair(context.rope) if lowest is None else lowest,
        highest_critical_pair=theoretical_critical_pair(context.rope) if highest is None else highest,
        factors=Grid.inside(low=low, high=high, step=settings.grid_step),
        attention=attention,
        fixed_attention_factor=1.0 if context.attention_factor is None else context.attention_factor,
    )


def _spread(pairs: range, count: int) -> list[int]:
    """All of `pairs`, or `count` of them from end to end."""
    if len(pairs) <= count:
        return list(pairs)
    return [pairs[round(position)] for position in np.linspace(0, len(pairs) - 1, count)]
