"""Attention within documents: packed rows without a mask of T x T.

transformers calls the attention that is registered under `ATTENTION`. A name that it has no mask maker for makes it
build no mask at all, so what a token may see is decided here: the earlier tokens of its own document. Every document
is attended to apart by torch's fused kernel (flash attention on GPUs), at the cost of its own length squared; in a row
of short documents that is a fraction of the row's.

Symbols: B rows, T tokens per row, H heads, D numbers per head.
"""

import functools
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

ATTENTION = "ropewalk_documents"

DocumentLengths = tuple[tuple[int, ...], ...]
"""For each row, the tokens of each document in order; what they leave of the row is padding."""


def document_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    document_lengths: DocumentLengths | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention, (B, T, H, D), within each document; within whole rows when `document_lengths` is None.

    query: (B, H, T, D); key and value: (B, H or fewer, T, D). Padding gets zeros. `kwargs` are those of transformers'
    own attention functions. `attention_mask` is not applied: this attention is never asked for with one.
    """
    if _asked is not None:
        _asked.append(sliding_window if attention_mask is None else _OF_A_MASK)
    attend = functools.partial(_causal, module, sliding_window=sliding_window, options=kwargs)
    if document_lengths is None:
        return attend(query, key, value), None
    rows = []
    for row, lengths in enumerate(document_lengths):
        ends = list(itertools.accumulate(lengths))
        pieces = [
            attend(*(states[row : row + 1, :, start:end] for states in (query, key, value)))
            for start, end in zip([0, *ends], ends, strict=False)
        ]
        padding = pieces[0].new_zeros((1, query.shape[2] - ends[-1], *pieces[0].shape[2:]))
        rows.append(torch.cat([*pieces, padding], dim=1))
    return torch.cat(rows), None


def _causal(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    sliding_window: int | None,
    options: dict[str, Any],
) -> torch.Tensor:
    mask = None
    if sliding_window is not None and query.shape[2] > sliding_window:
        ones = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool, device=query.device)
        mask = ones.tril().triu(1 - sliding_window)[None, None]
    attended: torch.Tensor = sdpa_attention_forward(module, query, key, value, mask, **options)[0]
    return attended


_OF_A_MASK = -1
_asked: list[int | None] | None = None


@contextmanager
def asked_windows() -> Iterator[list[int | None]]:
    """The windows that attention is asked for inside the block, one for each call; None for everything, -1 for what
    only a mask of the model's says."""
    global _asked
    _asked = []
    try:
        yield _asked
    finally:
        _asked = None


AttentionInterface.register(ATTENTION, document_attention)
