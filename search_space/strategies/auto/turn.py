"""One generation of the race, on the documents of one stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from search_space.candidates.candidate import Candidate, ScoredCandidate
from search_space.candidates.step import Extension, Step
from search_space.strategies.auto.settings import AutoSettings
from search_space.strategies.auto.stage import Stage, filled
from search_space.strategies.base import StrategyContext
from search_space.strategies.budgeting import RemainingBudget, most_candidates
from search_space.strategies.nearest_shape import nearest_point
from search_space.strategies.racing import is_rejected
from search_space.strategies.shape_space import ShapeSpace
from search_space.strategies.surrogate import Surrogate, merit, observe


class Turn:
    """A generation after the first. `earlier` are all candidates before it, `views` what the stage knows of each."""

    def __init__(
        self,
        settings: AutoSettings,
        context: StrategyContext,
        space: ShapeSpace,
        stage: Stage,
        generation: int,
        earlier: Sequence[ScoredCandidate],
        views: Sequence[ScoredCandidate],
    ) -> None:
        self._settings = settings
        self._context = context
        self._space = space
        self._stage = stage
        self._generation = generation
        self._earlier = earlier
        self.views = views
        self._shapes = [one for one in views if one.candidate.genes and not one.failed]
        self._remaining = RemainingBudget.of(context, earlier)

    def step(self) -> Step:
        """Who is out, who goes on, who is new."""
        window = self._stage.window(self._generation, fresh=self._settings.fresh_documents)
        if not self._shapes:  # every shape failed: more of them, as long as there are generations
            return self._with_candidates(
                self._random_points(self._batch(Step())), Step(keep_open=self._settings.race), window
            )
        surrogate = self._surrogate()
        ranked = self._ranked(surrogate)
        leader = self._leader(ranked)
        out = self._rejected(leader) if self._settings.race else set()
        if self._is_settling(leader) or not self._stage.batch:
            points = self._space.no_points()
        else:
            points = self._points(
                surrogate, self._batch(self._race(ranked[: self._settings.leaders], leader, out, window))
            )
        raced = self._raced(ranked, leader, out, window if len(points) else (), new=len(points) * self._stage.start)
        step = self._with_candidates(points, raced, window)
        return self._last() if step.is_last else step

    # -- racing ------------------------------------------------------------------------------------------------------

    def survivors(self) -> tuple[list[ScoredCandidate], tuple[int, ...]]:
        """The shapes that stay in, most promising first, and the trials that the leader sends home."""
        if not self._shapes:
            return [], ()
        ranked = self._ranked(self._surrogate())
        rejected = self._rejected(self._leader(ranked))
        return [one for one in ranked if not one.pruned and one.trial not in rejected], tuple(sorted(rejected))

    def _surrogate(self) -> Surrogate:
        """Of the shapes, and of the formulas that a shape is close to: they cost nothing and lie where others were
        lucky."""
        known = [(self._space.point(one.candidate), one) for one in self._shapes]
        for one in distinct_baselines(self.views):
            point = nearest_point(self._space, one.candidate)
            known += [] if point is None else [(point, one)]
        points, scored = zip(*known, strict=True)
        return Surrogate(observe(points, scored))

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

    def _raced(
        self,
        ranked: Sequence[ScoredCandidate],
        leader: ScoredCandidate,
        out: set[int],
        window: tuple[int, ...],
        *,
        new: int,
    ) -> Step:
        """The race beside `new` passes of shapes that come in. Where they leave workers without whole rounds of passes,
        documents are doubled again, up to the last one, and then more places get theirs, as far as a round goes."""
        width, most, leaders = self._settings.width, self._stage.count.bit_length(), self._settings.leaders
        wanted = filled(0, width) if width > 1 else 1
        deeper = ((times, leaders) for times in range(2, most + 1))
        wider = ((most, places) for places in range(leaders + 1, len(ranked) + 1))
        step = self._race(ranked[:leaders], leader, out, window)
        for times, places in (*deeper, *wider):
            # No passes: the leaders have all documents, which is the end.
            if not 0 < step.document_passes + new < wanted:
                break
            step = self._race(ranked[:places], leader, out, window, times=times)
        passes = step.document_passes + new
        return without_last(step, passes % width) if passes > wanted > 1 else step

    def _race(
        self,
        places: Sequence[ScoredCandidate],
        leader: ScoredCandidate,
        out: set[int],
        window: tuple[int, ...],
        *,
        times: int = 1,
    ) -> Step:
        """Whom the leader beats beyond chance is `out`; the first `places` and the best formulas get more documents.

        A place that is out stays empty: its neighbours in the ranking are no better, or the surrogate would say so.
        """
        if not self._settings.race:
            return Step()
        few = self._settings.leaders
        in_order = (*places[:few], *self._anchors(), *places[few:])
        going_on = [leader, *(one for one in in_order if one is not leader)]
        extensions = [
            self._stage.doubled(one, window if one is leader else (), times=times)
            for one in going_on
            if not one.pruned and one.trial not in out
        ]
        return Step(extend=affordable(extensions, self._remaining), prune=tuple(sorted(out)), keep_open=True)

    def _rejected(self, leader: ScoredCandidate) -> set[int]:
        kept = {one.trial for one in self._anchors()}
        return {
            one.trial
            for one in self.views
            if one is not leader
            and not one.pruned
            and not one.failed
            and (self._stage.drops_baselines or one.candidate.baseline_name is None)
            and one.trial not in kept
            and is_rejected(one, leader, alpha=self._settings.alpha)
        }

    def _anchors(self) -> list[ScoredCandidate]:
        """The best formulas by what all of them have in common, their first documents; fewer when they failed.

        They get the leaders' documents, so that there is something not chosen by its luck to measure these by.
        """
        first = frozenset(self._stage.window(0, fresh=False))
        known = [one for one in distinct_baselines(self.views) if first <= {score.index for score in one.scores}]
        return sorted(known, key=lambda one: (merit(one, first), one.trial))[: self._settings.anchors]

    def _last(self) -> Step:
        """The end: trials that were never worth all documents are out, so that what completes can be compared."""
        everything = set(self._stage.documents)
        return Step(
            prune=tuple(
                one.trial
                for one, view in zip(self._earlier, self.views, strict=True)
                if not one.pruned and not one.failed and not everything <= {score.index for score in view.scores}
            )
        )

    # -- new shapes --------------------------------------------------------------------------------------------------

    def _is_settling(self, leader: ScoredCandidate) -> bool:
        """Whether no more shapes are added, whatever the surrogate expects."""
        patience = self._context.budget.patience
        return self._generation > self._settings.generations or (
            patience is not None and self._generation - 1 - leader.generation >= patience
        )

    def _batch(self, beside: Step) -> int:
        """New shapes of a generation that also scores `beside`."""
        others, each = beside.document_passes, self._stage.start
        return (filled(others + self._stage.batch * each, self._settings.width) - others) // each

    def _points(self, surrogate: Surrogate, count: int) -> NDArray[np.float64]:
        if self._settings.surrogate == "none":
            return self._random_points(count)
        count = min(count, max(self._candidates_left(), 1))
        points, gain = surrogate.propose(count, generator(self._context, self._generation))
        return points if gain >= self._settings.min_gain else points[:0]

    def _random_points(self, count: int) -> NDArray[np.float64]:
        return self._space.spread(count, generator(self._context, self._generation))

    def _with_candidates(self, points: NDArray[np.float64], step: Step, window: tuple[int, ...]) -> Step:
        origin = "surrogate" if self._settings.surrogate == "gp" else "random"
        seen = {one.candidate.scaling.key for one in self._earlier}
        new: list[Candidate] = []
        for point in points:
            candidate = self._space.candidate(point.tolist(), origin=origin)
            if candidate.scaling.key not in seen:
                seen.add(candidate.scaling.key)
                new.append(candidate)
        left = min(self._candidates_left(), self._remaining.after(step).times(window))
        new = new[: max(left, 0)]
        return replace(step, candidates=tuple(new), documents=window if new else ())

    def _candidates_left(self) -> int:
        most = most_candidates(
            self._settings.startup + self._settings.generations * self._settings.batch, self._context.budget
        )
        return most - sum(one.candidate.baseline_name is None for one in self._earlier)


def distinct_baselines(scored: Sequence[ScoredCandidate]) -> list[ScoredCandidate]:
    """The formulas that could be scored, each scaling once: some coincide."""
    found = [one for one in scored if one.candidate.baseline_name is not None and not one.failed]
    return list({one.candidate.scaling.key: one for one in reversed(found)}.values())[::-1]


def generator(context: StrategyContext, generation: int) -> np.random.Generator:
    """The randomness of a generation."""
    return np.random.default_rng(np.random.SeedSequence([context.seed, generation]))


def without_last(step: Step, passes: int) -> Step:
    """The step with so many passes fewer, those of the extensions that were wanted least."""
    kept = step.extend
    while kept and passes:
        *others, last = kept
        left = last.documents[: max(len(last.documents) - passes, 0)]
        passes -= len(last.documents) - len(left)
        kept = (*others, replace(last, documents=left)) if left else tuple(others)
    return replace(step, extend=kept)


def affordable(extensions: Iterable[Extension | None], remaining: RemainingBudget) -> tuple[Extension, ...]:
    """Those that `remaining` pays for, in their order; None asks for nothing."""
    step = Step()
    for extension in extensions:
        if extension is not None and remaining.after(step).times(extension.documents):
            step = replace(step, extend=(*step.extend, extension))
    return step.extend
