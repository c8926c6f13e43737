"""The rotary modules of a transformers model: where frequencies stand, and how cos and sin come out.

A module has the buffers ``inv_freq`` (n,) and ``original_inv_freq`` and the number ``attention_scaling``; where layer
types have ropes of their own, one of each per type, behind the type's name and an underscore.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

FULL_ATTENTION = "full_attention"
_INV_FREQ = "inv_freq"


@dataclass(frozen=True, eq=False, slots=True)
class RotaryPart:
    """One set of frequencies of a rotary module: those of `layer_type`, or of all its layers."""

    module: nn.Module
    layer_type: str | None

    @property
    def prefix(self) -> str:
        """Of its names."""
        return "" if self.layer_type is None else f"{self.layer_type}_"

    @property
    def inv_freq(self) -> torch.Tensor:
        """Radians per position, (pairs,); pairs at the end that do not turn have 0."""
        tensor = getattr(self.module, f"{self.prefix}{_INV_FREQ}")
        assert isinstance(tensor, torch.Tensor)
        return tensor

    @property
    def attention_scaling(self) -> float | None:
        """What cos and sin are multiplied by; None where the module has no such number."""
        value = getattr(self.module, f"{self.prefix}attention_scaling", None)
        return float(value) if isinstance(value, int | float) else None

    @property
    def rope_type(self) -> str:
        """transformers' name for the scaling."""
        value = getattr(self.module, "rope_type", "default")
        return str(value.get(self.layer_type, "default") if isinstance(value, dict) else value)

    @property
    def config(self) -> Any:
        """The config that the module was made from."""
        return getattr(self.module, "config", None)

    def write(self, inv_freq: torch.Tensor, attention_factor: float) -> None:
        """Rotate by (n,) angles per position from now on, at every length; further pairs of the table do not turn.

        Before the first time, :meth:`freeze`.
        """
        table = torch.zeros_like(self.inv_freq, dtype=torch.float32)
        table[: len(inv_freq)] = inv_freq
        for name in (_INV_FREQ, "original_inv_freq"):
            if isinstance(buffer := getattr(self.module, f"{self.prefix}{name}", None), torch.Tensor):
                buffer.copy_(table)
        # A plain attribute, no tensor and no module, as nn.Module's __setattr__ would look for.
        vars(self.module)[f"{self.prefix}attention_scaling"] = attention_factor

    def freeze(self) -> None:
        """Keep transformers from putting other frequencies in: its forward pass rewrites them for dynamic types only.

        The wrapper around a rotary forward pass reads the module's own `rope_type`: "longrope" swaps in the config's
        short or long factors by length, "dynamic" recomputes, "default" leaves everything alone.
        """
        own = vars(self.module).get("rope_type")
        frozen: Any = "default" if self.layer_type is None else {**(own or {}), self.layer_type: "default"}
        vars(self.module)["rope_type"] = frozen
        for name in (_INV_FREQ, "original_inv_freq"):
            full = f"{self.prefix}{name}"
            buffer = getattr(self.module, full, None)
            if isinstance(buffer, torch.Tensor) and buffer.dtype != torch.float32:  # cast with the model: too coarse
                setattr(self.module, full, buffer.to(torch.float32))

    def forward(self, hidden: torch.Tensor, positions: torch.Tensor) -> Any:
        """What the module makes of `positions`, (rows, tokens)."""
        arguments = (hidden, positions) if self.layer_type is None else (hidden, positions, self.layer_type)
        return self.module(*arguments)


@dataclass(frozen=True, eq=False, slots=True)
class KeptPart:
    """What a part was before, to be put back."""

    part: RotaryPart
    buffers: Mapping[str, torch.Tensor]
    own: Mapping[str, Any]

    @classmethod
    def of(cls, part: RotaryPart) -> KeptPart:
        """As the part is now."""
        names = [f"{part.prefix}{name}" for name in (_INV_FREQ, "original_inv_freq")]
        buffers = {name: getattr(part.module, name, None) for name in names}
        return cls(
            part=part,
            buffers={name: value.clone() for name, value in buffers.items() if isinstance(value, torch.Tensor)},
            own={
                name: value
                for name, value in vars(part.module).items()
                if name in ("rope_type", f"{part.prefix}attention_scaling")
            },
        )

    def restore(self) -> None:
        """Put everything back, on the device where the model is now: what switches by itself does so again."""
        module = self.part.module
        for name, value in self.buffers.items():
            setattr(module, name, value.to(getattr(module, name).device, copy=True))
        for name in ("rope_type", f"{self.part.prefix}attention_scaling"):
            if name in self.own:
                vars(module)[name] = self.own[name]
            else:
                vars(module).pop(name, None)


def rotary_parts(model: nn.Module) -> tuple[RotaryPart, ...]:
    """Every set of frequencies of the text decoder; a vision or audio encoder's are left alone."""
    text = type(text_config(model)) if hasattr(model, "config") else object
    return tuple(
        part
        for module in model.modules()
        for part in parts_of(module)
        if part.config is None or isinstance(part.config, text)
    )


def rescaled_parts(model: nn.Module) -> tuple[RotaryPart, ...]:
    """Those that factors are written to: full-attention layers' where types differ, else all."""
    parts = rotary_parts(model)
    types = {part.layer_type for part in parts}
    if types <= {None}:
        return parts
    wanted = FULL_ATTENTION if FULL_ATTENTION in types else min(one for one in types if one is not None)
    return tuple(part for part in parts if part.layer_type == wanted)


def text_config(model: nn.Module) -> Any:
    """The config of a model's text decoder, which is the model's own for a text model."""
    config: Any = model.config
    return config.get_text_config(decoder=True)


def parts_of(module: nn.Module) -> Iterator[RotaryPart]:
    """The sets of frequencies of one module; none unless it is a rotary module of transformers."""
    for name, _ in module.named_buffers(recurse=False):
        if name == _INV_FREQ:
            yield RotaryPart(module, None)
        elif name.endswith(f"_{_INV_FREQ}") and not name.endswith(f"original_{_INV_FREQ}"):
            yield RotaryPart(module, name.removesuffix(f"_{_INV_FREQ}"))
