"""Plain text at several lengths: perplexity and next-token accuracy, with the same tokens scored at every length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.documents.corpus import Corpus
from evaluation.errors import CorpusTooShort, InvalidDocumentRequest, InvalidScores
from evaluation.models.tokenizer import Tokenizer
from evaluation.scores.score import check_score

SCORED_TOKENS = 512  # at the end of a window, at most: logits of them all exist at once
_GOLDEN = (5**0.5 - 1) / 2  # frac(offset + i * step) fills [0, 1) evenly for every prefix
_STREAM = 0x7E87


@dataclass(frozen=True, kw_only=True, slots=True)
class TextWindow:
    """One run of text of a chosen length, of which the last `scored` tokens are predicted, each from all before it."""

    id: str
    token_ids: tuple[int, ...]
    scored: int

    def __post_init__(self) -> None:
        if not 1 <= self.scored < len(self.token_ids):
            raise InvalidDocumentRequest(
                f"scored must be within [1, {len(self.token_ids) - 1}], but got scored={self.scored} in {self.id!r}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowScore:
    """One window under one model. nats: sum of -ln p over its scored tokens; correct: how many of them are argmax.

    Raises:
        InvalidScores: `nats` is no finite number of at least 0, or `correct` not within [0, tokens].
    """

    window_id: str
    nats: float
    tokens: int
    correct: int

    def __post_init__(self) -> None:
        check_score(self.nats, self.tokens, of=self.window_id)
        if not 0 <= self.correct <= self.tokens:
            raise InvalidScores(
                f"correct must be within [0, {self.tokens}], but got correct={self.correct} of {self.window_id!r}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowSummary:
    """Sum over count. nll in nats per token, accuracy in [0, 1]: the share of tokens that were the first choice."""

    nll: float
    perplexity: float
    accuracy: float
    windows: int
    tokens: int


def summarise_windows(scores: Sequence[WindowScore]) -> WindowSummary:
    """All windows of one length as one. Raises InvalidScores for no scores."""
    if not scores:
        raise InvalidScores("scores must hold at least one window score, but got none")
    tokens = sum(score.tokens for score in scores)
    nll = sum(score.nats for score in scores) / tokens
    return WindowSummary(
        nll=nll,
        perplexity=math.exp(nll) if nll < 700.0 else math.inf,
        accuracy=sum(score.correct for score in scores) / tokens,
        windows=len(scores),
        tokens=tokens,
    )


def text_windows(
    tokenizer: Tokenizer, corpus: Corpus, *, lengths: Sequence[int], count: int, seed: int
) -> dict[int, tuple[TextWindow, ...]]:
    """`count` windows of each of `lengths` tokens (BOS included) from the corpus's validation split.

    Window i ends at the same token whatever its length, so that lengths differ in what stands before the scored tokens
    and in nothing else; the ends are spread evenly over the text. Every window scores SCORED_TOKENS tokens, or all but
    the first of the shortest length.

    Raises:
        InvalidDocumentRequest: no lengths, a length below 2, or a count below 1.
        CorpusTooShort: the split has fewer tokens than the longest window.
    """
    if not lengths or min(lengths) < 2 or count < 1:
        raise InvalidDocumentRequest(
            f"windows must be at least 1 and of at least 2 tokens, but got count={count}, lengths={tuple(lengths)}"
        )
    bos = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    ids = tokenizer.encode(corpus.split_text("validation"))
    longest = max(lengths) - len(bos)
    if len(ids) < longest:
        raise CorpusTooShort(
            f"the validation split of the corpus must have at least the {longest} tokens of one window, "
            f"but {corpus.name!r} has {len(ids)}{corpus.remedy('validation')}"
        )
    scored = min(SCORED_TOKENS, min(lengths) - 1)
    offset = np.random.default_rng([_STREAM, seed]).random()
    ends = [longest + int((offset + index * _GOLDEN) % 1.0 * (len(ids) - longest + 1)) for index in range(count)]
    return {
        length: tuple(
            TextWindow(
                id=f"text-{seed}-{length}-{index:05d}",
                token_ids=(*bos, *ids[end - length + len(bos) : end]),
                scored=scored,
            )
            for index, end in enumerate(ends)
        )
        for length in lengths
    }
