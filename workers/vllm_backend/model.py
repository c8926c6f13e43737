"""What vLLM must be told about a model's config; vLLM itself is not needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ropewalk.factors.exports.vllm import query_scale
from ropewalk.rope.config import RopeConfig

_BLOCK_TOKENS = 128  # vLLM's largest usual KV block
SEQUENCES = 4  # side by side in a step, at most: the largest group of workers/transformers_backend/passes.py
TOKENS_PER_STEP = {"cpu": 1024, "cuda": 8192}  # at least those of a group, which shares one step
_SPARE_BLOCKS = 2  # vLLM keeps one empty, and one is begun by the token that a request must generate
_LONGROPE = ("longrope", "su")
_APART = {"rescaled": True}  # no key of vLLM's


def hf_overrides(
    config: Mapping[str, Any], rope: RopeConfig, *, original_length: int, target_length: int
) -> dict[str, Any]:
    """What replaces values of the model's config in vLLM, so that its rotary table covers `target_length` and one more.

    vLLM puts a dict in place of the config's own as a whole and fills nothing in: a missing rope_theta would silently
    become 10000. Only a nested section is merged into the config's, where a key too many does no harm. A `longrope`
    config stays one, with its factors (they are overwritten before anything is scored), so that vLLM rotates with the
    class that it will serve the model with; any other scaling is taken out, because the table that is written has it.
    """
    place, length = rope.place, model_length(target_length)
    section, text = _section(config, place.section)
    overrides: dict[str, Any] = {"max_position_embeddings": length}
    parameters = _parameters(text, rope, length)
    block = _longrope_block(text, place.layer_type)
    if block is not None:
        own = {key: value for key, value in block.items() if key not in ("type", "rope_type")}
        parameters = own | parameters | {"rope_type": "longrope", "original_max_position_embeddings": original_length}
        overrides["original_max_position_embeddings"] = original_length
    if place.layer_type is not None:
        # vLLM gives layers with equal parameters one module: those that are not rescaled must have another one.
        parameters = {**place.others.as_dict(), place.layer_type: parameters | _APART}
    overrides |= {"rope_parameters": parameters} | query_scale(place)
    return overrides if section is None else {section: overrides}


def _section(config: Mapping[str, Any], section: str | None) -> tuple[str | None, Mapping[str, Any]]:
    """Where vLLM keeps the config of the text decoder, and what is stated of it.

    Some classes make a section of keys that a config.json has at the top; a decoder that was saved alone is no section.
    """
    if section is None or getattr(_loaded(config), section, None) is None:
        return None, config
    return section, config.get(section, config)


def _loaded(config: Mapping[str, Any]) -> Any:
    from evaluation.architecture.config import load_config  # transformers takes seconds

    return load_config(config)


def _parameters(text: Mapping[str, Any], rope: RopeConfig, length: int) -> dict[str, Any]:
    """Rope parameters by which vLLM makes a table of `length` rows, with all that changes more than the table."""
    carried = rope.place.carried.as_dict()
    parameters: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": rope.rope_theta,
        "partial_rotary_factor": rope.partial_rotary_factor,
    }
    if text.get("model_type") == "gpt_oss":  # its class in vLLM is YaRN whatever the config says
        yarn = {"factor": 1.0, "beta_fast": 32.0, "beta_slow": 1.0, "original_max_position_embeddings": length}
        return parameters | carried | yarn
    if carried.get("mscale_all_dim"):  # DeepSeek scales its softmax by this and the factor, for YaRN alone
        rows = {"original_max_position_embeddings": math.ceil(length / float(str(carried["factor"])))}
        return parameters | {"rope_type": "yarn"} | carried | rows
    if rope.place.table_pairs is not None:  # pairs are those of the whole head, some of which do not turn
        parameters["rope_type"] = "proportional"
    return parameters | carried


def _longrope_block(text: Mapping[str, Any], layer_type: str | None) -> Mapping[str, Any] | None:
    blocks = [block for name in ("rope_parameters", "rope_scaling") if isinstance(block := text.get(name), Mapping)]
    blocks += [inner for block in blocks if isinstance(inner := block.get(layer_type), Mapping)]
    return next((one for one in blocks if one.get("rope_type", one.get("type")) in _LONGROPE), None)


def model_length(target_length: int) -> int:
    """vLLM's max_model_len: a request must generate a token, and room is counted for it."""
    return target_length + 1


def engine_kv_bytes(config: Mapping[str, Any], *, target_length: int, device: str, item_bytes: int, ranks: int) -> int:
    """Of the KV cache that an engine keeps on each rank: a document of the target length, or the groups of a step."""
    tokens = max(target_length, TOKENS_PER_STEP[device])
    return kv_cache_bytes(config, tokens=tokens, sequences=SEQUENCES, item_bytes=item_bytes, ranks=ranks)


def kv_cache_bytes(config: Mapping[str, Any], *, tokens: int, sequences: int, item_bytes: int, ranks: int) -> int:
    """Of what attention keeps of `sequences` documents with `tokens` in all on one tensor-parallel rank, in blocks.

    An upper bound where layers differ: every layer counts as one that keeps all tokens, at the widest.
    """
    text = _loaded(config).get_text_config(decoder=True)
    layers = int(getattr(text, "num_hidden_layers", None) or text.num_layers)
    kinds = [text]
    if getattr(text, "is_heterogeneous", False):  # Gemma 4: heads of layers that see everything are wider
        kinds = [text.per_layer_config[kind] for kind in set(text.layer_types)]
    numbers = max(_numbers_per_token(kind, ranks) for kind in kinds)
    blocks = math.ceil(tokens / _BLOCK_TOKENS) + sequences * _SPARE_BLOCKS
    return blocks * _BLOCK_TOKENS * layers * numbers * item_bytes


def _numbers_per_token(text: Any, ranks: int) -> int:
    """That a layer keeps of each token: keys and values of its heads, or what MLA computes both from, on every rank."""
    latent = getattr(text, "kv_lora_rank", None)
    if latent:
        return int(latent + text.qk_rope_head_dim)
    heads = int(text.num_attention_heads)
    names = ("head_dim", "v_head_dim", "global_head_dim", "attention_head_dim")
    stated = [value for name in names if isinstance(value := getattr(text, name, None), int)]
    kv_names = ("num_key_value_heads", "num_kv_heads", "num_global_key_value_heads", "swa_num_key_value_heads")
    kv_heads = [value for name in kv_names if isinstance(value := getattr(text, name, None), int)]
    width = max(stated, default=int(text.hidden_size) // heads)
    return 2 * math.ceil(max(kv_heads, default=heads) / ranks) * width
