"""How much memory a training takes on each device, estimated before it starts.

Symbols: P weights, P' those that are trained, B rows in a pass, T tokens per row, H hidden size, I numbers between the
two halves of a feed-forward layer, V vocabulary size.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.config import KINDS, FinetuneSettings
from finetune.errors import NotEnoughMemory
from finetune.optimizers import OPTIMIZERS
from finetune.rows import row_tokens

if TYPE_CHECKING:  # whoever plans a training need not wait for them
    import torch
    from transformers import PreTrainedModel

GIB = 2**30
CHECKPOINTING_FROM = 4 * GIB
"""Activations of one pass from which on `gradient_checkpointing="auto"` recomputes them."""
_FLOAT32_BYTES = 4
# What a gated layer of a decoder keeps of a token for the backward pass, without attention matrices, counted in its
# operations: each of two norms its input and its normalised input, always in float32; what enters the linear layers,
# queries, keys, values, and what attention gives, before and after the heads are put together. In shorter types each
# of the linear layers has an input of its own, cast for it. I: gate, its activation, up, their product.
_NORM_NUMBERS = 4
_LINEAR_NUMBERS = 7
_CAST_LINEAR_NUMBERS = 10
_GATED_NUMBERS = 4
_USUAL_INTERMEDIATE = 3  # times H, where a config does not say
CHUNK_ELEMENTS = 2**26
"""Logits that may exist at once, chunk times V: 256 MiB in float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimate:
    """Bytes on each device. For small Llamas .99 to 1.07 of what torch asks for, for other families rougher; what the
    libraries themselves take, and keep of what is given back, is not in it."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    casts: int = 0
    """Weights once more, in the shorter type that a pass computes in: all of them, or where weights are sharded or
    activations recomputed, those of a layer or of the head."""

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(getattr(self, part.name) for part in fields(self))


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
    intermediate: int | None = None
    """I, of all experts that a token goes through; None where nothing says."""

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
            intermediate=_intermediate(config),
        )

    def layer_bytes(self, number_bytes: int) -> int:
        """What one layer keeps of one token, where a pass computes in numbers of so many bytes."""
        cast = number_bytes < _FLOAT32_BYTES
        linear = (_CAST_LINEAR_NUMBERS if cast else _LINEAR_NUMBERS) * self.hidden
        gated = _GATED_NUMBERS * (self.intermediate or _USUAL_INTERMEDIATE * self.hidden)
        return _NORM_NUMBERS * self.hidden * _FLOAT32_BYTES + (linear + gated) * number_bytes

    def cast_numbers(self, *, by_layer: bool) -> int:
        """Weights that are held twice at once: the trained ones, `by_layer` those of a layer; and not fewer than the
        head's, which is cast whether it is trained or not."""
        return max(self.trained // self.layers if by_layer else self.trained, self.vocabulary * self.hidden)

    def weight_bytes(self, number_bytes: int) -> int:
        """Float32, but for the matrices that adapters freeze (`finetune.adapters.hold_frozen`)."""
        frozen = self.weights - self.trained
        held = max(0, frozen - 2 * self.vocabulary * self.hidden)
        return (self.weights - held) * _FLOAT32_BYTES + held * number_bytes


def _intermediate(config: Any) -> int | None:
    experts = getattr(config, "num_experts_per_tok", None) or 1
    size = getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", None)
    return size * experts if isinstance(size, int) and isinstance(experts, int) else None


def estimate(
    size: ModelSize,
    settings: FinetuneSettings,
    *,
    original_length: int,
    target_length: int,
    number_bytes: int,
    checkpointing: bool,
) -> MemoryEstimate:
    """What one worker will hold: weights and gradients in float32, what the optimiser keeps, one pass's activations,
    and those of a layer once more while its gradients are computed.

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
    layer = tokens * size.layer_bytes(number_bytes)
    between = tokens * size.hidden * _FLOAT32_BYTES
    matrices = max(tokens * length for tokens, length in passes) * size.unfused_heads * _FLOAT32_BYTES
    return MemoryEstimate(
        weights=size.weight_bytes(number_bytes) // shards,
        gradients=size.trained * _FLOAT32_BYTES // shards,
        optimizer=round(OPTIMIZERS[settings.optimizer].state_bytes * size.trained) // shards,
        activations=(matrices + layer if checkpointing else size.layers * (matrices + layer))
        + (size.layers * between if checkpointing else 0)
        + layer,
        logits=3 * _FLOAT32_BYTES * min(CHUNK_ELEMENTS, tokens * size.vocabulary),
        casts=size.cast_numbers(by_layer=checkpointing or shards > 1) * number_bytes
        if number_bytes < _FLOAT32_BYTES
        else 0,
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
        "optimizer, lora_rank, or sharding over more workers take less"
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
