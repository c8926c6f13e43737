"""The default strategy: few numbers, few documents each, and more documents for those that a paired test keeps.

Generation 0 scores every baseline and `startup` shapes on the first documents. Each later generation drops what the
leader beats beyond chance, doubles the documents of the most promising shapes and of the best baseline, and adds shapes
where a Gaussian process expects the most. When it expects less than `min_gain`, or generations run out, only the
leaders go on, up to all documents; then the search ends, and validation decides. What each ingredient is worth is in
`benchmarks/reports/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from search_space.candidates.candidate import Candidate, ScoredCandidate
from search_space.candidates.step import Extension, Step
from search_space.errors import InvalidStrategy
from search_space.reading.annotations import Range
from search_space.strategies.arguments import AT_ONCE, LARGEST, Settings
from search_space.strategies.base import StrategyContext
from search_space.strategies.budgeting import Purse, most_candidates, passes_within, tokens_within
from search_space.strategies.racing import is_rejected
from search_space.strategies.seeds import seed_baselines
from search_space.strategies.shape_space import ShapeSpace
from search_space.strategies.surrogate import Surrogate, merit, observe


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoSettings(Settings):
    """The knobs.

    Raises:
        InvalidStrategy: a value out of its range.
    """

    owner: ClassVar[str] = "auto"

    startup: Annotated[int, AT_ONCE] = 16
    """Shapes of the first generation, beside the baselines."""
    batch: Annotated[int, AT_ONCE] = 8
    """Shapes of each later generation."""
    generations: Annotated[int, Range(0, LARGEST)] = 12
    """Generations after the first that may add shapes."""
    first_documents: Annotated[int, Range(1, LARGEST)] = 4
    """Documents of a new candidate."""
    leaders: Annotated[int, AT_ONCE] = 4
    """Shapes whose documents are doubled in each generation."""
    alpha: Annotated[float, Range(above=0, below=1)] = 0.05
    """Level of the test that drops a candidate."""
    min_gain: Annotated[float, Range(0)] = 0.1
    """Expected improvement (of the logarithm of the NLL, roughly) below which no more shapes are added."""
    surrogate: Literal["gp", "none"] = "gp"
    """"gp" proposes shapes by a Gaussian process; "none" draws them evenly."""
    race: bool = True
    """Without it every candidate is scored on all documents at once."""
    fresh_documents: bool = False
    """Whether each generation's shapes start on documents of their own, which the leader is scored on too."""

    def __post_init__(self) -> None:
        self.check()
        if self.fresh_documents and not self.race:
            raise InvalidStrategy("fresh_documents must come with race, but got race=False")


class AutoStrategy:
    """See the module, and :class:`search_space.strategies.base.Strategy`. Randomness comes from (seed,
    generation) alone."""

    name: ClassVar[str] = "auto"
    settings: ClassVar[type[AutoSettings]] = AutoSettings
    needs_gradients: ClassVar[bool] = False

    def __init__(self, settings: AutoSettings, context: StrategyContext) -> None:
        first = min(settings.first_documents, context.documents) if settings.race else context.documents
        self._settings = replace(settings, first_documents=first)
        self._context = context
        self._space = ShapeSpace.of(context)

    @property
    def max_candidates(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        settings = self._settings
        return most_candidates(settings.startup + settings.generations * settings.batch, self._context.budget)

    @property
    def max_documents(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        return max(self._context.documents, self._window(self._settings.generations)[-1] + 1)

    @property
    def max_document_passes(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`. An upper bound."""
        settings, documents = self._settings, self._context.documents
        trials = self.max_candidates + len(seed_baselines(self._context))
        started = trials * settings.first_documents
        # The leaders and the best baseline of each generation, always others, and up to the last document.
        raced = (settings.leaders + 1) * (settings.generations + 1) * (documents - settings.first_documents)
        most = min(started + raced, trials * documents)
        most += settings.generations * settings.first_documents * settings.fresh_documents
        return passes_within(most, self.max_documents, self._context)

    @property
    def max_tokens(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`. An upper bound: every pass is one of the dearest."""
        _, dearest = self._context.cost.extremes(self.max_documents)
        return tokens_within(self.max_document_passes * dearest, self.max_documents, self._context)

    def propose(self, generation: int, history: Sequence[ScoredCandidate]) -> Step:
        """See :class:`search_space.strategies.base.Strategy`."""
        if generation < 0:
            raise InvalidStrategy(f"generation must be at least 0, but got generation={generation}")
        if generation == 0:
            return Step(candidates=self._first(), documents=self._window(0), keep_open=self._settings.race)
        earlier = sorted((s for s in history if s.generation < generation), key=lambda scored: scored.trial)
        return _Turn(self._settings, self._context, self._space, generation, earlier).step(self._window(generation))

    def _first(self) -> tuple[Candidate, ...]:
        points = self._space.spread(self._settings.startup, _rng(self._context, 0))
        return seed_baselines(self._context) + tuple(
            self._space.candidate(point.tolist(), origin="initial") for point in points
        )

    def _window(self, generation: int) -> tuple[int, ...]:
        """The documents of `generation`'s new shapes."""
        start = generation * self._settings.first_documents if self._settings.fresh_documents else 0
        return tuple(range(start, start + self._settings.first_documents))


class _Turn:
    """One later generation."""

    def __init__(
        self,
        settings: AutoSettings,
        context: StrategyContext,
        space: ShapeSpace,
        generation: int,
        earlier: Sequence[ScoredCandidate],
    ) -> None:
        self._settings = settings
        self._context = context
        self._space = space
        self._generation = generation
        self._earlier = earlier
        self._shapes = [one for one in earlier if one.candidate.genes and not one.failed]
        self._purse = Purse.of(context, earlier)

    def step(self, window: tuple[int, ...]) -> Step:
        """Who is out, who goes on, who is new."""
        if not self._shapes:  # every shape failed: more of them, as long as there are generations
            return self._with_candidates(self._random_points(), Step(keep_open=self._settings.race), window)
        surrogate = Surrogate(observe([self._space.point(one.candidate) for one in self._shapes], self._shapes))
        ranked = self._ranked(surrogate)
        leader = self._leader(ranked)
        points = self._space.no_points() if self._is_settling(leader) else self._points(surrogate)
        raced = self._race(ranked, leader, window if len(points) else ()) if self._settings.race else Step()
        step = self._with_candidates(points, raced, window)
        return self._last() if step.is_last else step

    # -- racing ------------------------------------------------------------------------------------------------------

    def _ranked(self, surrogate: Surrogate) -> list[ScoredCandidate]:
        """Every shape, most promising first.

        By the surrogate and not by their own mean: the best of many noisy means is mostly luck, and the surrogate draws
        each towards what its neighbours got.
        """
        expected = surrogate.merits(np.array([self._space.point(one.candidate) for one in self._shapes]))
        order = sorted(range(len(expected)), key=lambda i: (round(float(expected[i]), 9), self._shapes[i].trial))
        return [self._shapes[index] for index in order]

    def _leader(self, ranked: Sequence[ScoredCandidate]) -> ScoredCandidate:
        """The most promising shape that is still in and has enough documents to be measured by."""
        alive = [one for one in ranked if not one.pruned]
        most = max(len(one.scores) for one in alive)
        return next(one for one in alive if 2 * len(one.scores) >= most)

    def _race(self, ranked: Sequence[ScoredCandidate], leader: ScoredCandidate, window: tuple[int, ...]) -> Step:
        """Out goes whom the leader beats beyond chance; the first places and the best baseline get more documents.

        A place that is out stays empty: its neighbours in the ranking are no better, or the surrogate would say so.
        """
        rejected = {
            one.trial
            for one in self._earlier
            if one is not leader
            and not one.pruned
            and not one.failed
            and is_rejected(one, leader, alpha=self._settings.alpha)
        }
        places = [*ranked[: self._settings.leaders], *self._best_baseline()]
        going_on = [leader, *(one for one in places if one is not leader)]
        extensions = [
            self._doubled(one, window if one is leader else ())
            for one in going_on
            if not one.pruned and one.trial not in rejected
        ]
        return Step(extend=self._affordable(extensions), prune=tuple(sorted(rejected)), keep_open=True)

    def _best_baseline(self) -> list[ScoredCandidate]:
        """By what all of them have in common, their first documents; empty when none could be scored."""
        baselines = [one for one in self._earlier if one.candidate.baseline_name is not None and not one.failed]
        first = frozenset(range(self._settings.first_documents))
        return sorted(baselines, key=lambda one: (merit(one, first), one.trial))[:1]

    def _doubled(self, one: ScoredCandidate, also: tuple[int, ...]) -> Extension | None:
        """As many documents again, from the first ones on, up to all of them; and those of `also`."""
        known = {score.index for score in one.scores}
        missing = [index for index in range(self._context.documents) if index not in known][: len(known)]
        asked = sorted({*missing, *(set(also) - known)})
        return Extension(trial=one.trial, documents=tuple(asked)) if asked else None

    def _affordable(self, extensions: Sequence[Extension | None]) -> tuple[Extension, ...]:
        step = Step()
        for extension in extensions:
            if extension is not None and self._purse.after(step).times(extension.documents):
                step = replace(step, extend=(*step.extend, extension))
        return step.extend

    def _last(self) -> Step:
        """The end: trials that were never worth all documents are out, so that what completes can be compared."""
        everything = set(range(self._context.documents))
        return Step(
            prune=tuple(
                one.trial
                for one in self._earlier
                if not one.pruned and not one.failed and not everything <= {score.index for score in one.scores}
            )
        )

    # -- new shapes --------------------------------------------------------------------------------------------------

    def _is_settling(self, leader: ScoredCandidate) -> bool:
        """Whether no more shapes are added, whatever the surrogate expects."""
        patience = self._context.budget.patience
        return self._generation > self._settings.generations or (
            patience is not None and self._generation - 1 - leader.generation >= patience
        )

    def _points(self, surrogate: Surrogate) -> NDArray[np.float64]:
        if self._settings.surrogate == "none":
            return self._random_points()
        points, gain = surrogate.propose(self._settings.batch, _rng(self._context, self._generation))
        return points if gain >= self._settings.min_gain else points[:0]

    def _random_points(self) -> NDArray[np.float64]:
        return self._space.spread(self._settings.batch, _rng(self._context, self._generation))

    def _with_candidates(self, points: NDArray[np.float64], step: Step, window: tuple[int, ...]) -> Step:
        origin = "surrogate" if self._settings.surrogate == "gp" else "random"
        seen = {one.candidate.scaling.key for one in self._earlier}
        new: list[Candidate] = []
        for point in points:
            candidate = self._space.candidate(point.tolist(), origin=origin)
            if candidate.scaling.key not in seen:
                seen.add(candidate.scaling.key)
                new.append(candidate)
        left = min(self._candidates_left(), self._purse.after(step).times(window))
        new = new[: max(left, 0)]
        return replace(step, candidates=tuple(new), documents=window if new else ())

    def _candidates_left(self) -> int:
        most = most_candidates(
            self._settings.startup + self._settings.generations * self._settings.batch, self._context.budget
        )
        return most - sum(one.candidate.baseline_name is None for one in self._earlier)


def _rng(context: StrategyContext, generation: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([context.seed, generation]))
