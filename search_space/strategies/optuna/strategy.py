"""Optuna's samplers over the shape space, asked a generation at a time.

Generation 0 is every baseline and a scrambled Sobol sequence; a sampler is asked for a batch of shapes in each later
one. Samplers are given a study in memory that is built from the history each time, so nothing of them has to be stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from search_space.candidates.candidate import Candidate, ScoredCandidate
from search_space.candidates.step import END, Step
from search_space.errors import InvalidStrategy
from search_space.strategies.base import StrategyContext
from search_space.strategies.budgeting import candidates_left, most_candidates, patience_is_spent
from search_space.strategies.optuna.sampler import SamplerStudy, check_installed
from search_space.strategies.optuna.settings import CMA_ES, OptunaSettings
from search_space.strategies.seeds import ScoredInFull, seed_baselines
from search_space.strategies.shape_space import (
    ATTENTION_FACTOR,
    CRITICAL_PAIR,
    HEAD_EXPONENT,
    TAIL_MULTIPLE,
    TAIL_SLOPE,
    ShapeSpace,
)

# Tells apart what a score can tell apart, and not the rounding of two machines.
_KEY_DECIMALS = 9
# Shapes asked for beyond a batch before it is left short. Only a space that is nearly used up comes close, or a sampler
# that wants one shape again and again; each costs a fit where the sampler is a Gaussian process.
_MAX_REPEATS = 24
# Nats per token added before the logarithm: differences among shapes that answer everything are no news.
_FLOOR_NATS = 1e-3

_Key = tuple[tuple[float, ...], float]


class OptunaStrategy(ScoredInFull):
    """The search as a :class:`search_space.strategies.base.Strategy`; no shape is proposed twice.

    A sampler draws from SeedSequence([seed, generation]) and sees the scores of the generations before. CMA-ES learns
    only from what it has asked itself: it is asked again from generation 1 on, and told what the history says.
    """

    name: ClassVar[str] = "optuna"
    settings: ClassVar[type[OptunaSettings]] = OptunaSettings
    needs_gradients: ClassVar[bool] = False

    def __init__(self, settings: OptunaSettings, context: StrategyContext) -> None:
        check_installed(settings.sampler)
        self._settings = settings
        self._context = context
        self._space = ShapeSpace.of(context)

    @property
    def max_candidates(self) -> int:
        """See :class:`search_space.strategies.base.Strategy`."""
        return most_candidates(self._settings.candidates, self._context.budget)

    def propose(self, generation: int, history: Sequence[ScoredCandidate]) -> Step:
        """See :class:`search_space.strategies.base.Strategy`. Ends with the last of its candidates.

        Every candidate is scored on every document. A budget that ends within a generation cuts its last candidates.
        """
        if generation < 0:
            raise InvalidStrategy(f"generation must be at least 0, but got generation={generation}")
        budget, documents = self._context.budget, self._context.documents
        earlier = sorted((scored for scored in history if scored.generation < generation), key=lambda s: s.trial)
        if patience_is_spent(generation, earlier, budget):
            return END
        if generation == 0:
            candidates = self._first()
        else:
            left = candidates_left(self.max_candidates, earlier, self._context)
            candidates = self._asked(generation, earlier, count=min(self._settings.batch, left))
        return Step(candidates=candidates, documents=tuple(range(documents)))

    def _first(self) -> tuple[Candidate, ...]:
        """The baselines and `startup` shapes, the same ones for every sampler.

        A Sobol sequence leaves no large gap in four or five axes, as 16 independent draws do; and samplers that start
        from the same scores can be compared.
        """
        result = list(seed_baselines(self._context))
        seen = set(map(_key, result))
        wanted = len(result) + self._settings.startup
        rng = np.random.default_rng(np.random.SeedSequence([self._context.seed, 0]))
        for point in self._space.spread(
            2 * self._settings.startup, rng
        ):  # a small scale has different points of one shape
            shape = self._space.candidate(point.tolist(), origin="initial")
            if len(result) < wanted and _key(shape) not in seen:
                seen.add(_key(shape))
                result.append(shape)
        return tuple(result)

    def _asked(self, generation: int, earlier: Sequence[ScoredCandidate], *, count: int) -> tuple[Candidate, ...]:
        """`count` new shapes, or fewer where the sampler finds no more."""
        if count == 0:
            return ()
        first = 1 if self._settings.sampler == CMA_ES else generation
        conversation = self._conversation(first, [scored for scored in earlier if scored.generation < first])
        for past in range(first, generation):
            conversation.ask(self._settings.batch)
            conversation.tell(scored for scored in earlier if scored.generation == past)
        return conversation.ask(count)

    def _conversation(self, generation: int, earlier: Sequence[ScoredCandidate]) -> _Conversation:
        seed = int(np.random.SeedSequence([self._context.seed, generation]).generate_state(1)[0])
        return _Conversation(self._space, self._settings, seed, earlier)


class _Conversation:
    """Asks a sampler for shapes and tells it their scores, of which it may know some before it asks."""

    def __init__(
        self, space: ShapeSpace, settings: OptunaSettings, seed: int, earlier: Sequence[ScoredCandidate]
    ) -> None:
        points = [(_point(space, scored.candidate), _told(scored)) for scored in earlier]
        shapes = [(point, score) for point, score in points if point is not None]
        self._space = space
        self._origin = settings.sampler
        self._study = SamplerStudy(settings, seed, [axis.name for axis in space.axes], shapes)
        self._scores = {_key(scored.candidate): _told(scored) for scored in earlier}
        self._open: dict[_Key, int] = {}

    def ask(self, count: int) -> tuple[Candidate, ...]:
        """`count` shapes that are new, or fewer where there are hardly any left.

        A shape that has a score already is told that score, and one that is asked for twice is left open: either way
        the sampler moves on.
        """
        found: list[Candidate] = []
        for _ in range(count + _MAX_REPEATS):
            if len(found) == count:
                break
            number, point = self._study.ask()
            shape = self._space.candidate(point.tolist(), origin=self._origin)
            key = _key(shape)
            if key in self._scores:
                self._study.tell(number, self._scores[key])
            elif key not in self._open:
                self._open[key] = number
                found.append(shape)
        return tuple(found)

    def tell(self, earlier: Iterable[ScoredCandidate]) -> None:
        """The scores of shapes that were asked for."""
        for scored in earlier:
            key = _key(scored.candidate)
            self._scores[key] = _told(scored)
            if key in self._open:
                self._study.tell(self._open.pop(key), _told(scored))


def _point(space: ShapeSpace, candidate: Candidate) -> NDArray[np.float64] | None:
    """Where a candidate lies in the space, or None: of the baselines only NTK at the critical pair is a shape."""
    if candidate.genes:
        return space.point(candidate)
    if candidate.baseline_name != "ntk_critical" or candidate.critical_pair is None:
        return None
    values = {
        CRITICAL_PAIR: float(candidate.critical_pair),
        HEAD_EXPONENT: 1.0,
        TAIL_MULTIPLE: 1.0,
        TAIL_SLOPE: 0.0,
        ATTENTION_FACTOR: candidate.scaling.attention_factor,
    }
    if not all(axis.low <= values[axis.name] <= axis.high for axis in space.axes):
        return None
    return np.array([axis.unit(values[axis.name]) for axis in space.axes])


def _told(scored: ScoredCandidate) -> float | None:
    """What a sampler is told to minimise; None for a failed candidate.

    The logarithm: the worst shapes have a hundred times the NLL of good ones, and a Gaussian process that has to follow
    them sees no difference between those. TPE and CMA-ES look at ranks, which are the same.
    """
    return None if scored.failed else math.log(max(scored.nll, 0.0) + _FLOOR_NATS)


def _key(candidate: Candidate) -> _Key:
    """What makes two candidates the same one to score."""
    factors = np.round(candidate.scaling.factors.as_array(), _KEY_DECIMALS)
    return tuple(factors.tolist()), round(candidate.scaling.attention_factor, _KEY_DECIMALS)
