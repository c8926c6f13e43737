"""A tiny checkpoint of each kind of rotary embedding, with heads that vLLM's kernels for CPUs know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from evaluation.architecture.config import load_config
from evaluation.architecture.skeleton import auto_class
from tests.helpers.samples import VOCABULARY

_QUERIES_AND_KEYS = ("q_proj", "k_proj", "qkv", "query_key_value", "kv_a_proj", "kv_b_proj", "q_a_proj", "q_b_proj")
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 48,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "dtype": "float32",
}
_YARN = {"rope_type": "yarn", "original_max_position_embeddings": 64}
_TWO_KINDS = {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 32}
_GATED: dict[str, Any] = {
    "head_dim": 32,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
}
_GROWING: dict[str, Any] = {
    **_YARN,
    "factor": 2.0,
    "rope_theta": 10000.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
_EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}


def _plain(model_type: str, architecture: str, **values: object) -> dict[str, Any]:
    return {**_SIZES, "model_type": model_type, "architectures": [architecture], **values}


def _nested(model_type: str, architecture: str, text: dict[str, Any], **values: object) -> dict[str, Any]:
    """A model of pictures and text: everything about positions is in its text_config."""
    inner = {key: value for key, value in {**_SIZES, **text}.items() if key != "architectures"}
    return {
        "model_type": model_type,
        "architectures": [architecture],
        "text_config": inner,
        "dtype": "float32",
        **values,
    }


FAMILIES: dict[str, dict[str, Any]] = {
    "llama3": _plain(
        "llama",
        "LlamaForCausalLM",
        max_position_embeddings=256,
        rope_theta=10000.0,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "linear": _plain(
        "llama",
        "LlamaForCausalLM",
        max_position_embeddings=128,
        rope_theta=10000.0,
        rope_scaling={"type": "linear", "factor": 2.0},
    ),
    "dynamic": _plain(
        "llama",
        "LlamaForCausalLM",
        max_position_embeddings=128,
        rope_theta=10000.0,
        rope_scaling={"type": "dynamic", "factor": 2.0},
    ),
    "yarn": _plain(
        "qwen3",
        "Qwen3ForCausalLM",
        head_dim=32,
        max_position_embeddings=64,
        rope_theta=10000.0,
        rope_scaling={**_YARN, "factor": 2.0},
    ),
    "longrope": _plain(
        "phi3",
        "Phi3ForCausalLM",
        max_position_embeddings=128,
        original_max_position_embeddings=64,
        partial_rotary_factor=0.5,
        rope_theta=10000.0,
        rope_scaling={
            "type": "longrope",
            "short_factor": [1.0, 1.0, 1.01, 1.01, 1.02, 1.02, 1.03, 1.03],
            "long_factor": [1.03, 1.23, 1.6, 2.0, 2.2, 2.4, 2.6, 2.8],
        },
    ),
    "su": _plain(
        "phi3",
        "Phi3ForCausalLM",
        max_position_embeddings=128,
        original_max_position_embeddings=64,
        partial_rotary_factor=0.5,
        rope_theta=10000.0,
        rope_scaling={
            "type": "su",
            "short_factor": [1.0, 1.0, 1.01, 1.01, 1.02, 1.02, 1.03, 1.03],
            "long_factor": [1.03, 1.23, 1.6, 2.0, 2.2, 2.4, 2.6, 2.8],
        },
    ),
    "layer types": _plain(
        "gemma3_text",
        "Gemma3ForCausalLM",
        **_TWO_KINDS,
        max_position_embeddings=64,
        query_pre_attn_scalar=32,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "layer types in transformers' code": _plain(
        "olmo3",
        "Olmo3ForCausalLM",
        sliding_window=32,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=128,
        rope_theta=10000.0,
        rope_scaling={**_YARN, "factor": 2.0, "attention_factor": 1.1},
    ),
    "transformers' code": _plain(
        "gpt_neox",
        "GPTNeoXForCausalLM",
        num_key_value_heads=2,
        rotary_pct=0.25,
        rotary_emb_base=1000,
        max_position_embeddings=64,
    ),
    "pairs that do not turn": _plain(
        "gemma4_text",
        "Gemma4ForCausalLM",
        **_TWO_KINDS,
        max_position_embeddings=64,
        global_head_dim=64,
        vocab_size_per_layer_input=VOCABULARY,
        hidden_size_per_layer_input=0,
        num_kv_shared_layers=0,
        rope_parameters={
            "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 10000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "yarn whatever the config says": _plain(
        "gpt_oss",
        "GptOssForCausalLM",
        **_TWO_KINDS,
        **_EXPERTS,
        max_position_embeddings=128,
        rope_theta=10000.0,
        rope_scaling={**_YARN, "factor": 2.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False},
    ),
    "latent": _plain(
        "deepseek_v3",
        "DeepseekV3ForCausalLM",
        num_key_value_heads=2,
        kv_lora_rank=512,
        q_lora_rank=None,
        qk_rope_head_dim=64,
        qk_nope_head_dim=128,
        v_head_dim=128,
        moe_intermediate_size=32,
        n_routed_experts=4,
        n_shared_experts=1,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        topk_method="noaux_tc",
        scoring_func="sigmoid",
        max_position_embeddings=128,
        rope_theta=10000.0,
        rope_scaling={**_YARN, "factor": 2.0, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0},
    ),
    "latent v2": _plain(
        "deepseek_v2",
        "DeepseekV2ForCausalLM",
        num_key_value_heads=2,
        kv_lora_rank=512,
        q_lora_rank=None,
        qk_rope_head_dim=64,
        qk_nope_head_dim=128,
        v_head_dim=128,
        moe_intermediate_size=32,
        n_routed_experts=4,
        n_shared_experts=1,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=2,
        max_position_embeddings=128,
        rope_theta=10000.0,
        rope_scaling={**_YARN, "factor": 2.0, "beta_fast": 32, "beta_slow": 1, "mscale": 0.7, "mscale_all_dim": 0.7},
    ),
    "experts": _plain(
        "mixtral", "MixtralForCausalLM", **_EXPERTS, max_position_embeddings=64, rope_theta=10000.0, sliding_window=None
    ),
    "interleaved": _plain(
        "glm4",
        "Glm4ForCausalLM",
        head_dim=32,
        partial_rotary_factor=0.5,
        max_position_embeddings=64,
        rope_theta=10000.0,
    ),
    "gated": _plain(
        "qwen3_5_text",
        "Qwen3_5ForCausalLM",
        **_GATED,
        max_position_embeddings=64,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [3, 3, 2],
            "mrope_interleaved": True,
        },
    ),
    "scaled queries": _plain(
        "ministral3", "Ministral3ForCausalLM", head_dim=32, max_position_embeddings=128, rope_parameters=_GROWING
    ),
    "nested with axes": _nested(
        "qwen2_vl",
        "Qwen2VLForConditionalGeneration",
        {
            "model_type": "qwen2_vl_text",
            "max_position_embeddings": 64,
            "rope_theta": 10000.0,
            "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
        },
        vision_config={"embed_dim": 32, "hidden_size": 64, "num_heads": 2, "depth": 1, "mlp_ratio": 2},
    ),
    "nested, gated": _nested(
        "qwen3_5",
        "Qwen3_5ForConditionalGeneration",
        {
            "model_type": "qwen3_5_text",
            **_GATED,
            "max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": [3, 3, 2],
                "mrope_interleaved": True,
            },
        },
        vision_config={"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64},
    ),
    "nested, scaled queries": _nested(
        "mistral3",
        "Mistral3ForConditionalGeneration",
        {
            "model_type": "ministral3",
            "head_dim": 32,
            "max_position_embeddings": 128,
            "rope_parameters": _GROWING,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "head_dim": 16,
            "image_size": 28,
            "patch_size": 14,
        },
        image_token_index=10,
        spatial_merge_size=2,
    ),
    "nested, chunked": _nested(
        "llama4",
        "Llama4ForConditionalGeneration",
        {
            "model_type": "llama4_text",
            "head_dim": 32,
            "intermediate_size_mlp": 48,
            **_EXPERTS,
            "interleave_moe_layer_step": 1,
            "max_position_embeddings": 256,
            "attention_chunk_size": 128,
            "no_rope_layers": [1, 0],
            "rope_theta": 10000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
            "vision_output_dim": 32,
        },
    ),
}


def save_family(path: Path, name: str) -> Path:
    """Random weights: attention that is far from uniform, in layers whose sums stay small; the config as published."""
    torch.manual_seed(0)
    config = load_config(FAMILIES[name])
    model = auto_class(config).from_config(config).float()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.dim() >= 2:
                sharp = any(part in parameter_name for part in _QUERIES_AND_KEYS)
                parameter.normal_(0.0, 0.18 if sharp else 0.08)
    model.save_pretrained(path)
    (path / "config.json").write_text(json.dumps(FAMILIES[name]), encoding="utf-8")
    return path
