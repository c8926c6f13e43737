"""The default strategy: few numbers, few documents each, and more documents for those that a paired test keeps.

Generation 0 scores every baseline and `startup` shapes on the first documents. Each later generation drops what the
leader beats beyond chance, doubles the documents of the most promising shapes and of the best baseline, and adds shapes
where a Gaussian process expects the most. When it expects less than `min_gain`, or generations run out, only the
leaders go on, up to all documents; then the search ends, and validation decides.

Where there are position-skipped documents, all of that happens on them, and what is left goes on to full ones: the
`promoted` first shapes. Every baseline gets the first full ones. Whether the two kinds rank alike is measured
in generation 1, on the baselines; when they do not, the search begins again on full documents. What each
ingredient is worth is in `benchmarks/reports/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from search_space.candidates.candidate import Candidate, ScoredCandidate
from search_space.candidates.step import Extension, Step
from search_space.errors import InvalidStrategy
from search_space.strategies.auto.settings import FEWEST_SHAPES, AutoSettings
from search_space.strategies.auto.stage import Stage, filled, rank_agreement
from search_space.strategies.auto.turn import Turn, affordable, distinct_baselines, generator
from search_space.strategies.base import StrategyContext
from search_space.strategies.budgeting import RemainingBudget, most_candidates, passes_within, tokens_within
from search_space.strategies.nearest_shape import start_point
from search_space.strategies.seeds import seed_baselines
from search_space.strategies.shape_space import ShapeSpace

START_ORIGIN = "start_from"


class AutoStrategy:
    """See the module, and :class:`search_space.strategies.base.Strategy`. Randomness comes from (seed,
    generation) alone."""

    name: ClassVar[str] = "auto"
    settings: ClassVar[type[AutoSettings]] = AutoSettings
    needs_gradients: ClassVar[bool] = False
    takes_two_kinds: ClassVar[bool] = True
    takes_starts: ClassVar[bool] = True

    def __init__(self, settings: AutoSettings, context: StrategyContext) -> None:
        self._settings = settings
        self._context = context
        self._space = ShapeSpace.of(context)
        skipped, documents = context.skipped_documents, context.documents
        self._full = _stage(settings, first=0, count=documents, start=settings.first_documents)
        self._skipped: Stage | None = None
        if skipped:
            stage = _stage(settings, first=documents, count=skipped, start=settings.first_skipped)
            self._skipped = replace(stage, drops_baselines=False)

    @property
    def max_candidates(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        settings = self._settings
        return most_candidates(settings.startup + settings.generations * settings.batch, self._context.budget)

    @property
    def max_documents(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        last = self._skipped or self._full
        window = last.window(self._settings.generations, fresh=self._settings.fresh_documents)
        return max(last.documents.stop, window[-1] + 1)

    @property
    def max_document_passes(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`. An upper bound."""
        most = sum(self._most_passes(stage) for stage in self._stages)
        return passes_within(most, self.max_documents, self._context)

    @property
    def max_tokens(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`. An upper bound, as that of passes."""
        cost = self._context.cost
        most = sum(self._most_passes(stage) * cost.of((stage.first,)) for stage in self._stages)
        return tokens_within(most, self.max_documents, self._context)

    @property
    def _stages(self) -> tuple[Stage, ...]:
        return (self._full,) if self._skipped is None else (self._full, self._skipped)

    def _most_passes(self, stage: Stage) -> int:
        settings = self._settings
        trials = self.max_candidates + len(seed_baselines(self._context))
        # The leaders of each generation, always others, and the best formulas, up to the last document.
        # For several workers steps are filled with whoever is left.
        raced = settings.leaders * (settings.generations + 1) + settings.anchors if settings.width == 1 else trials
        most = min(trials * stage.start + raced * (stage.count - stage.start), trials * stage.count)
        return most + settings.generations * stage.start * settings.fresh_documents

    def propose(self, generation: int, history: Sequence[ScoredCandidate]) -> Step:
        """See :class:`search_space.strategies.base.Strategy`."""
        if generation < 0:
            raise InvalidStrategy(f"generation must be at least 0, but got generation={generation}")
        stage = self._skipped or self._full
        if generation == 0:
            window = stage.window(0, fresh=self._settings.fresh_documents)
            return Step(candidates=self._first(stage), documents=window, keep_open=self._settings.race)
        earlier = sorted((s for s in history if s.generation < generation), key=lambda scored: scored.trial)
        if self._skipped is None:
            return self._turn(generation, earlier, self._full).step()
        return self._on_two_kinds(generation, earlier, self._skipped)

    def agreement(self, history: Sequence[ScoredCandidate]) -> float | None:
        """Rank correlation of skipped and full documents over the baselines; None before it was measured."""
        if self._skipped is None:
            return None
        baselines = [one for one in history if one.candidate.baseline_name is not None]
        first = replace(self._full, count=self._full.start)
        on_full = [first.view(one, first.documents.stop) for one in baselines]
        return rank_agreement([self._view(one, self._skipped) for one in baselines], on_full)

    def trusts_skipped(self, history: Sequence[ScoredCandidate]) -> bool:
        """Whether the two kinds of documents were seen to rank alike."""
        agreed = self.agreement(history)
        return agreed is not None and agreed >= self._settings.min_agreement

    def _first(self, stage: Stage) -> tuple[Candidate, ...]:
        seeds = seed_baselines(self._context)
        least = self._paid_startup(stage, len(seeds))
        most = filled((len(seeds) + least) * stage.start, self._settings.width) // stage.start - len(seeds)
        startup = max(least, min(most, self.max_candidates))
        starts = self._starts()[:startup]
        points = self._space.spread(startup, generator(self._context, 0))[: startup - len(starts)]
        return (*seeds, *starts, *(self._space.candidate(point.tolist(), origin="initial") for point in points))

    def _paid_startup(self, stage: Stage, seeds: int) -> int:
        """`startup`, or as many as the budget pays for beside the baselines, but not fewer than `FEWEST_SHAPES`: a
        budget that is too small for those is refused."""
        wanted, documents = self._settings.startup, stage.window(0, fresh=self._settings.fresh_documents)
        paid = most_candidates(RemainingBudget.of(self._context).times(documents) - seeds, self._context.budget)
        return min(wanted, max(paid, FEWEST_SHAPES))

    def _starts(self) -> list[Candidate]:
        """The shapes of another search, each once, in place of as many that would be spread out."""
        points = [start_point(self._space, start) for start in self._context.starts]
        found = [self._space.candidate(point.tolist(), origin=START_ORIGIN) for point in points]
        return list({one.scaling.key: one for one in reversed(found)}.values())[::-1]

    def _turn(self, generation: int, earlier: Sequence[ScoredCandidate], stage: Stage) -> Turn:
        views = [self._view(one, stage) for one in earlier]
        return Turn(self._settings, self._context, self._space, stage, generation, earlier, views)

    def _view(self, one: ScoredCandidate, stage: Stage) -> ScoredCandidate:
        is_last = stage.first > 0 or self._skipped is None
        return stage.view(one, 2**62 if is_last else self._full.count)

    # -- two kinds of documents --------------------------------------------------------------------------------------

    def _on_two_kinds(self, generation: int, earlier: Sequence[ScoredCandidate], skipped: Stage) -> Step:
        trusted = self.trusts_skipped(earlier)
        if self._is_on_full_documents(earlier):
            few = min(self._full.count, max(self._settings.promoted_documents, self._full.start))
            stage = replace(self._full, count=few, batch=0) if trusted else self._full
            return self._turn(generation, earlier, stage).step()
        if generation > 1 and not trusted:
            first = [one for one in earlier if one.generation == 0 and not one.failed and not one.pruned]
            return Step(extend=self._opened(first, RemainingBudget.of(self._context, earlier)), keep_open=True)
        return self._on_skipped(generation, earlier, self._turn(generation, earlier, skipped))

    def _on_skipped(self, generation: int, earlier: Sequence[ScoredCandidate], turn: Turn) -> Step:
        step, remaining = turn.step(), RemainingBudget.of(self._context, earlier)
        promoted: list[ScoredCandidate] = []
        if not step.candidates:
            kept, rejected = turn.survivors()
            step = Step(prune=rejected, keep_open=True)
            promoted = kept[: self._settings.promoted]
        if generation == 1:  # the baselines alone say whether shapes may follow
            own = {one.trial: one for one in step.extend}
            gauges = self._opened(
                [one for one in distinct_baselines(turn.views) if not one.pruned], remaining.after(step)
            )
            return replace(step, extend=tuple({**own, **{one.trial: _joined(own, one) for one in gauges}}.values()))
        trials = {one.trial for one in promoted}
        opened = self._opened([one for one in earlier if one.trial in trials], remaining)
        return replace(step, extend=(*step.extend, *opened))

    def _is_on_full_documents(self, earlier: Sequence[ScoredCandidate]) -> bool:
        return any(s.index < self._full.count for one in earlier if one.candidate.genes for s in one.scores)

    def _opened(self, going_on: Sequence[ScoredCandidate], remaining: RemainingBudget) -> tuple[Extension, ...]:
        """The first full documents for these, as far as the budget goes."""
        return affordable([self._full.opened(one, self._full.start) for one in going_on], remaining)


def _joined(own: Mapping[int, Extension], other: Extension) -> Extension:
    """A step extends a trial once."""
    before = own[other.trial].documents if other.trial in own else ()
    return replace(other, documents=(*other.documents, *before))


def _stage(settings: AutoSettings, *, first: int, count: int, start: int) -> Stage:
    return Stage(first=first, count=count, start=min(start, count) if settings.race else count, batch=settings.batch)
