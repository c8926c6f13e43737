"""Attention within documents and windows without a mask of T x T.

transformers calls the attention that is registered under `ATTENTION`. A name that it has no mask maker for makes it
build no mask at all, so what a token may see is decided here: the earlier tokens of its own document, where a layer has
a window the last ones of them. Every document is attended to apart by torch's fused kernel (flash attention on GPUs),
at the cost of its own length squared, or of its length times the window.

Logits that are capped and sinks, which no fused kernel of torch knows, are computed in blocks of queries.

A model that asks for its windows otherwise, or whose attention does more (chunks), is not one for it: compare
`asked_windows` with its layers (`same_windows`), and what it gives with what its own attention gives (`agrees`).

Symbols: B rows, T tokens per row, H heads, D numbers per head.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from evaluation.architecture.layers import Layers

ATTENTION = "ropewalk_documents"
_BLOCK = 1024  # tokens that share a mask
_BLOCK_NUMBERS = 2**25  # weights of a block where no fused kernel spares them; up to five times as many exist at once
_ALIGNED = 16  # numbers in which kernels want the rows of a mask, or they copy it
_TOLERANCE = {torch.float32: 1e-3}  # of the logits' length
_ROUGH_TOLERANCE = 5e-2  # in shorter types
_UNGROUPED = nn.Module()  # for keys and values that are repeated already

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
    own attention functions. `attention_mask` is not applied: this attention is never asked for with one. Of a cache,
    one token may go on.
    """
    if (asked := _asked.get()) is not None:
        causal = attention_mask is None and getattr(module, "is_causal", True)
        asked.append(sliding_window if causal else _OF_MORE)
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
    tokens = key.shape[2]
    if options.get("softcap") is not None or options.get("s_aux") is not None:
        return _capped(query, key, value, window=sliding_window or tokens, options=options)
    if sliding_window is None or tokens <= sliding_window:
        return _attended(module, query, key, value, None, options)
    if query.shape[2] == 1:  # goes on where a cache ends
        return _attended(module, query, key[:, :, -sliding_window:], value[:, :, -sliding_window:], None, options)
    return _windowed(module, query, key, value, window=sliding_window, options=options)


def _windowed(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    window: int,
    options: dict[str, Any],
) -> torch.Tensor:
    """Of T > `window` tokens. The first `window` see all before them; of those after, a block at a time with the keys
    that one of them sees, so that the mask has block * (block + window) numbers instead of T * T."""
    key, value = (repeat_kv(states, query.shape[1] // states.shape[1]) for states in (key, value))
    tokens, block = query.shape[2], min(_BLOCK, query.shape[2] - window)
    width = -(-(window - 1 + block) // _ALIGNED) * _ALIGNED
    seen = torch.ones(block, width, dtype=torch.bool, device=query.device).triu_().tril_(window - 1)
    mask = torch.zeros(seen.shape, dtype=query.dtype, device=query.device).masked_fill_(~seen, -torch.inf)[None, None]
    first = slice(0, window)
    parts = [_attended(_UNGROUPED, query[:, :, first], key[:, :, first], value[:, :, first], None, options)]
    for start in range(window, tokens, block):
        asking = slice(start, min(start + block, tokens))
        asked = slice(start - window + 1, asking.stop)
        part = mask[..., : asking.stop - start, : asked.stop - asked.start]
        states = (query[:, :, asking], key[:, :, asked], value[:, :, asked])
        parts.append(_attended(_UNGROUPED, *states, part, options))
    return torch.cat(parts, dim=1)


def _attended(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    options: dict[str, Any],
) -> torch.Tensor:
    attended: torch.Tensor = sdpa_attention_forward(module, query, key, value, mask, **options)[0]
    return attended


def _capped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, window: int, options: dict[str, Any]
) -> torch.Tensor:
    """With capped logits or a sink, which no fused kernel of torch knows: a block of queries at a time, whose weights
    are computed again in a backward pass."""
    key, value = (repeat_kv(states, query.shape[1] // states.shape[1]) for states in (key, value))
    rows, heads, tokens, _ = query.shape
    before = key.shape[2] - tokens  # what a cache holds
    block = max(1, min(_BLOCK, _BLOCK_NUMBERS // (rows * heads * min(key.shape[2], window + _BLOCK))))
    weigh = functools.partial(_weigh, window=window, options=options)
    if torch.is_grad_enabled():
        weigh = functools.partial(checkpoint, weigh, use_reentrant=False)
    parts = []
    for start in range(0, tokens, block):
        asking = slice(start, min(start + block, tokens))
        asked = slice(max(0, before + start - window + 1), before + asking.stop)
        parts.append(weigh(query[:, :, asking], key[:, :, asked], value[:, :, asked]))
    return torch.cat(parts, dim=2).transpose(1, 2)


def _weigh(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, window: int, options: dict[str, Any]
) -> torch.Tensor:
    """(B, H, block, D), of queries whose last one stands where the last key does.

    weights = softmax over keys, and the sink where there is one, of cap * tanh(q k^T scaling / cap): Gemma 2 (arXiv
    2408.00118, section 2) and gpt-oss (arXiv 2508.10925, section 2).
    """
    scaling, cap, sinks = options.get("scaling"), options.get("softcap"), options.get("s_aux")
    logits = (query @ key.transpose(-1, -2)).float() * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    at = torch.arange(key.shape[2], device=key.device)
    distance = at[-query.shape[2] :, None] - at
    logits = logits.masked_fill((distance < 0) | (distance >= window), -torch.inf)
    if sinks is not None:
        sink = sinks.float().view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
        logits = torch.cat([logits, sink], dim=-1)
    weights = logits.softmax(dim=-1)[..., : key.shape[2]].to(value.dtype)
    return nn.functional.dropout(weights, p=options.get("dropout") or 0.0) @ value


_OF_MORE = -1
_asked: ContextVar[list[int | None] | None] = ContextVar("asked", default=None)


@contextmanager
def asked_windows() -> Iterator[list[int | None]]:
    """The windows that attention is asked for inside the block, one for each call; None for everything, -1 for what
    only a mask of the model's says, or for attention to later tokens too."""
    asked: list[int | None] = []
    token = _asked.set(asked)
    try:
        yield asked
    finally:
        _asked.reset(token)


def own_attention(model: PreTrainedModel) -> str:
    """What transformers is to attend with where this attention is not for a model: torch's kernels, where the family
    has them. They leave out caps of logits without a word."""
    capped = getattr(model.config.get_text_config(decoder=True), "attn_logit_softcapping", None)
    return "sdpa" if model._supports_sdpa and not capped else "eager"


def same_windows(layers: Layers, asked: Iterable[int | None]) -> bool:
    """Whether a model's layers ask for the windows that they have: some families leave those to a mask."""
    return Counter(asked) == Counter(layer.window for layer in layers.all if layer.attends)


def agrees(one: torch.Tensor, other: torch.Tensor, *, share: float = 1.0) -> bool:
    """Whether two logits of a model, (..., V), are the same but for rounding in their type, at a share of positions: a
    router of experts may turn another way for a bit."""
    tolerance = _TOLERANCE.get(other.dtype, _ROUGH_TOLERANCE)
    distances = (one.float() - other.float()).norm(dim=-1) / other.float().norm(dim=-1).clamp(min=1e-6)
    return bool(distances.flatten().quantile(share) <= tolerance)


AttentionInterface.register(ATTENTION, document_attention)
