"""Which modules of a loaded model are written to, without vLLM: stand-ins have the names of its classes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from ropewalk.rope.config import RopeConfig, compute_inv_freq
from ropewalk.rope.published import ConfigPlace
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from tests.helpers.samples import ROPE, STRETCHED, llama_config
from workers.vllm_backend.rotary import (
    ALL_LAYERS,
    RescaledLayers,
    RotaryExtension,
    RotaryFacts,
    RotaryValues,
    UnknownRotary,
    rotary_modules,
    rotary_table,
    table_digest,
)

ROWS = 40
LAYERS = RescaledLayers(layer_type="full_attention", layer_types=("sliding_attention", "full_attention"))
SCALING = Scaling(STRETCHED, 1.1)


class RotaryEmbedding(nn.Module):
    """As vLLM's, as far as its table goes."""

    __module__ = "vllm.model_executor.layers.rotary_embedding.base"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cos_sin_cache", torch.zeros(ROWS, ROPE.rotary_dim), persistent=False)


class _Decoder(nn.Module):
    def __init__(self, *ropes: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({"rotary_emb": rope}) for rope in ropes)


class _WithPictures(nn.Module):
    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.visual, self.language_model = RotaryEmbedding(), decoder

    def get_language_model(self) -> nn.Module:
        return self.language_model


def _worker(model: nn.Module) -> Any:
    return SimpleNamespace(get_model=lambda: model)


def _values() -> RotaryValues:
    return RotaryValues.of(ROPE, SCALING, rows=ROWS, dtype=torch.float32)


def test_every_layer_may_share_one_module() -> None:
    rope = RotaryEmbedding()
    assert rotary_modules(_Decoder(rope, rope)) == (rope,)


def test_an_encoder_of_pictures_is_left_alone() -> None:
    rope = RotaryEmbedding()
    assert rotary_modules(_WithPictures(_Decoder(rope))) == (rope,)


def test_only_layers_of_the_type_are_written_to() -> None:
    sliding, full = RotaryEmbedding(), RotaryEmbedding()
    model = _Decoder(sliding, full)
    (digest,) = RotaryExtension.ropewalk_write_rotary(_worker(model), _values(), LAYERS)
    assert digest in _values().digests
    assert torch.equal(full.get_buffer("cos_sin_cache"), _values().table)
    assert not sliding.get_buffer("cos_sin_cache").any()


def test_a_module_that_other_layers_share_is_refused() -> None:
    rope = RotaryEmbedding()
    with pytest.raises(
        UnknownRotary, match=r"full_attention must have a rotary module of their own, .*base\.RotaryEmb"
    ):
        rotary_modules(_Decoder(rope, rope), LAYERS)


def test_unknown_classes_are_refused_by_name() -> None:
    class HouseRotaryEmbedding(RotaryEmbedding):
        pass

    model = _Decoder(HouseRotaryEmbedding())
    refusal = RotaryExtension.ropewalk_inspect_rotary(_worker(model), ALL_LAYERS)
    assert isinstance(refusal, str)
    assert refusal.endswith("HouseRotaryEmbedding")
    with pytest.raises(UnknownRotary, match="none in Linear"):
        rotary_modules(nn.Linear(2, 2))


def test_modules_of_transformers_are_written_to() -> None:
    """vLLM runs some families by transformers' code, which computes cos and sin from frequencies."""
    build: Any = transformers.LlamaForCausalLM
    model = build(llama_config())
    facts = RotaryExtension.ropewalk_inspect_rotary(_worker(model), ALL_LAYERS)
    assert isinstance(facts, RotaryFacts)
    assert (facts.rows, facts.width) == (None, ROPE.rotary_dim)
    found = RotaryExtension.ropewalk_write_rotary(_worker(model), _values(), ALL_LAYERS)
    assert set(found) <= _values().digests
    positions = torch.arange(ROWS)[None]
    cos, sin = model.model.rotary_emb(torch.zeros(1), positions)
    expected = _values().table.chunk(2, dim=-1)
    assert torch.allclose(cos[0, :, : ROPE.num_pairs], expected[0], atol=1e-5)
    assert torch.allclose(sin[0, :, : ROPE.num_pairs], expected[1], atol=1e-5)


def test_a_table_has_pairs_that_do_not_turn() -> None:
    rope = RopeConfig(
        rope_theta=1000.0, rotary_dim=4, original_max_position_embeddings=64, place=ConfigPlace(table_pairs=4)
    )
    table = rotary_table(rope, Scaling(RescaleFactors((1.0, 2.0)), 1.5), rows=3, dtype=torch.float64)
    angles = 2 * compute_inv_freq(rope, RescaleFactors((1.0, 2.0)))
    assert table.shape == (3, 8)
    assert torch.allclose(table[2, :2], 1.5 * torch.from_numpy(angles).cos())
    assert table[2, 2:4].tolist() == [1.5, 1.5]
    assert table[2, 6:].tolist() == [0.0, 0.0]


def test_a_rank_without_the_values_is_noticed() -> None:
    other = RotaryValues.of(ROPE, Scaling(STRETCHED, 1.2), rows=ROWS, dtype=torch.float32)
    assert not other.digests & _values().digests
    assert table_digest(other.table) in other.digests
