"""Checks that every scorer and generator makes before it starts."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.documents.needle import NeedleDocument
from workers.errors import DocumentTooLong, ScoringFailed


def check_length(length: int, *, target_length: int) -> None:
    """Raise DocumentTooLong unless a text of `length` tokens, generated ones included, fits."""
    if length > target_length:
        raise DocumentTooLong(f"a text must have at most target_length={target_length} tokens, but got {length}")


def check_prompt(token_ids: Sequence[int], max_new_tokens: int) -> None:
    """Raise ScoringFailed unless there is a prompt and something to generate."""
    if not token_ids or max_new_tokens < 1:
        raise ScoringFailed(
            "a prompt must have a token and ask for at least one, "
            f"but got {len(token_ids)} tokens, max_new_tokens={max_new_tokens}"
        )


def check_documents(documents: Sequence[NeedleDocument], *, target_length: int) -> None:
    """Raise DocumentTooLong unless every document fits."""
    for document in documents:
        if document.length > target_length:
            raise DocumentTooLong(
                f"a document must have at most target_length={target_length} tokens, "
                f"but got {document.length} tokens in {document.id!r}"
            )
