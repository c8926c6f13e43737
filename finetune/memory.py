"""How much memory a training takes on each device, estimated before it starts.

Symbols: P weights, P' those that are trained, B rows in a pass, T tokens per row, H hidden size, V vocabulary size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.config import KINDS, FinetuneSettings
from finetune.errors import NotEnoughMemory
from finetune.rows import row_tokens

if TYPE_CHECKING:  # whoever plans a training need not wait for them
    import torch
    from transformers import PreTrainedModel

GIB = 2**30
CHECKPOINTING_FROM = 4 * GIB
"""Activations of one pass from which on `gradient_checkpointing="auto"` recomputes them."""
_ACTIVATION_NUMBERS = 17  # per token, layer and hidden number, without attention matrices: arXiv 2205.05198, eq. 2
_FLOAT32_BYTES = 4
CHUNK_ELEMENTS = 2**26
"""Logits that may exist at once, chunk times V: 256 MiB in float32."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSize:
    """What of a model decides how much memory its training takes. Counts; `trained` are the weights with gradients."""

    weights: int
    trained: int
    hidden: int
    layers: int
    vocabulary: int
    unfused_heads: int = 0
    """Heads of each layer whose matrices of T x T numbers no fused kernel spares."""

    @classmethod
    def of(cls, model: PreTrainedModel, *, unfused_heads: int = 0) -> ModelSize:
        """Of a model that is loaded."""
        config = model.config.get_text_config(decoder=True)
        return cls(
            weights=sum(parameter.numel() for parameter in model.parameters()),
            trained=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
            hidden=config.hidden_size,
            layers=config.num_hidden_layers,
            vocabulary=config.vocab_size,
            unfused_heads=unfused_heads,
        )


def estimate(
    size: ModelSize,
    settings: FinetuneSettings,
    *,
    original_length: int,
    target_length: int,
    number_bytes: int,
    checkpointing: bool,
) -> MemoryEstimate:
    """What one worker will hold: weights and gradients in float32, AdamW's two moments, one pass's activations.

    number_bytes: of one number in the forward pass.
    """
    shards = settings.workers if settings.sharding == "fsdp" else 1
    passes = [
        (min(settings.rows_per_pass, -(-settings.rows_of(kind) // settings.workers)) * length, length)
        for kind in KINDS
        if settings.rows_of(kind)
        for length in [row_tokens(settings, kind, original_length=original_length, target_length=target_length)]
    ]
    tokens = max(tokens for tokens, _ in passes)
    layer = tokens * size.hidden * number_bytes
    matrices = max(tokens * length for tokens, length in passes) * size.unfused_heads * _FLOAT32_BYTES
    return MemoryEstimate(
        weights=size.weights * _FLOAT32_BYTES // shards,
        gradients=size.trained * _FLOAT32_BYTES // shards,
        optimizer=2 * size.trained * _FLOAT32_BYTES // shards,
        activations=matrices * (1 if checkpointing else size.layers)
        + layer * (size.layers + _ACTIVATION_NUMBERS if checkpointing else size.layers * _ACTIVATION_NUMBERS),
        logits=3 * _FLOAT32_BYTES * min(CHUNK_ELEMENTS, tokens * size.vocabulary),
    )


def use_checkpointing(
    size: ModelSize,
    settings: FinetuneSettings,
    *,
    original_length: int,
    target_length: int,
    number_bytes: int,
    possible: bool = True,
) -> bool:
    """What the setting says; "auto" decides by the activations of one pass, where the model makes it `possible`."""
    if settings.gradient_checkpointing != "auto":
        return settings.gradient_checkpointing == "on"
    whole = estimate(
        size,
        settings,
        original_length=original_length,
        target_length=target_length,
        number_bytes=number_bytes,
        checkpointing=False,
    )
    return possible and whole.activations > CHECKPOINTING_FROM


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
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
