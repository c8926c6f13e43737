from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from finetune.output.checkpoint import longrope_config
from ropewalk.errors import NotServed
from ropewalk.factors.exports.registry import export
from ropewalk.factors.factor_file import ConfigFacts
from ropewalk.rope.published import CarriedKeys
from ropewalk.serving.plan import ServingPlan, check_heads, check_overrides, plan_of, written_block
from tests.helpers.factor_files import FULL

FILE = replace(FULL, attention_factor=1.07)


def config_of(format_name: str = "vllm") -> dict[str, Any]:
    config: dict[str, Any] = json.loads(export(FILE, format_name))
    return config


def block_of(**changes: object) -> dict[str, Any]:
    block: dict[str, Any] = config_of()["rope_parameters"]
    return block | changes


def test_an_export_says_how_it_is_served() -> None:
    """Within L with the attention factor that the model came with, not with the one that was found."""
    for name in ("hf", "vllm"):
        config = config_of(name)
        block = written_block(config["rope_parameters"])
        assert block is not None
        plan = plan_of(block, target_length=config["max_position_embeddings"], engine_length=1024)
        assert plan == ServingPlan(original_length=256, target_length=1024, short_mscale=1.0)


def test_a_model_that_came_with_an_attention_factor_keeps_it_within_l() -> None:
    facts = ConfigFacts(published_rope_type="yarn", published_attention_factor=1.2)
    file = replace(FILE, format="ropewalk.factors/2", config=facts)
    assert json.loads(export(file, "vllm"))["rope_parameters"]["ropewalk_short_mscale"] == 1.2


def test_long_factors_at_every_length_come_with_their_attention_factor() -> None:
    assert config_of("hf-long")["rope_parameters"]["ropewalk_short_mscale"] == 1.07


def test_rope_parameters_of_one_type_of_layers_are_found() -> None:
    others = CarriedKeys.of({"sliding_attention": {"rope_theta": 1.0}})
    facts = ConfigFacts(layer_type="full_attention", others=others)
    file = replace(FILE, format="ropewalk.factors/2", config=facts)
    block = written_block(json.loads(export(file, "vllm"))["rope_parameters"])
    assert block is not None
    assert block["long_factor"] == list(FILE.long_factor.values)


@pytest.mark.parametrize(
    "parameters",
    [None, {}, {"rope_type": "default"}, {"rope_type": "longrope", "short_mscale": 1.0}, {"full_attention": {}}, "x"],
)
def test_what_others_wrote_is_not_ours(parameters: object) -> None:
    assert written_block(parameters) is None


def test_a_trained_model_is_served_as_it_was_trained() -> None:
    from transformers import LlamaConfig

    config = longrope_config(LlamaConfig(rope_parameters={"rope_type": "default", "rope_theta": 1000.0}), FILE)
    block = written_block(config.rope_parameters)
    assert block is not None
    assert plan_of(block, target_length=1024, engine_length=1024).short_mscale == 1.07


@pytest.mark.parametrize(
    ("changes", "target", "engine", "message"),
    [
        ({}, 1024, 1025, "--max-model-len must be at most the target length of the factors, 1024, but is 1025"),
        ({"rope_type": "yarn"}, 1024, 1024, "a config with ropewalk_short_mscale must have rope_type 'longrope', but"),
        ({"ropewalk_short_mscale": "1"}, 1024, 1024, "ropewalk_short_mscale must be a positive number, but got '1'"),
        ({"ropewalk_short_mscale": 0}, 1024, 1024, "ropewalk_short_mscale must be a positive number, but got 0"),
        ({}, 256, 256, "but the config has 256 and 256"),
        ({"original_max_position_embeddings": None}, 1024, 1024, "but the config has 1024 and None"),
    ],
)
def test_a_plan_is_refused(changes: dict[str, object], target: int, engine: int, message: str) -> None:
    with pytest.raises(NotServed) as caught:
        plan_of(block_of(**changes), target_length=target, engine_length=engine)
    assert message in str(caught.value)


def test_a_plan_travels_in_an_engine_s_config() -> None:
    plan = ServingPlan(original_length=256, target_length=1024, short_mscale=1.25)
    assert ServingPlan.of({"ropewalk": json.loads(json.dumps(plan.as_config()))}) == plan
    assert ServingPlan.of({}) is None
    assert ServingPlan.of(object()) is None


def test_heads_must_have_a_pair_for_each_factor() -> None:
    check_heads(block_of(), head_dim=8)
    check_heads(block_of(partial_rotary_factor=0.5), head_dim=16)
    with pytest.raises(
        NotServed, match="a factor for each of the model's 64 pairs, but has 4: these are factors of an"
    ):
        check_heads(block_of(), head_dim=128)
    with pytest.raises(
        NotServed, match="short_factor must have a factor for each of the model's 4 pairs, but has None"
    ):
        check_heads(block_of(short_factor=None), head_dim=8)


OWN = {"max_position_embeddings": 256, "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}


@pytest.mark.parametrize(
    "own",
    [
        OWN,
        {"rope_theta": 1000.0},
        {},
        {"text_config": OWN},
        {"max_position_embeddings": 64, "rope_theta": 1000.0, "rope_scaling": {"type": "yarn", "factor": 4.0}},
        {"rope_parameters": {"full_attention": {"rope_theta": 1000.0}, "sliding_attention": {"rope_theta": 10.0}}},
    ],
)
def test_overrides_may_be_the_model_s(own: dict[str, Any]) -> None:
    check_overrides(block_of(), target_length=1024, config=own)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"rope_theta": 500000.0}, "rope_theta must be the model's, 500000.0, but --hf-overrides says 1000.0"),
        ({"text_config": {"rope_parameters": {"rope_theta": 1e4}}}, "rope_theta must be the model's, 10000.0, but"),
        ({"max_position_embeddings": 128}, "must be at most the model's length, 128, but --hf-overrides says 256"),
        (config_of("hf"), "its config has those for 1024 tokens, and --hf-overrides has some for 2048"),
    ],
)
def test_overrides_of_another_model_are_refused(own: dict[str, Any], message: str) -> None:
    with pytest.raises(NotServed) as caught:
        check_overrides(block_of(), target_length=2048, config=own)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
