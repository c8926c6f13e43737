"""The optimiser steps: one forward pass per micro-batch, never two rotary windows in one.

Losses are weighted means over targets, nats per token.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from finetune.config import KINDS, FinetuneSettings, Kind
from finetune.data import MicroBatch, TrainingData
from finetune.errors import TrainingDiverged, TrainingStopped
from finetune.language_model import LanguageModelLoss
from finetune.optimizers import set_rate
from finetune.parallel import Ranks, sum_gradients, sum_over_ranks
from finetune.results import TrainingProgress
from finetune.rotary import RotarySwitch


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainee:
    """What one worker trains with."""

    loss: LanguageModelLoss
    optimizer: torch.optim.Optimizer
    switch: RotarySwitch
    data: TrainingData
    settings: FinetuneSettings
    dtype: torch.dtype
    """Of the forward pass."""
    ranks: Ranks
    sharded: bool

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weights that are trained, in the model's order."""
        return [parameter for parameter in self.loss.parameters() if parameter.requires_grad]

    @property
    def device(self) -> torch.device:
        """Where this worker computes."""
        return self.loss.model.device


def train(
    trainee: Trainee, should_stop: Callable[[], bool], *, first_step: int = 0, seconds: float = 0.0
) -> Iterator[TrainingProgress]:
    """Train in place, yielding after every step from `first_step` on, `seconds` having been spent before it.

    Raises TrainingStopped when `should_stop()` is true before a step, TrainingDiverged when a loss is not finite.
    """
    settings = trainee.settings
    trainee.loss.train()
    started = time.monotonic() - seconds
    for step in range(first_step, settings.steps):
        if should_stop():
            raise TrainingStopped(f"training was asked to stop after {step} of {settings.steps} steps")
        set_rate(trainee.optimizer, settings.learning_rate_at(step))
        losses = _accumulate(trainee, step)
        if not trainee.sharded:
            sum_gradients(trainee.parameters, trainee.ranks)
        nn.utils.clip_grad_norm_(trainee.parameters, settings.clip)
        trainee.optimizer.step()
        trainee.optimizer.zero_grad(set_to_none=True)
        yield TrainingProgress(
            step=step + 1,
            total=settings.steps,
            began_at=first_step,
            loss_long=losses.get("long"),
            loss_middle=losses.get("middle"),
            loss_short=losses.get("short"),
            loss_skipped=losses.get("skipped"),
            learning_rate=settings.learning_rate_at(step),
            seconds=time.monotonic() - started,
        )


def _accumulate(trainee: Trainee, step: int) -> dict[Kind, float]:
    """Add the gradients of this worker's rows; returns the mean loss of each kind over the rows of all workers."""
    batches = tuple(trainee.data.batches(step, trainee.ranks))
    totals = _sum_by_kind(trainee, step, [(batch.kind, float(batch.weights.sum())) for batch in batches])
    shares = {kind: trainee.settings.loss_share(kind, step) / total for kind, total in totals.items()}
    sums = [(batch.kind, _backward(trainee, batch, shares[batch.kind])) for batch in batches]
    losses = {kind: value / totals[kind] for kind, value in _sum_by_kind(trainee, step, sums).items()}
    for kind, value in losses.items():
        if not math.isfinite(value):
            raise TrainingDiverged(f"every loss must be finite, but step {step + 1} got {kind} loss {value}")
    return losses


def _sum_by_kind(trainee: Trainee, step: int, values: list[tuple[Kind, float]]) -> dict[Kind, float]:
    kinds = [kind for kind in KINDS if trainee.settings.rows_at(kind, step)]
    mine = [math.fsum(value for of, value in values if of == kind) for kind in kinds]
    return dict(zip(kinds, sum_over_ranks(mine, trainee.ranks, trainee.device), strict=True))


def _backward(trainee: Trainee, batch: MicroBatch, factor: float) -> float:
    """Add the gradient of `factor` times one micro-batch's sum of w * nll; returns that sum."""
    with trainee.switch.window(batch.window):
        with autocast(trainee.device, trainee.dtype, recomputes=trainee.loss.recomputes):
            loss = trainee.loss(batch)
        (loss * factor).backward()
    value: float = loss.item()
    return value


def autocast(
    device: torch.device, dtype: torch.dtype, *, recomputes: bool = False
) -> contextlib.AbstractContextManager[object]:
    """Compute matrix products in `dtype`; nothing changes for float32.

    Where activations are recomputed, casts of the weights are not kept from layer to layer either: they would be a
    second copy of the model for one pass, and each is needed once.
    """
    enabled = dtype != torch.float32
    return torch.autocast(device.type, dtype=dtype, enabled=enabled, cache_enabled=not recomputes)
