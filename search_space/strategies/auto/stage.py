"""The documents of one kind, as the race sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from search_space.candidates.candidate import ScoredCandidate
from search_space.candidates.step import Extension


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """`count` documents from index `first` on. A new candidate gets `start` of them, a generation `batch` shapes."""

    first: int
    count: int
    start: int
    batch: int
    drops_baselines: bool = True
    """Whether the leader may send a baseline home: not before it was seen on full documents."""

    @property
    def documents(self) -> range:
        """All of them, by index."""
        return range(self.first, self.first + self.count)

    def window(self, generation: int, *, fresh: bool) -> tuple[int, ...]:
        """The documents of `generation`'s new shapes; fresh ones may lie beyond those of the race."""
        start = self.first + (generation * self.start if fresh else 0)
        return tuple(range(start, start + self.start))

    def view(self, one: ScoredCandidate, beyond: int) -> ScoredCandidate:
        """What the stage knows of a candidate: an infinite NLL when nothing, as of one that cannot be scored.

        `beyond`: the index from which on documents are of another stage.
        """
        scores = tuple(score for score in one.scores if self.first <= score.index < beyond)
        nll = sum(score.nats for score in scores) / sum(score.tokens for score in scores) if scores else math.inf
        return replace(one, scores=scores, nll=nll)

    def doubled(self, one: ScoredCandidate, also: Sequence[int] = (), *, times: int = 1) -> Extension | None:
        """As many documents again, from the first ones on, up to all of them; and those of `also`. `times` over."""
        known = {score.index for score in one.scores}
        more = len(known) * (2**times - 1)
        missing = [index for index in self.documents if index not in known][:more]
        return _extension(one, {*missing, *(set(also) - known)})

    def opened(self, one: ScoredCandidate, documents: int) -> Extension | None:
        """Those of the first `documents` that it lacks."""
        known = {score.index for score in one.scores}
        return _extension(one, set(self.documents[:documents]) - known)


def filled(passes: int, width: int) -> int:
    """At least as many passes, that `width` workers do in whole rounds: two of them or more, as nothing runs beside the
    last passes of the last one."""
    return max(-(-passes // width), 2) * width


def _extension(one: ScoredCandidate, documents: set[int]) -> Extension | None:
    return Extension(trial=one.trial, documents=tuple(sorted(documents))) if documents else None


def rank_agreement(left: Sequence[ScoredCandidate], right: Sequence[ScoredCandidate]) -> float | None:
    """Spearman's rank correlation of the NLL of the same candidates in two stages; None where fewer than four could be
    scored in both."""
    pairs = [(one.nll, other.nll) for one, other in zip(left, right, strict=True) if not (one.failed or other.failed)]
    if len(pairs) < 4:
        return None
    return float(spearmanr(*np.array(pairs).T).statistic)
