"""The optimiser steps: one long and one short forward pass each, never both windows in one.

Symbols: B rows, T tokens per row, K kept positions, V vocabulary size. Losses are nats per token.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from finetune.config import FinetuneSettings
from finetune.data import MicroBatch, TrainingData
from finetune.errors import TrainingDiverged, TrainingStopped
from finetune.masks import block_diagonal_causal_mask
from finetune.rotary import RotarySwitch

_BETAS = (0.9, 0.95)  # AdamW's, as language models are usually trained


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingProgress:
    """The state after one optimiser step. Losses are weighted means over targets, nats per token."""

    step: int
    """Steps done, 1 to `total`."""
    total: int
    loss_long: float
    loss_short: float | None
    """None when no short sequences are trained on."""
    learning_rate: float
    seconds: float
    """Since the first step began."""


def weighted_nll(model: nn.Module, batch: MicroBatch) -> torch.Tensor:
    """Weighted mean NLL of a micro-batch's targets: sum(w * -log p) / sum(w), nats per token, a scalar with gradient.

    Token t is predicted from t - 1, so the first token of a document must weigh 0. Logits, (B, K, V), exist only at the
    positions before a target that some row gives a weight. The caller switches the rotary window on.
    """
    device = next(model.parameters()).device
    token_ids = torch.from_numpy(batch.token_ids).to(device)
    weights = torch.from_numpy(batch.weights).to(device)
    keep = weights[:, 1:].sum(dim=0).nonzero()[:, 0]
    logits = model(
        input_ids=token_ids,
        position_ids=torch.from_numpy(batch.position_ids).to(device),
        attention_mask=attention_mask(batch, device),
        logits_to_keep=keep,
        use_cache=False,
    ).logits
    targets, kept = token_ids[:, 1:][:, keep], weights[:, 1:][:, keep]
    nats = nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return (nats * kept.flatten()).sum() / kept.sum()


def attention_mask(batch: MicroBatch, device: torch.device) -> torch.Tensor | None:
    """None (plain causal attention, the fast path) when every row is one document, else the block-diagonal mask."""
    if not batch.segment_ids.any():
        return None
    return block_diagonal_causal_mask(torch.from_numpy(batch.segment_ids).to(device), torch.float32)


def train(
    model: nn.Module,
    switch: RotarySwitch,
    data: TrainingData,
    settings: FinetuneSettings,
    should_stop: Callable[[], bool],
) -> Iterator[TrainingProgress]:
    """Train in place, yielding after every step.

    Raises TrainingStopped when `should_stop()` is true before a step, TrainingDiverged when a loss is not finite.
    """
    optimizer = _optimizer(model, settings)
    model.train()
    started = time.monotonic()
    for step in range(settings.steps):
        if should_stop():
            raise TrainingStopped(f"training was asked to stop after {step} of {settings.steps} steps")
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        loss_long, loss_short = _accumulate(model, switch, data, settings, step)
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield TrainingProgress(
            step=step + 1,
            total=settings.steps,
            loss_long=loss_long,
            loss_short=loss_short,
            learning_rate=settings.learning_rate_at(step),
            seconds=time.monotonic() - started,
        )


def _accumulate(
    model: nn.Module, switch: RotarySwitch, data: TrainingData, settings: FinetuneSettings, step: int
) -> tuple[float, float | None]:
    """Add both micro-batches' gradients, weighted by `long_loss_share`; returns the two losses."""
    short = data.short_batch(step)
    share = settings.long_loss_share if short is not None else 1.0
    loss_long = _backward(model, switch, data.long_batch(step), share, step)
    loss_short = None if short is None else _backward(model, switch, short, 1.0 - share, step)
    return loss_long, loss_short


def _backward(model: nn.Module, switch: RotarySwitch, batch: MicroBatch, share: float, step: int) -> float:
    with switch.window(batch.window):
        loss = weighted_nll(model, batch)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingDiverged(f"every loss must be finite, but step {step + 1} got {batch.window} loss {value}")
        (share * loss).backward()  # type: ignore[no-untyped-call]
    return value


def _optimizer(model: nn.Module, settings: FinetuneSettings) -> torch.optim.AdamW:
    """AdamW over all weights; vectors (norms, biases) are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=_BETAS)
