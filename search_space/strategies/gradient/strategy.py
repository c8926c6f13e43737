"""Gradient descent on fresh documents, for scorers that differentiate their nats by the factors.

Generation 0 scores the baselines (and shapes, where asked for) on a few documents. From the best of them the factors
follow the gradient, a step a generation, each taken on documents of its own: noise of few documents moves a step and is
not fitted. Pairs below the ten-period critical one keep the start's factors. They turn so fast that far tokens are many
periods away: there a derivative says nothing about the next step. Now and then the average of the path is scored on the
documents that candidates are compared on; only averages, and the start, can win.

Steps are projected onto the non-decreasing vectors (isotonic regression) rather than taken in the increments from pair
to pair: an increment moves all pairs after it, so that one learning rate would mean n times as much to the last pair as
to the first, and the increments of a flat stretch, which baselines have, would have no slope to leave it by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from ropewalk.rope.critical_pair import ten_period_critical_pair
from search_space.candidates.candidate import Candidate, Gene, ScoredCandidate
from search_space.candidates.cost import PASSES
from search_space.candidates.step import Extension, Step
from search_space.errors import InvalidStrategy
from search_space.strategies.base import StrategyContext
from search_space.strategies.budgeting import patience_is_spent
from search_space.strategies.gradient.descent import Region, adam_direction, point_of, tail_mean
from search_space.strategies.gradient.settings import GradientSettings, Plan
from search_space.strategies.seeds import seed_baselines
from search_space.strategies.shape_space import ATTENTION_FACTOR, ShapeSpace

ITERATE = "iterate"
AVERAGE = "average"


class GradientStrategy:
    """See the module, and :class:`search_space.strategies.base.Strategy`.

    Iterates are scored on a few documents that nothing else is scored on. They are pruned in the next step, so that
    candidates that complete can be compared. Iterates and averages have no genes but the attention factor, where it is
    searched: their factors follow from all gradients before, not from a few numbers. The budget's patience is counted
    in generations like everywhere, and looked at when an average is known.
    """

    name: ClassVar[str] = "gradient"
    settings: ClassVar[type[GradientSettings]] = GradientSettings
    needs_gradients: ClassVar[bool] = True

    def __init__(self, settings: GradientSettings, context: StrategyContext) -> None:
        self._context = context
        self._settings = replace(settings, first_documents=min(settings.first_documents, context.documents))
        self._space = ShapeSpace.of(context)
        baselines = len(seed_baselines(context))
        self._plan = Plan.within(context, self._settings, baselines=baselines)

    @property
    def max_candidates(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        return self._plan.candidates

    @property
    def max_documents(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        return self._plan.fresh(self._plan.steps - 1)[-1] + 1

    @property
    def max_document_passes(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        return self._plan.cost(PASSES)

    @property
    def max_tokens(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        return self._plan.cost(self._context.cost)

    def propose(self, generation: int, history: Sequence[ScoredCandidate]) -> Step:
        """See :class:`search_space.strategies.base.Strategy`.

        Raises:
            InvalidStrategy: `generation` is negative, or an iterate was scored without the gradients that its step
                asked for.
        """
        if generation < 0:
            raise InvalidStrategy(f"generation must be at least 0, but got generation={generation}")
        if generation == 0:
            return Step(
                candidates=self._first(), documents=tuple(range(self._settings.first_documents)), keep_open=True
            )
        earlier = sorted((s for s in history if s.generation < generation), key=lambda scored: scored.trial)
        start = self._start(earlier)
        turns = self._plan.turns
        if start is None or generation > len(turns) or self._is_patience_spent(generation, earlier):
            return self._last(earlier)
        turn = _Turn(self._settings, self._plan, self._region(start.candidate), start, earlier)
        number = turns[generation - 1]
        return turn.check() if number is None else turn.descend(number)

    def _first(self) -> tuple[Candidate, ...]:
        return seed_baselines(self._context) + tuple(
            self._space.candidate(point.tolist(), origin="initial") for point in self._points(self._settings.startup)
        )

    def _points(self, count: int) -> NDArray[np.float64]:
        """(count, axes) in [0, 1): the first of a power of two, which the sequence is balanced for."""
        rng = np.random.default_rng(np.random.SeedSequence([self._context.seed, 0]))
        points: NDArray[np.float64] = qmc.Sobol(len(self._space.axes), rng=rng).random_base2(count.bit_length())
        return points[:count]

    def _start(self, earlier: Sequence[ScoredCandidate]) -> ScoredCandidate | None:
        """The best of generation 0 on its documents, the first of equals; None when none could be scored."""
        first = [one for one in earlier if one.generation == 0 and not one.failed]
        documents = range(self._settings.first_documents)
        return min(first, key=lambda one: (_nll(one, documents), one.trial), default=None)

    def _region(self, start: Candidate) -> Region:
        axes = {axis.name: axis for axis in self._space.axes}
        attention = axes.get(ATTENTION_FACTOR)
        return Region(
            start=start,
            free_from=ten_period_critical_pair(self._context.rope),
            attention=None if attention is None else (attention.low, attention.high),
        )

    def _is_patience_spent(self, generation: int, earlier: Sequence[ScoredCandidate]) -> bool:
        averages = [one for one in earlier if one.candidate.origin == AVERAGE]
        is_news = any(one.generation == generation - 1 for one in averages)
        return is_news and patience_is_spent(generation, averages, self._context.budget)

    def _last(self, earlier: Sequence[ScoredCandidate]) -> Step:
        """The end: what was not scored on all documents is out, so that what completes can be compared."""
        everything = set(range(self._context.documents))
        return Step(prune=tuple(one.trial for one in _open(earlier) if not everything <= _documents(one)))


class _Turn:
    """One generation on the way."""

    def __init__(
        self,
        settings: GradientSettings,
        plan: Plan,
        region: Region,
        start: ScoredCandidate,
        earlier: Sequence[ScoredCandidate],
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._region = region
        self._start = start
        self._iterates = [one for one in earlier if one.candidate.origin == ITERATE]

    def descend(self, number: int) -> Step:
        """The next gradient: the first one at the start, which is scored already, the others at new candidates."""
        documents = self._plan.fresh(number)
        if number == 0:
            extension = Extension(trial=self._start.trial, documents=documents)
            return Step(extend=(extension,), keep_open=True, gradients=True)
        return Step(
            candidates=(self._candidate(self._next(), ITERATE),),
            documents=documents,
            prune=self._passed(),
            keep_open=True,
            gradients=True,
        )

    def check(self) -> Step:
        """The average so far on all documents, and the start, to compare it with."""
        documents = tuple(range(self._plan.documents))
        missing = tuple(index for index in documents if index not in _documents(self._start))
        path = [point_of(one.candidate) for one in self._iterates if not one.failed]
        return Step(
            candidates=(self._candidate(tail_mean([*path, self._next()]), AVERAGE),),
            documents=documents,
            extend=(Extension(trial=self._start.trial, documents=missing),) if missing else (),
            prune=self._passed(),
        )

    def _next(self) -> NDArray[np.float64]:
        """Where the gradients so far lead, (n + 1,).

        Positions are those of the history, not replayed: rounding does not add up along the path. An iterate that could
        not be scored is stepped back from, halfway to the one before it.
        """
        visited = [self._start, *self._iterates]
        here, gradients = point_of(visited[-1].candidate), [_gradient(one) for one in visited]
        if gradients[-1] is None:
            scored = [one for one in visited if not one.failed and one is not visited[-1]]
            return self._region.project((here + point_of((scored or visited)[-1].candidate)) / 2.0)
        direction = adam_direction([one for one in gradients if one is not None])
        return self._region.project(here + self._settings.learning_rate * direction)

    def _candidate(self, point: NDArray[np.float64], origin: str) -> Candidate:
        scaling = self._region.scaling(point)
        genes: tuple[Gene, ...] = ()
        if self._region.attention is not None:
            low, high = self._region.attention
            genes = (Gene(name=ATTENTION_FACTOR, value=scaling.attention_factor, low=low, high=high),)
        return Candidate(
            scaling=scaling,
            genes=genes,
            origin=origin,
            parents=((self._iterates[-1] if self._iterates else self._start).trial,),
        )

    def _passed(self) -> tuple[int, ...]:
        return tuple(one.trial for one in _open(self._iterates))


def _open(scored: Sequence[ScoredCandidate]) -> list[ScoredCandidate]:
    """Those that steps kept open and none has pruned; averages are finished at once."""
    return [one for one in scored if not (one.pruned or one.failed or one.candidate.origin == AVERAGE)]


def _documents(scored: ScoredCandidate) -> set[int]:
    return {score.index for score in scored.scores}


def _nll(scored: ScoredCandidate, documents: range) -> float:
    """On `documents`: later steps score the start on others too."""
    scores = [score for score in scored.scores if score.index in documents]
    return sum(score.nats for score in scores) / sum(score.tokens for score in scores)


def _gradient(scored: ScoredCandidate) -> NDArray[np.float64] | None:
    """d NLL / d point over the documents that it was taken on, (n + 1,); None for what could not be scored."""
    taken = [(score.tokens, score.gradient) for score in scored.scores if score.gradient is not None]
    if scored.failed or (not taken and scored.candidate.origin != ITERATE):
        return None
    if not taken:
        raise InvalidStrategy(f"an iterate must be scored with gradients, but got none for trial {scored.trial}")
    gradient: NDArray[np.float64] = np.sum([own for _, own in taken], axis=0) / sum(tokens for tokens, _ in taken)
    return gradient
