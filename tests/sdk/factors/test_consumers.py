"""What each consumer is given for models that are not plain, and why some cannot hold the factors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ropewalk.errors import InvalidFactorFile
from ropewalk.factors.exports.gguf import check_holds
from ropewalk.factors.exports.registry import export
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.published import CarriedKeys, ConfigPlace, PairFactors, PublishedScaling
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling

OWN = PublishedScaling(rope_type="yarn", factors=PairFactors((1.0, 1.5, 2.0, 4.0)), attention_factor=1.2)
AXES = CarriedKeys.of({"mrope_section": [1, 1, 2]})
LATENT = CarriedKeys.of({"mscale_all_dim": 1.0, "factor": 4.0})
GROWING = CarriedKeys.of({"llama_4_scaling_beta": 0.1})


def _file(*, published: PublishedScaling | None = None, **place: Any) -> FactorFile:
    rope = RopeConfig(
        rope_theta=1000.0,
        rotary_dim=8,
        original_max_position_embeddings=256,
        published=published,
        place=ConfigPlace(**place),
    )
    file = FactorFile.of(
        rope,
        Scaling(RescaleFactors((1.0, 2.0, 4.0, 4.5)), 1.1),
        model=ModelIdentity.of(rope, name="m"),
        target_length=1024,
    )
    return FactorFile.from_json(file.to_json())


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (
            {"interleaved": True},
            "vLLM must be able to hold the factors, but its class for longrope pairs .* neighbours",
        ),
        ({"vllm_refusal": "its class is YaRN"}, "but its class is YaRN"),
        ({"section": "text_config", "carried": AXES}, "one position per token, and this model has three"),
        ({"carried": LATENT}, "any scaling of a model with mscale_all_dim for YaRN"),
    ],
)
def test_what_vllm_would_rotate_otherwise_is_refused(place: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidFactorFile, match=reason):
        export(_file(**place), "vllm")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ({"layer_type": "full_attention"}, "one rope_scaling for all layers, .* only those of full_attention"),
        ({"section": "text_config"}, "rope_scaling at the top of the config, .* in text_config"),
        ({"table_pairs": 8}, "turns every pair of its table, and of this model's 8 only the first"),
        ({"interleaved": True}, "in this model neighbours are a pair"),
        ({"carried": LATENT}, "it ignores factor, mscale_all_dim, by which this model computes too"),
    ],
)
def test_what_mlx_would_rotate_otherwise_is_refused(place: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidFactorFile, match=f"mlx-lm must be able to hold the factors, but .*{reason}"):
        export(_file(**place), "mlx")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ({"layer_type": "full_attention"}, "one set of them for all layers, .* only those of full_attention"),
        ({"table_pairs": 8}, "a factor for every pair, and of this model's 8 only the first"),
        ({"carried": AXES}, r"llama\.cpp ignores mrope_section, by which"),
    ],
)
def test_what_a_gguf_has_no_place_for_is_refused(place: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidFactorFile, match=reason):
        check_holds(_file(**place))


def test_own_scaling_is_in_the_factors_that_consumers_read() -> None:
    file = _file(published=OWN)
    long = [1.0, 3.0, 8.0, 18.0]
    assert json.loads(export(file, "mlx"))["rope_scaling"]["long_factor"] == long
    parameters = json.loads(export(file, "vllm"))["rope_parameters"]
    assert (parameters["long_factor"], parameters["short_factor"]) == (long, list(OWN.factors.values))
    assert parameters["long_mscale"] == pytest.approx(1.2 * 1.1)
    check_holds(file)


def test_vllm_gets_no_alias_that_would_empty_its_rope() -> None:
    file = _file(published=OWN, clears_scaling=True)
    assert json.loads(export(file, "hf"))["rope_scaling"] is None
    assert "rope_scaling" not in json.loads(export(file, "vllm"))


def test_vllm_gets_a_nested_section_and_the_name_that_it_knows() -> None:
    text = json.loads(export(_file(section="text_config", carried=GROWING, switch_length=64), "vllm"))["text_config"]
    assert text["llama_4_scaling"] == {"beta": 0.1, "original_max_position_embeddings": 64}
    assert text["rope_parameters"]["rope_type"] == "longrope"


def test_vllm_gets_the_ropes_of_all_layer_types() -> None:
    others = CarriedKeys.of({"sliding_attention": {"rope_type": "default", "rope_theta": 10.0}})
    parameters = json.loads(export(_file(layer_type="full_attention", others=others), "vllm"))["rope_parameters"]
    assert parameters["sliding_attention"]["rope_theta"] == 10.0
    assert parameters["full_attention"]["rope_type"] == "longrope"
