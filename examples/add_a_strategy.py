r"""A strategy in a file of its own: random search, added by an entry point while Ropewalk stays as it is.

From a clone after `make install`, with the few bytes of metadata that installing a package would write:

    mkdir -p mine/add_a_strategy-1.0.dist-info && cp examples/add_a_strategy.py mine/
    printf '[ropewalk.strategies]\nrandom = add_a_strategy:ROW\n' > mine/add_a_strategy-1.0.dist-info/entry_points.txt
    PYTHONPATH=mine .venv/bin/ropewalk serve

and in another terminal `.venv/bin/ropewalk submit --model pocket --target-length 1024 --strategy random`. A package of
yours says the same in its pyproject.toml:

    [project.entry-points."ropewalk.strategies"]
    random = "add_a_strategy:ROW"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from search_space.candidates.candidate import ScoredCandidate
from search_space.candidates.step import END, Step
from search_space.strategies.arguments import AT_ONCE, Settings
from search_space.strategies.base import StrategyContext
from search_space.strategies.registry import StrategyRow
from search_space.strategies.seeds import seed_baselines
from search_space.strategies.shape_space import ShapeSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomSettings(Settings):
    """What a spec may give beside the name; annotations are checked, and unknown names refused."""

    owner: ClassVar[str] = "random"

    candidates: Annotated[int, AT_ONCE] = 32
    """Shapes to draw."""


class RandomSearch:
    """One generation: the baselines and shapes drawn evenly, all scored on all documents."""

    name: ClassVar[str] = "random"
    settings: ClassVar[type[RandomSettings]] = RandomSettings
    needs_gradients: ClassVar[bool] = False

    def __init__(self, settings: RandomSettings, context: StrategyContext) -> None:
        space, rng = ShapeSpace.of(context), np.random.default_rng(context.seed)
        points = rng.random((settings.candidates, len(space.axes)))
        shapes = tuple(space.candidate(point.tolist(), origin="random") for point in points)
        self.max_candidates = settings.candidates
        self.max_documents = context.documents
        self._only = Step(candidates=(*seed_baselines(context), *shapes), documents=tuple(range(context.documents)))
        self.max_document_passes = self._only.document_passes
        self.max_tokens = self._only.cost(context.cost)

    def propose(self, generation: int, history: Sequence[ScoredCandidate]) -> Step:
        """The same step whenever it is asked for: a search that was interrupted replays its generations."""
        return END if generation else self._only


ROW = StrategyRow(name="random", summary="shapes drawn evenly, in one generation", load=lambda: RandomSearch)
