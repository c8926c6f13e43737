"""The loss of a language model's head without the logits of all tokens at once.

torch's own `linear_cross_entropy` (2.13) computes in chunks too, but has no weight per token, only per class.

Symbols: N targets, H hidden size, V vocabulary size. Losses are in nats.
"""

from typing import Any

import torch
from torch.nn.functional import linear

from finetune.memory import CHUNK_ELEMENTS


def weighted_nll_sum(
    hidden: torch.Tensor,
    head: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    weights: torch.Tensor,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> torch.Tensor:
    """sum(w * -log softmax(hidden @ head.T + bias)[target]), a float32 scalar with gradient; 0 for N = 0.

    hidden: (N, H); head: (V, H); bias: (V,) or None; targets: (N,) whole numbers; weights: (N,) without gradient.

    Gradients are computed chunk by chunk during the forward pass, so that no logits are kept or computed twice; they
    can be taken once and not differentiated again. Under autocast the products are taken in its type and everything
    else in float32.
    """
    chunk = max(1, chunk_elements // head.shape[0])
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    loss: torch.Tensor = _WeightedNllSum.apply(  # type: ignore[no-untyped-call]
        hidden, head, bias, targets, weights, chunk, dtype
    )
    return loss


class _WeightedNllSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        weights: torch.Tensor,
        chunk: int,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            needed = (hidden.requires_grad, head.requires_grad, bias is not None and bias.requires_grad)
            d_hidden = torch.zeros_like(hidden) if needed[0] else None
            d_head = torch.zeros_like(head, dtype=torch.float32) if needed[1] else None
            d_bias = torch.zeros_like(bias, dtype=torch.float32) if needed[2] and bias is not None else None
            loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
            head_cast = head.to(dtype)
            bias_cast = None if bias is None else bias.to(dtype)
            for start in range(0, len(hidden), chunk):
                part = slice(start, start + chunk)
                inputs = hidden[part].to(dtype)
                log_p = linear(inputs, head_cast, bias_cast).float().log_softmax(dim=-1)
                rows = torch.arange(len(log_p), device=log_p.device)
                loss -= (log_p[rows, targets[part]] * weights[part]).sum()
                d_logits = log_p.exp_()  # of w * nll: w * (p - 1 at the target)
                d_logits[rows, targets[part]] -= 1.0
                d_logits *= weights[part, None]
                d_cast = d_logits.to(dtype)
                if d_hidden is not None:
                    d_hidden[part] = (d_cast @ head_cast).to(hidden.dtype)
                if d_head is not None:
                    d_head += d_cast.T @ inputs
                if d_bias is not None:
                    d_bias += d_logits.sum(dim=0)
        ctx.save_for_backward(d_hidden, d_head, d_bias)
        ctx.dtypes = (hidden.dtype, head.dtype, None if bias is None else bias.dtype)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> Any:
        (scale,) = grad_outputs
        gradients = [
            None if kept is None else (kept * scale).to(dtype)
            for kept, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*gradients, None, None, None, None)
