"""What an export format is, and the rule that consumers compute an attention factor by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.attention import longrope_attention_factor

JSON, CSV = "application/json", "text/csv"


def no_notes(file: FactorFile) -> tuple[str, ...]:
    """Of a format whose reader takes everything as it is."""
    return ()


def anything(file: FactorFile) -> None:
    """Of a format whose `write` finds out for itself what it cannot hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportRow:
    """A format: what writes it, and what its consumer ignores or replaces, in one sentence each.

    An export that loads is not yet the model that was scored: consumers choose between short and long factors by rules
    of their own, and some compute an attention factor instead of reading it. `notes` go out beside every export, with
    the numbers of the file at hand. `write` is None where the file holds the model's weights too, so that it is made
    where those are; `check` then raises InvalidFactorFile for what such a file has no place for.
    """

    name: str
    summary: str
    write: Callable[[FactorFile], str] | None
    notes: Callable[[FactorFile], tuple[str, ...]] = no_notes
    check: Callable[[FactorFile], None] = anything
    media_type: str = JSON
    is_whole: bool = False
    """Whether it is all factors of a search, not a part of another program's files."""

    def all_notes(self, file: FactorFile) -> tuple[str, ...]:
        """All that goes out beside an export: `notes`, after what holds of the file in every format."""
        shorter = shorter_length(file.original_max_position_embeddings, file.target_length, file.model.served_length)
        return (*(f"{text}." for text in shorter), *self.notes(file))


def shorter_length(original_length: int, target_length: int, served_length: int | None) -> tuple[str, ...]:
    """What it means that L was given below the tokens that a model serves as published; empty where it was not."""
    if served_length is None or original_length >= served_length:
        return ()
    context = (
        f"; exports state a context of {target_length} tokens, fewer than those {served_length}"
        if target_length < served_length
        else ""
    )
    return (
        f"original_length {original_length} is below the {served_length} tokens that the model is published for: it is "
        f"taken for a model of {original_length} tokens, past which long factors replace its own rotation{context}",
    )


def rule(length: int, original_length: int) -> float:
    """The attention factor that a consumer computes for itself from the two lengths."""
    if length <= original_length or original_length < 2:
        return 1.0
    return longrope_attention_factor(length / original_length, original_length)


def own_rule(file: FactorFile) -> float:
    """That attention factor for the lengths of `file`."""
    return rule(file.target_length, file.original_max_position_embeddings)
