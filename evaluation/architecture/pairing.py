"""Which numbers of a head are a pair: those of its two halves, or neighbours."""

from __future__ import annotations

import sys
from typing import Any

import torch

from ropewalk.models.rotary import RotaryPart

_ROTATIONS = ("rotate_half", "rotate_every_two")  # the names that model code has for it
_NEIGHBOURS = [-2.0, 1.0, -4.0, 3.0]  # what turning 1, 2, 3, 4 by a right angle makes of neighbours
VLLM_REFUSALS = {"gpt_oss": "its class for gpt_oss rotates by YaRN, whatever rope_type the config has"}


def is_interleaved(part: RotaryPart, text: Any) -> bool:
    """Whether neighbours are a pair in the weights of a published checkpoint: asked of the family's own rotation.

    Code without one multiplies complex numbers, which are neighbours. Not so for Llama-4 here: other programs reorder
    its weights while they load them.
    """
    if isinstance(stated := getattr(text, "rope_interleave", None), bool):
        return stated
    code = vars(sys.modules[type(part.module).__module__])
    rotation = next((code[name] for name in _ROTATIONS if name in code), None)
    if rotation is None:
        return hasattr(text, "qk_rope_head_dim")
    return bool(rotation(torch.arange(1.0, 5.0).reshape(1, 1, 1, 4)).flatten().tolist() == _NEIGHBOURS)
