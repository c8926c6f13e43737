"""What a worker does with documents, in whatever process it lives."""

from __future__ import annotations

import os
import platform

from evaluation.documents.needle import NeedleDocument
from evaluation.scores.score import DocumentScore
from ropewalk.rope.scaling import Scaling
from workers.base import DifferentiableScorer, Scorer
from workers.errors import CANDIDATE_ERRORS, ScoringFailed


def worker_name() -> str:
    """Of this process, as outcomes carry it: "host:pid"."""
    return f"{platform.node()}:{os.getpid()}"


def score_or_explain(
    scorer: Scorer,
    scaling: Scaling,
    documents: tuple[NeedleDocument, ...],
    *,
    gradient: bool,
) -> tuple[DocumentScore | str, ...]:
    """Scores in order; after an error, each document alone, so that only those at fault carry the message."""
    try:
        ask = _differentiable(scorer).score_with_gradients if gradient else scorer.score
        return ask(scaling, documents)
    except CANDIDATE_ERRORS as error:
        if len(documents) == 1:
            return (str(error),)
        return tuple(
            result
            for document in documents
            for result in score_or_explain(scorer, scaling, (document,), gradient=gradient)
        )


def _differentiable(scorer: Scorer) -> DifferentiableScorer:
    if not isinstance(scorer, DifferentiableScorer):
        raise ScoringFailed(f"gradients need a scorer that differentiates, but got backend={scorer.info.backend}")
    return scorer
