"""How long rows are, and how the documents of skipped rows skip.

Symbols: L the original length, L' the target length, n the tokens of a skipped row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evaluation.documents.skipping import Skipping
from finetune.config import KINDS, FinetuneSettings, Kind
from finetune.errors import InvalidFinetuneSettings

_SHORTEST_FRACTION = 4  # a short document has at least L / 4 tokens
_SHORTEST_SKIPPED = 32  # tokens of text that a gap is worth; less of a row is padding


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnSkip:
    """How one document skips, and the positions that it reaches over."""

    skipping: Skipping
    reach: int


def row_tokens(settings: FinetuneSettings, kind: Kind, *, original_length: int, target_length: int) -> int:
    """Tokens of a row of this kind."""
    if kind == "skipped":
        return settings.skipped_tokens or original_length
    return (settings.short_tokens if kind == "short" else None) or target_length


def training_tokens(settings: FinetuneSettings, steps: int, *, original_length: int, target_length: int) -> int:
    """Tokens of all rows of the first `steps` steps, over all workers, padding included."""
    return sum(
        settings.rows_before(kind, steps)
        * row_tokens(settings, kind, original_length=original_length, target_length=target_length)
        for kind in KINDS
    )


def least_short_tokens(original_length: int) -> int:
    """The fewest tokens of a short document."""
    return max(2, original_length // _SHORTEST_FRACTION)


def least_skipped_tokens(settings: FinetuneSettings, original_length: int) -> int:
    """The fewest tokens of a document in a skipped row: each gap is between two, and a tail has a head before it."""
    tail = settings.skipped_tail_tokens if settings.skipped_tail_share else 0
    least = max(_SHORTEST_SKIPPED, settings.skipped_gaps + 1, 2 * tail)
    return min(settings.skipped_tokens or original_length, least)


def check_rows(settings: FinetuneSettings, *, original_length: int, target_length: int) -> None:
    """Return when rows and gaps fit the lengths.

    Raises:
        InvalidFinetuneSettings: the rule, and the values that broke it.
    """
    short = settings.short_tokens
    if short is not None and not original_length <= short <= target_length:
        raise InvalidFinetuneSettings(
            "short_tokens must be from the original length to the target length, but got "
            f"short_tokens={short}, original_length={original_length}, target_length={target_length}"
        )
    if settings.skipped_rows_per_step:
        _check_skipped(settings, original_length, target_length)


def _check_skipped(settings: FinetuneSettings, original_length: int, target_length: int) -> None:
    reach, gaps = _reach(settings, target_length), settings.skipped_gaps
    tokens = settings.skipped_tokens or original_length
    if not original_length < reach <= target_length:
        raise InvalidFinetuneSettings(
            "skipped_reach must be greater than the original length and at most the target length, but got "
            f"skipped_reach={reach}, original_length={original_length}, target_length={target_length}"
        )
    if tokens <= gaps:
        raise InvalidFinetuneSettings(
            "skipped_gaps must be below the tokens of a skipped row, but got "
            f"skipped_gaps={gaps}, skipped_tokens={tokens}"
        )
    if tokens + gaps > reach:
        raise InvalidFinetuneSettings(
            "skipped rows must leave a position to each gap, but got "
            f"skipped_tokens={tokens}, skipped_gaps={gaps}, skipped_reach={reach}"
        )
    if settings.skipped_tail_share and settings.skipped_tail_tokens >= tokens:
        raise InvalidFinetuneSettings(
            "skipped_tail_tokens must be below the tokens of a skipped row, but got "
            f"skipped_tail_tokens={settings.skipped_tail_tokens}, skipped_tokens={tokens}"
        )


def skippings(settings: FinetuneSettings, *, original_length: int) -> Iterator[Skipping | None]:
    """How the needle documents past L skip that have the least room for it; None is one that does not skip."""
    if settings.long_documents_per_step:
        yield None
    if settings.skipped_rows_per_step:
        tokens = settings.skipped_tokens or original_length
        yield Skipping(tokens=tokens, gaps=settings.skipped_gaps, places=settings.skipped_places)


def draw_skip(
    settings: FinetuneSettings, rng: np.random.Generator, *, tokens: int, original_length: int, target_length: int
) -> DrawnSkip:
    """How a document of `tokens` tokens skips: its gaps, and a reach past L, as it is seen with the long factors."""
    if rng.random() < settings.skipped_tail_share:
        skipping = Skipping(tokens=tokens, gaps=1, places="tail")
    else:
        gaps = int(rng.integers(1, settings.skipped_gaps + 1))
        skipping = Skipping(tokens=tokens, gaps=gaps, places=settings.skipped_places)
    farthest = _reach(settings, target_length)
    nearest = max(original_length + 1, tokens + skipping.gaps)
    reach = farthest
    if rng.random() >= settings.skipped_full_reach_share:
        reach = int(rng.integers(nearest, farthest + 1))
    return DrawnSkip(skipping=skipping, reach=reach)


def _reach(settings: FinetuneSettings, target_length: int) -> int:
    return settings.skipped_reach or target_length
