"""How much memory a training takes on each device, estimated before it starts.

Symbols: P weights, P' those that are trained, B rows in a pass, T tokens per row, H hidden size, V vocabulary size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from finetune.config import KINDS, FinetuneSettings
from finetune.errors import NotEnoughMemory
from finetune.loss import CHUNK_ELEMENTS

GIB = 2**30
CHECKPOINTING_FROM = 4 * GIB
"""Activations of one pass from which on `gradient_checkpointing="auto"` recomputes them."""
_ACTIVATION_NUMBERS = 17  # per token, layer and hidden number, without attention matrices: arXiv 2205.05198, eq. 2
_FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimate:
    """Bytes on each device. Rough: 10 to 30 % off is usual, what the libraries themselves take is not in it."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


def estimate(
    model: PreTrainedModel,
    settings: FinetuneSettings,
    *,
    target_length: int,
    dtype: torch.dtype,
    checkpointing: bool,
    attention_heads: int = 0,
) -> MemoryEstimate:
    """What one worker will hold: weights and gradients in float32, AdamW's two moments, one pass's activations.

    attention_heads: those of each layer whose matrices of T x T numbers no fused kernel spares.
    """
    every = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    shards = settings.workers if settings.sharding == "fsdp" else 1
    config = model.config.get_text_config(decoder=True)
    most_rows = max(-(-settings.rows_of(kind) // settings.workers) for kind in KINDS)
    tokens = min(settings.rows_per_pass, most_rows) * target_length
    layer = tokens * config.hidden_size * dtype.itemsize
    layers = config.num_hidden_layers
    matrices = tokens * target_length * attention_heads * _FLOAT32_BYTES * (1 if checkpointing else layers)
    return MemoryEstimate(
        weights=every * _FLOAT32_BYTES // shards,
        gradients=trained * _FLOAT32_BYTES // shards,
        optimizer=2 * trained * _FLOAT32_BYTES // shards,
        activations=matrices
        + layer * (layers + _ACTIVATION_NUMBERS if checkpointing else layers * _ACTIVATION_NUMBERS),
        logits=3 * _FLOAT32_BYTES * min(CHUNK_ELEMENTS, tokens * config.vocab_size),
    )


def use_checkpointing(
    model: PreTrainedModel,
    settings: FinetuneSettings,
    *,
    target_length: int,
    dtype: torch.dtype,
    attention_heads: int = 0,
) -> bool:
    """What the setting says; "auto" decides by the activations of one pass."""
    if settings.gradient_checkpointing != "auto":
        return settings.gradient_checkpointing == "on"
    if not model.supports_gradient_checkpointing:
        return False
    whole = estimate(
        model,
        settings,
        target_length=target_length,
        dtype=dtype,
        checkpointing=False,
        attention_heads=attention_heads,
    )
    return whole.activations > CHECKPOINTING_FROM


def check_memory(needed: MemoryEstimate, *, available: int | None, target_length: int) -> None:
    """Return when it fits, or when nothing is known about the device.

    Raises:
        NotEnoughMemory: with the estimate part by part.
    """
    if available is None or needed.total <= available:
        return
    parts = ", ".join(f"{name} {getattr(needed, name) / GIB:.1f}" for name in MemoryEstimate.__dataclass_fields__)
    raise NotEnoughMemory(
        f"training at target_length={target_length} must fit the free memory of a device, {available / GIB:.1f} GiB, "
        f"but takes about {needed.total / GIB:.1f} GiB ({parts}): fewer rows_per_pass, gradient_checkpointing, "
        "lora_rank, or sharding over more workers take less"
    )


def available_bytes(device: torch.device) -> int | None:
    """Free memory of a CUDA device, or of the machine; None where it cannot be told."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
