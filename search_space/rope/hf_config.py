"""Reading a Hugging Face ``config.json``, and saying why a model cannot be searched.

Nothing is guessed: where transformers would fill a gap with a model family's default, reading refuses, because a wrong
base or rotary width gives factors that look right and are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from search_space.errors import UnsupportedRope
from search_space.rope.config import RopeConfig

_ALIBI_MODELS = frozenset({"bloom", "mpt"})
_LEARNED_POSITION_MODELS = frozenset(
    {
        "bart",
        "bert",
        "biogpt",
        "ctrl",
        "electra",
        "gpt2",
        "gpt_bigcode",
        "gpt_neo",
        "openai-gpt",
        "opt",
        "roberta",
        "xglm",
    }
)
_RELATIVE_BIAS_MODELS = frozenset({"longt5", "mt5", "t5", "umt5"})
# Families whose rotary width is a part of head_dim even where config.json is silent about it.
_PARTIAL_ROTARY_MODELS = frozenset(
    {
        "glm", "glm4", "glm4_moe", "gpt_neox", "nemotron", "persimmon", "phi", "qwen3_5", "qwen3_5_moe",
        "qwen3_next", "recurrent_gemma", "stablelm",
    }
)  # fmt: skip
_SCALING_KEYS = ("factor", "short_factor", "long_factor", "attention_factor", "low_freq_factor", "high_freq_factor")
_LAYER_TYPED_KEYS = ("rope_local_base_freq", "global_rope_theta", "local_rope_theta")


def read_rope(config: Mapping[str, object]) -> RopeConfig:
    """The rotary embedding of a model, from the dict of its ``config.json``.

    Reads v5 ``rope_parameters``, and legacy ``rope_scaling`` with ``rope_theta`` at the top level (GPT-NeoX:
    ``rotary_emb_base``, ``rotary_pct``). Width is ``head_dim`` (else hidden_size / num_attention_heads) times
    ``partial_rotary_factor``. L is ``original_max_position_embeddings``, else ``max_position_embeddings``.

    Raises:
        UnsupportedRope: the model carries scaling already, has rope per layer type or per axis, uses ALiBi, learned or
            relative positions, or leaves out a value that is needed; the message says which.
    """
    _refuse_other_positions(config)
    _refuse_other_structures(config)
    blocks = dict(_rope_blocks(config))
    for name, block in blocks.items():
        _refuse_layer_types(name, block)
        _refuse_scaling(name, block)
    sources = [*blocks.items(), ("config", config)]
    partial = _partial_rotary_factor(config, sources)
    return RopeConfig(
        rope_theta=_rope_theta(config, sources),
        rotary_dim=_rotary_dim(config, partial),
        partial_rotary_factor=partial,
        original_max_position_embeddings=_original_length(config, sources),
    )


def _rope_blocks(config: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The dicts that describe rope, v5 name first."""
    for name in ("rope_parameters", "rope_scaling"):
        block = config.get(name)
        if block is None:
            continue
        if not isinstance(block, Mapping):
            raise UnsupportedRope(f"{name} must be an object, but got {block!r}")
        yield name, block


def _refuse_other_positions(config: Mapping[str, object]) -> None:
    """ALiBi, learned or fixed absolute positions, relative biases, no positions at all."""
    model_type = _model_type(config)
    kind = config.get("position_embedding_type")
    attention = config.get("attn_config")  # MPT nests its switch
    stated = f"(model_type={model_type!r}, position_embedding_type={kind!r})"
    nested_alibi = isinstance(attention, Mapping) and attention.get("alibi")
    if config.get("alibi") or nested_alibi or kind == "alibi" or model_type in _ALIBI_MODELS:
        raise UnsupportedRope(f"the model must use rotary positions, but it uses ALiBi {stated}")
    if model_type in _LEARNED_POSITION_MODELS or kind in ("absolute", "learned", "learned_absolute"):
        raise UnsupportedRope(
            f"the model must use rotary positions, but it uses learned or fixed absolute positions {stated}"
        )
    if model_type in _RELATIVE_BIAS_MODELS or kind not in (None, "rope", "rotary"):
        raise UnsupportedRope(f"the model must use rotary positions, but it uses another position scheme {stated}")


def _refuse_other_structures(config: Mapping[str, object]) -> None:
    """Rotary models whose rope no single factor vector describes."""
    if isinstance(config.get("text_config"), Mapping):
        raise UnsupportedRope("the model must be a text model, but its config nests the language model in text_config")
    if config.get("qk_rope_head_dim") is not None:
        raise UnsupportedRope(
            "heads must rotate one contiguous part of their width, but the model splits them for multi-head latent "
            f"attention (qk_rope_head_dim={config['qk_rope_head_dim']!r})"
        )
    for key in _LAYER_TYPED_KEYS:
        if config.get(key) is not None:
            raise UnsupportedRope(f"all layers must share one rope, but the config has {key}={config[key]!r}")


def _model_type(config: Mapping[str, object]) -> str | None:
    value = config.get("model_type")
    return value if isinstance(value, str) else None


def _refuse_layer_types(name: str, block: Mapping[str, object]) -> None:
    nested = [key for key, value in block.items() if isinstance(value, Mapping)]
    if nested:
        raise UnsupportedRope(
            f"all layers must share one rope, but {name} differs by layer type: {', '.join(map(str, nested))}"
        )
    if block.get("mrope_section") is not None:
        raise UnsupportedRope(f"positions must have one axis, but {name} has mrope_section={block['mrope_section']!r}")


def _refuse_scaling(name: str, block: Mapping[str, object]) -> None:
    for key in ("rope_type", "type"):
        kind = block.get(key)
        if kind not in (None, "default"):
            raise UnsupportedRope(
                f"the model must not carry rope scaling already, but got {name}.{key}={kind!r}; "
                "start from the checkpoint before its context extension"
            )
    found = [key for key in _SCALING_KEYS if block.get(key) is not None]
    if found:
        raise UnsupportedRope(
            f"the model must not carry rope scaling already, but {name} holds {', '.join(found)} without a rope_type"
        )


def _rope_theta(config: Mapping[str, object], sources: list[tuple[str, Mapping[str, object]]]) -> float:
    value = _one_value(sources, ("rope_theta", "rotary_emb_base"))
    if value is not None:
        return value
    raise UnsupportedRope(
        f"the config must state rope_theta, but it has none (model_type={_model_type(config)!r}): either the model has "
        "other positions (learned, fixed or none), or its code has a default, which is not guessed here; "
        "for a rotary model add its rope_theta to config.json"
    )


def _partial_rotary_factor(config: Mapping[str, object], sources: list[tuple[str, Mapping[str, object]]]) -> float:
    partial = _one_value(sources, ("partial_rotary_factor", "rotary_pct"))
    if partial is None:
        model_type = _model_type(config)
        if model_type in _PARTIAL_ROTARY_MODELS:
            raise UnsupportedRope(
                f"a {model_type} config must state partial_rotary_factor, but it has none and the family's default "
                "is not guessed here"
            )
        return 1.0
    if not 0.0 < partial <= 1.0:
        raise UnsupportedRope(f"partial_rotary_factor must be in (0, 1], but got {partial!r}")
    return partial


def _rotary_dim(config: Mapping[str, object], partial: float) -> int:
    """int(head_dim * partial_rotary_factor), as transformers computes it; must come out even."""
    head_dim = _head_dim(config)
    rotary_dim = int(head_dim * partial)
    if rotary_dim < 2 or rotary_dim % 2:
        raise UnsupportedRope(
            "the rotary width (head_dim * partial_rotary_factor) must be a positive even number, "
            f"but got {rotary_dim} (head_dim={head_dim}, partial_rotary_factor={partial!r})"
        )
    return rotary_dim


def _head_dim(config: Mapping[str, object]) -> int:
    if config.get("head_dim") is not None:
        return _positive_int("head_dim", config["head_dim"])
    hidden_size = _positive_int("hidden_size", config.get("hidden_size"))
    heads = _positive_int("num_attention_heads", config.get("num_attention_heads"))
    if hidden_size % heads:
        raise UnsupportedRope(
            "without head_dim, hidden_size must be a multiple of num_attention_heads, "
            f"but got hidden_size={hidden_size}, num_attention_heads={heads}"
        )
    return hidden_size // heads


def _original_length(config: Mapping[str, object], sources: list[tuple[str, Mapping[str, object]]]) -> int:
    longest = config.get("max_position_embeddings")
    # transformers lets the top-level value override the nested one.
    for _, source in reversed(sources):
        value = source.get("original_max_position_embeddings")
        if value is not None:
            length = _positive_int("original_max_position_embeddings", value)
            if longest is not None and length > _positive_int("max_position_embeddings", longest):
                raise UnsupportedRope(
                    "original_max_position_embeddings must be at most max_position_embeddings, "
                    f"but got original_max_position_embeddings={length}, max_position_embeddings={longest}"
                )
            return length
    return _positive_int("max_position_embeddings", longest)


def _one_value(sources: list[tuple[str, Mapping[str, object]]], keys: tuple[str, ...]) -> float | None:
    """The number stated under any of `keys`, None if nowhere; two different statements are refused."""
    found = [(f"{name}.{key}", source[key]) for name, source in sources for key in keys if source.get(key) is not None]
    numbers = [(label, _number(label, value)) for label, value in found]
    if not numbers:
        return None
    for label, number in numbers[1:]:
        if number != numbers[0][1]:
            raise UnsupportedRope(
                f"{keys[0]} must have one value, but got {numbers[0][0]}={numbers[0][1]!r}, {label}={number!r}"
            )
    return numbers[0][1]


def _number(label: str, value: object) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # a whole number beyond float's range
        number = math.inf
    if not math.isfinite(number):
        raise UnsupportedRope(f"{label} must be a finite number, but got {value!r}")
    return number


def _positive_int(label: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or not 1 <= value < 2**31:
        raise UnsupportedRope(f"{label} must be a positive whole number below 2^31, but got {value!r}")
    return int(value)
