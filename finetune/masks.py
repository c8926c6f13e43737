"""Attention masks for packed documents.

Symbols: B rows, T tokens per row. A segment id is a document's number within its row.
"""

import torch


def block_diagonal_causal_mask(segment_ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The additive mask, (B, 1, T, T), under which a token attends to itself and to earlier tokens of its document.

    segment_ids: (B, T).

    0 where attention is allowed and the type's lowest value elsewhere: softmax turns that into an exact zero, because
    every row allows at least its own diagonal. An additive mask is read alike by eager and by fused attention. The
    padding at a row's end is a segment of its own. Positions are not part of it: the caller restarts them per document.
    """
    same_document = segment_ids[:, :, None] == segment_ids[:, None, :]  # (B, T, T)
    tokens = segment_ids.shape[1]
    causal = torch.ones(tokens, tokens, dtype=torch.bool, device=segment_ids.device).tril()
    mask = torch.zeros(same_document.shape, dtype=dtype, device=segment_ids.device)
    return mask.masked_fill(~(same_document & causal), torch.finfo(dtype).min)[:, None]
