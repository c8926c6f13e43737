"""The rows of vLLM: does it give the numbers of transformers, how fast, and what does a swap cost?"""

from __future__ import annotations

import dataclasses
from functools import partial

from benchmarks.gpu.machine import figure
from benchmarks.gpu.session import Session
from benchmarks.scoring.ratios import HEADER, in_turns
from evaluation.documents.needle import NeedleDocument
from workers.base import Scorer
from workers.errors import ScorerUnavailable
from workers.transformers_backend.scorer import TransformersScorer
from workers.vllm_backend.scorer import VllmScorer

_TINY_TOKENS = 64
_RELOADS = 2  # an engine takes most of a minute to start
_SWAPS = 20


def measure_vllm(session: Session, *, repeats: int, tokens: int) -> None:
    """Two tables; one line where vLLM cannot score the model."""
    try:
        scorer = VllmScorer(session.settings("vllm"))
    except ScorerUnavailable as error:
        session.report.add("", f"No rows of vLLM: {error}")
        return
    session.report.add("", f"vLLM: {scorer.info.version}; {scorer.info.arithmetic}.")
    _against_transformers(session, scorer, repeats=repeats, tokens=tokens)
    _swap(session, scorer)
    scorer.close()


def _against_transformers(session: Session, scorer: VllmScorer, *, repeats: int, tokens: int) -> None:
    other = TransformersScorer(session.settings("transformers"))
    session.report.table(("length", "vLLM, documents/s", "vLLM / transformers, s", "largest difference, nats/token"))
    for length in session.lengths:
        if not session.has_time(f"vLLM at {length}"):
            break
        documents = session.documents(length, max(1, tokens // length))
        ratio = in_turns(
            ("vLLM", partial(_score, session, scorer, documents)),
            ("transformers", partial(_score, session, other, documents)),
            repeats=repeats,
        )
        pairs = zip(_score(session, scorer, documents), _score(session, other, documents), strict=True)
        apart = max(abs(mine - theirs) for mine, theirs in pairs)
        session.report.row(f"{length}", figure(len(documents) / ratio.first), figure(ratio.ratio), figure(apart, ".2g"))
    other.close()


def _swap(session: Session, scorer: VllmScorer) -> None:
    """A change of candidate, the forward pass of a short document included, against a new engine."""
    if not session.has_time("vLLM's swap against a new engine"):
        return
    first = session.documents(min(session.lengths), 1)[0]
    start = first.answer_spans[0][0] - _TINY_TOKENS // 2
    spans = tuple((begin - start, end - start) for begin, end in first.answer_spans)
    tiny = (dataclasses.replace(first, token_ids=first.token_ids[start:], answer_spans=spans),)

    def alternate() -> None:
        for call in range(_SWAPS):
            _score(session, scorer, tiny, candidate=call % 2)

    found = in_turns(
        ("vLLM: hot swap, with a document of some tens of tokens", alternate),
        ("a new engine", lambda: VllmScorer(session.settings("vllm")).close()),
        repeats=_RELOADS,
        warm=False,
    )
    found = dataclasses.replace(found, first=found.first / _SWAPS, ratio=found.ratio / _SWAPS)
    session.report.add("", f"Hot swap in vLLM: {1000 * found.first:.3g} ms.")
    session.report.add("", *HEADER.splitlines(), found.line())


def _score(
    session: Session, scorer: Scorer, documents: tuple[NeedleDocument, ...], *, candidate: int = 0
) -> tuple[float, ...]:
    """Nats per answer token of each document."""
    one = session.candidates[candidate]
    scores = scorer.score(one.scaling, documents)
    return tuple(score.nats / score.tokens for score in scores)
