"""A search of a model that is loaded already: the factors of its directory, and the model as it was."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedModel,
)

import ropewalk
from ropewalk.errors import FactorsDoNotFit, RopewalkError
from ropewalk.found import Factors
from ropewalk.searching import find_factors
from tests.helpers.paths import POCKET, ROOT
from tests.helpers.tiny_llama import tiny_directory
from tests.helpers.vllm_models import save_phi3

__all__ = ["tiny_directory"]

PAGE = ROOT / "docs" / "python.md"
SPEC: dict[str, Any] = {
    "objective": {"documents": 2, "validation_documents": 2},
    "strategy": {"name": "evolution", "population": 8, "iterations": 1, "parents": 2, "mutations": 2, "crossovers": 1},
}


@pytest.fixture
def tiny(tiny_directory: Path) -> PreTrainedModel:
    return _loaded(tiny_directory)


@pytest.fixture(scope="module")
def tokenizer(tiny_directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_directory)


def _loaded(path: Path, **options: Any) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, **options)
    return model


def _state(model: PreTrainedModel) -> tuple[object, ...]:
    """All that scoring could leave behind."""
    rotary = [module for module in model.modules() if hasattr(module, "inv_freq")]
    return (
        model.config.to_dict(),
        {name: (value.dtype, value.is_meta or value.tolist()) for name, value in model.named_buffers()},
        [{name: vars(module).get(name) for name in ("rope_type", "attention_scaling")} for module in rotary],
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
    )


@pytest.mark.parametrize(
    ("strategy", "training"), [(SPEC["strategy"], False), ({"name": "gradient", "steps": 1}, True)], ids=["bred", "led"]
)
def test_it_finds_what_is_found_in_its_directory(
    tiny: PreTrainedModel, tiny_directory: Path, tokenizer: Any, strategy: dict[str, Any], training: bool
) -> None:
    """While it is trained too: it is scored as in use, and goes on to be trained."""
    tiny.train(training)
    before, weights = _state(tiny), {name: value.clone() for name, value in tiny.state_dict().items()}
    spec = SPEC | {"strategy": strategy, "seed": 3}
    found = find_factors(tiny, 384, tokenizer=tokenizer, **spec).file
    expected = find_factors(tiny_directory, 384, **spec).file
    assert expected.model.sha256 is not None
    assert found == replace(expected, model=replace(expected.model, sha256=None))
    assert _state(tiny) == before
    assert all(torch.equal(value, weights[name]) for name, value in tiny.state_dict().items())


def test_what_it_finds_is_for_that_model(tiny: PreTrainedModel, tokenizer: Any, tmp_path: Path) -> None:
    ids = torch.tensor([tokenizer("The grass is green. " * 80)["input_ids"][:300]])
    factors = find_factors(tiny, 384, tokenizer=tokenizer, **SPEC)
    factors.write(tmp_path / "factors.json")
    with Factors.read(tmp_path).apply(tiny), torch.no_grad():
        assert tiny(ids).logits.isfinite().all()
    assert find_factors(tiny, 384, tokenizer=tokenizer, **SPEC) == factors


def test_a_model_that_was_cast_keeps_its_coarse_frequencies(tiny: PreTrainedModel, tokenizer: Any) -> None:
    cast: Any = tiny
    model = cast.to(torch.bfloat16)
    before = _state(model)
    assert find_factors(model, 384, tokenizer=tokenizer, **SPEC).target_length == 384
    assert _state(model) == before


def test_a_model_with_published_factors_keeps_them(tokenizer: Any, tmp_path: Path) -> None:
    model = _loaded(save_phi3(tmp_path / "phi3"))
    model.resize_token_embeddings(len(tokenizer))
    before = _state(model)
    found = find_factors(model, 320, tokenizer=tokenizer, original_length=128, **SPEC)
    assert (found.original_length, found.target_length) == (128, 320)
    assert _state(model) == before


def test_a_model_that_was_never_a_file_has_its_class_as_a_name(tiny: PreTrainedModel, tokenizer: Any) -> None:
    stated = {name: value for name, value in tiny.config.to_dict().items() if name != "_name_or_path"}
    build: Any = LlamaForCausalLM
    model = build(LlamaConfig.from_dict(stated))
    assert find_factors(model, 320, tokenizer=tokenizer, **SPEC).model == "LlamaForCausalLM"


def _refusal(model: Any, tokenizer: Any, **spec: Any) -> RopewalkError:
    before = _state(model) if isinstance(model, PreTrainedModel) else ()
    with pytest.raises(RopewalkError) as refused:
        find_factors(model, 384, tokenizer=tokenizer, **{**SPEC, **spec})
    assert "\n" not in str(refused.value)
    assert not isinstance(model, PreTrainedModel) or _state(model) == before
    return refused.value


def test_a_model_that_has_factors_is_refused(tiny: PreTrainedModel, tiny_directory: Path, tokenizer: Any) -> None:
    factors = find_factors(tiny_directory, 384, **SPEC)
    with factors.apply(tiny):
        told = _refusal(tiny, tokenizer)
        assert isinstance(told, FactorsDoNotFit)
        assert "must be without factors, but has some: call remove() on them first: <factors for" in str(told)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"scorer": {"backend": "vllm"}},
            "scorer.backend must be auto or transformers with a loaded model, but got vllm",
        ),
        ({"scorer": {"dtype": "float16"}}, "scorer.dtype must be auto or float32 with a loaded model, but got float16"),
        ({"scorer": {"tensor_parallel": 2}}, "scorer.tensor_parallel must be 1 with a loaded model, but got 2"),
        ({"seed": -1}, "/seed: "),
    ],
)
def test_a_spec_that_asks_for_another_model_is_refused(
    tiny: PreTrainedModel, tokenizer: Any, spec: dict[str, Any], told: str
) -> None:
    assert told in str(_refusal(tiny, tokenizer, **spec))


def test_what_cannot_be_searched_is_said_in_a_line(tiny: PreTrainedModel, tokenizer: Any) -> None:
    build: Any = LlamaForCausalLM
    with torch.device("meta"):
        nowhere = build(tiny.config)
    whole: Any = LlamaModel
    headless, turnless = whole(tiny.config), _gpt2()
    others: Any = AutoTokenizer.from_pretrained(POCKET)
    cases: list[tuple[Any, Any, str]] = [
        (
            tiny,
            None,
            "a loaded model must come with its tokenizer, as transformers loads it: tokenizer=..., but got no",
        ),
        (tiny, "gpt2", "tokenizer=..., but got str"),
        (None, tokenizer, "model must be a name, a directory or a loaded transformers model, but got NoneType"),
        (torch.nn.Linear(2, 2), tokenizer, "but got torch.nn.modules.linear.Linear"),
        (POCKET, tokenizer, f"a tokenizer is for a loaded model, but got one with the name '{POCKET}'"),
        (nowhere, tokenizer, "must all be in the memory of one device, but are on meta"),
        (headless, tokenizer, "(logits_to_keep), but LlamaModel does not"),
        (tiny, others, "the tokenizer must be the model's own, which has 400 tokens, but got token"),
        (turnless, tokenizer, "must use rotary positions, but GPT2LMHeadModel adds"),
    ]
    for model, words, told in cases:
        error = _refusal(model, words)
        assert told in str(error), (told, error)


def _gpt2() -> PreTrainedModel:
    build: Any = GPT2LMHeadModel
    config = GPT2Config(n_positions=256, n_embd=32, n_layer=1, n_head=2, vocab_size=400, bos_token_id=0, eos_token_id=0)
    model: PreTrainedModel = build(config)
    return model


def test_the_example_of_the_page_runs(tiny: PreTrainedModel, tokenizer: Any) -> None:
    block = re.compile(r"^factors = (ropewalk\.find_factors\(\n    model, .*\n\))$", flags=re.MULTILINE)
    (call,) = block.findall(PAGE.read_text())
    found = eval(call, {"ropewalk": ropewalk, "model": tiny, "tokenizer": tokenizer})
    assert isinstance(found, Factors)
    assert found.target_length == 1024
