"""Generating with transformers across the switch at the original length L.

transformers decides per forward pass: a pass that ends at token L or before uses `short_factor`, one that ends past it
`long_factor`. Phi-3 and its relatives drop their KV cache when a generation crosses L; Llama, Qwen and Mistral do not,
so that queries turned by the long factors meet keys that were turned by the short ones, and the text goes wrong from
there on. `generate` reads everything anew at that point, once, as LongRoPE2 (arXiv 2502.20082, section
3.3) does. vLLM has no switch to cross: an engine whose `max_model_len` is above L uses the long factors from the first
token on, any other never does.
"""

from typing import Any

import torch
from transformers import PreTrainedModel

from ropewalk.models.applying import applied_to

_OWN_OPTIONS = ("past_key_values", "attention_mask", "max_length", "return_dict_in_generate")


@torch.no_grad()
def generate(model: PreTrainedModel, input_ids: torch.Tensor, *, max_new_tokens: int, **options: Any) -> torch.Tensor:
    """`model.generate(input_ids, max_new_tokens=..., **options)` with a fresh KV cache for what lies past L.

    input_ids: (1, tokens). Returns (1, tokens + new tokens). One row, because the longest row decides the factors of
    all: rows that cross L at different moments cannot share a pass. The model is an exported checkpoint, or one that
    `Factors.apply` has put factors into.

    Raises ValueError for several rows, for an option that cannot hold on both sides of L, and for a model whose config
    has no longrope.
    """
    length = _original_length(model)
    for name in _OWN_OPTIONS:
        if name in options:
            raise ValueError(f"options must leave cache, mask, length and return type alone, but got {name}")
    rows, prompt = input_ids.shape
    if rows != 1:
        raise ValueError(f"input_ids must have one row, but got {rows}")
    # The pass over the first L tokens is the last short one, and it gives token L + 1.
    before = min(max_new_tokens, max(length + 1 - prompt, 0))
    if before:
        input_ids = _generate(model, input_ids, before, options)
        if input_ids.shape[1] < prompt + before or int(input_ids[0, -1]) in _end_tokens(model, options):
            return input_ids
    after = max_new_tokens - before
    return _generate(model, input_ids, after, options) if after else input_ids


def _generate(
    model: PreTrainedModel, input_ids: torch.Tensor, new_tokens: int, options: dict[str, Any]
) -> torch.Tensor:
    run: Any = model
    mask = torch.ones_like(input_ids)
    result: torch.Tensor = run.generate(input_ids, attention_mask=mask, max_new_tokens=new_tokens, **options)
    return result


def _original_length(model: PreTrainedModel) -> int:
    if (applied := applied_to(model)) is not None:
        return applied.original_length
    rope = getattr(model.config, "rope_parameters", None) or {}
    length = rope.get("original_max_position_embeddings") if rope.get("rope_type") == "longrope" else None
    if not isinstance(length, int):
        raise ValueError(
            "the model's config must have longrope and its original length, or factors must be applied to the model, "
            f"but its rope is {rope}"
        )
    return length


def _end_tokens(model: PreTrainedModel, options: dict[str, Any]) -> tuple[int, ...]:
    generation: Any = model.generation_config
    found = options.get("eos_token_id", generation.eos_token_id)
    return tuple(found) if isinstance(found, list | tuple) else (found,)
