"""The parts of the vLLM scorer that need no vLLM: tables, overrides, memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ropewalk.rope.config import compute_inv_freq
from ropewalk.rope.scaling import Scaling
from tests.helpers.samples import ORIGINAL_LENGTH, ROPE, STRETCHED, TARGET_LENGTH, llama_config, longrope_config
from tests.helpers.vllm_families import FAMILIES
from workers.memory import weight_bytes
from workers.vllm_backend.model import hf_overrides, kv_cache_bytes
from workers.vllm_backend.process import engine_environment
from workers.vllm_backend.rotary import rotary_table, table_digest

# Numbers that a layer keeps of a token, where they are not keys and values of one head of 32.
_NUMBERS = {
    "latent": 512 + 64,
    "latent v2": 512 + 64,
    "pairs that do not turn": 2 * 64,
    "transformers' code": 2 * 2 * 32,
}


def test_a_table_is_the_formula_rounded_once() -> None:
    table = rotary_table(ROPE, Scaling(STRETCHED, 1.1), rows=70_000, dtype=torch.float32)
    position = 69_999  # in the second block; a float32 angle would be off by 1e-3 here
    angles = position * compute_inv_freq(ROPE, STRETCHED)
    expected = np.concatenate((np.cos(angles), np.sin(angles))) * 1.1
    assert table.shape == (70_000, ROPE.rotary_dim)
    assert np.array_equal(table[position].numpy(), expected.astype(np.float32))


def test_a_hash_is_of_the_bytes() -> None:
    table = rotary_table(ROPE, Scaling(STRETCHED), rows=64, dtype=torch.bfloat16)
    assert table_digest(table) == table_digest(torch.cat((table, table))[64:])
    changed = table.clone()
    changed[3, 5] += 2**-4
    assert table_digest(changed) != table_digest(table)


def test_a_plain_config_gets_the_whole_dict() -> None:
    overrides = hf_overrides(llama_config().to_dict(), ROPE, original_length=64, target_length=256)
    assert overrides == {
        "max_position_embeddings": 257,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0, "partial_rotary_factor": 1.0},
    }


def test_a_longrope_config_stays_one() -> None:
    config = longrope_config(STRETCHED, 1.1).to_dict()
    overrides = hf_overrides(config, ROPE, original_length=ORIGINAL_LENGTH, target_length=2 * TARGET_LENGTH)
    parameters = overrides["rope_parameters"]
    assert overrides["original_max_position_embeddings"] == ORIGINAL_LENGTH
    assert (parameters["rope_type"], parameters["rope_theta"]) == ("longrope", ROPE.rope_theta)
    assert parameters["original_max_position_embeddings"] == ORIGINAL_LENGTH
    assert (len(parameters["short_factor"]), tuple(parameters["long_factor"])) == (ROPE.num_pairs, STRETCHED.values)


def test_memory_of_a_model(tiny_model: Path) -> None:
    model: Any = transformers.LlamaForCausalLM.from_pretrained(tiny_model)
    numbers = sum(weight.numel() for weight in model.parameters())
    assert weight_bytes(tiny_model, item_bytes=2) == 2 * numbers
    assert weight_bytes(tiny_model.parent, item_bytes=2) == 0
    config = llama_config().to_dict()
    # 2 layers of 1 head with 16 numbers, keys and values; 3 blocks of 128 tokens, and 2 more for the sequence.
    assert kv_cache_bytes(config, tokens=257, sequences=1, item_bytes=4, ranks=1) == 5 * 128 * 2 * 2 * 16 * 4
    assert kv_cache_bytes(config, tokens=257, sequences=1, item_bytes=4, ranks=2) == 5 * 128 * 2 * 2 * 16 * 4


@pytest.mark.parametrize("name", FAMILIES)
def test_the_kv_cache_of_every_family_is_known(name: str) -> None:
    """However the config names its sizes, and wherever they stand."""
    found = kv_cache_bytes(FAMILIES[name], tokens=128, sequences=0, item_bytes=2, ranks=1)
    assert found == 128 * 2 * 2 * _NUMBERS.get(name, 2 * 32)


def test_variables_of_vllm_do_not_reach_the_engine() -> None:
    environment = engine_environment({"VLLM_CPU_KVCACHE_SPACE": "40", "HOME": "/home/a"}, threads=3)
    assert (environment["HOME"], environment["OMP_NUM_THREADS"]) == ("/home/a", "3")
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment
    assert environment["ROPEWALK_VLLM"] == "off", "the scorer writes its own factors"
    assert environment["VLLM_NO_USAGE_STATS"] == environment["HF_HUB_OFFLINE"] == "1"
    assert "OMP_NUM_THREADS" not in engine_environment({}, threads=None)
