"""Whether a corpus holds enough long text for the mix that is asked for.

Symbols: L the original length, L' the target length, tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from evaluation.documents.corpus import MAX_CHARACTERS, Corpus
from evaluation.errors import CorpusTooShort
from evaluation.models.tokenizer import Tokenizer
from finetune.config import FinetuneSettings, Kind
from finetune.rows import least_short_tokens, least_skipped_tokens, row_tokens
from finetune.text import later_documents


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What one kind of row asks of the corpus, in tokens."""

    kind: Kind
    shortest: int
    """A document counts from this length on."""
    asked: int
    """Tokens of plain text that the whole training reads, every row taken for full."""
    needed: int
    """Tokens that must be there, so that none is read more often than `text_repeats` allows."""


def demands(settings: FinetuneSettings, *, original_length: int, target_length: int) -> tuple[Demand, ...]:
    """What the rows ask for. Text for short documents is in every long one; skipped rows take documents of any length
    worth a gap.
    """
    shortest: dict[Kind, int] = {"long": target_length, "middle": original_length + 1}
    if not settings.long_documents_per_step:
        shortest["short"] = least_short_tokens(original_length)
    shortest["skipped"] = least_skipped_tokens(settings, original_length)
    return tuple(
        _demand(
            settings,
            kind,
            length,
            row_tokens(settings, kind, original_length=original_length, target_length=target_length),
        )
        for kind, length in shortest.items()
        if settings.rows_of(kind)
    )


def _demand(settings: FinetuneSettings, kind: Kind, shortest: int, tokens: int) -> Demand:
    rows = settings.rows_before(kind, settings.steps)
    asked = math.ceil(rows * tokens * (1.0 - settings.needle_fraction))
    needed = max(shortest, math.ceil(asked / settings.text_repeats))
    return Demand(kind=kind, shortest=shortest, asked=asked, needed=needed)


def check_long_text(demanded: Iterable[Demand], sizes: Iterable[int], *, corpus: str, repeats: float) -> None:
    """Return when documents of `sizes` tokens cover every demand; reads no further than needed.

    Raises:
        CorpusTooShort: says how much there is and how much is needed.
    """
    waiting = dict.fromkeys(demanded, 0)
    for size in sizes:
        waiting = {d: have + (size if size >= d.shortest else 0) for d, have in waiting.items()}
        waiting = {d: have for d, have in waiting.items() if have < d.needed}
        if not waiting:
            return
    for demand, have in waiting.items():
        raise CorpusTooShort(
            f"the {demand.kind} documents ask for {demand.asked:,} tokens of text, and with none read more than "
            f"{repeats:g} times for {demand.needed:,} tokens in documents of at least {demand.shortest:,}, "
            f"but corpus {corpus!r} has {have:,}"
        )


def estimated_sizes(tokenizer: Tokenizer, corpus: Corpus, source: str | None) -> Iterator[int]:
    """About how many tokens each document of the training text has: the first one counted, the others by characters.

    Good enough to refuse a job before it exists; the training counts again.
    """
    text = corpus.split_text("train")
    tokens = len(tokenizer.encode(text))
    yield tokens
    if len(corpus.text) < MAX_CHARACTERS or not text:
        return
    for later in later_documents(source):
        yield round(len(later) * tokens / len(text))
