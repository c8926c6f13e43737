"""Which candidates a paired test on common documents rejects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_space.candidates.candidate import DocumentNats, ScoredCandidate


def is_worse(nll: NDArray[np.float64], leader_nll: NDArray[np.float64], *, alpha: float) -> bool:
    """Whether `nll` is above `leader_nll` beyond chance; both (documents,), of the same documents in one order.

    Worse when the mean is higher *and* a one-sided Wilcoxon signed-rank test (Wilcoxon 1945) of the paired differences
    gives p <= `alpha`. Needle NLL is heavy-tailed: a handful of documents holds most of a candidate's nats, so a mean
    alone is moved by one unlucky document and a rank test alone does not see the one that decides. On fewer than
    log2(1 / alpha) documents nothing is significant, and nothing is worse.
    """
    differences = nll - leader_nll
    if 0.5 ** len(differences) > alpha or differences.mean() <= 0.0:  # the least that p can be
        return False
    from scipy.stats import wilcoxon  # more than a second, which every server would wait for

    return bool(wilcoxon(differences, alternative="greater").pvalue <= alpha)


def is_rejected(challenger: ScoredCandidate, leader: ScoredCandidate, *, alpha: float) -> bool:
    """Whether `challenger` is worse than `leader` on the documents that both were scored on (:func:`is_worse`)."""
    return is_worse(*paired_nll(challenger.scores, leader.scores), alpha=alpha)


def paired_nll(
    left: Sequence[DocumentNats], right: Sequence[DocumentNats]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nats per answer token of both on their common documents, in the order of the documents; both (documents,)."""
    others = {score.index: score for score in right}
    pairs = [(score, others[score.index]) for score in left if score.index in others]
    a = np.array([mine.nats / mine.tokens for mine, _ in pairs], dtype=np.float64)
    b = np.array([other.nats / other.tokens for _, other in pairs], dtype=np.float64)
    return a, b
