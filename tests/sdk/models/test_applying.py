"""Factors in a loaded model: what the service scored with past L, the model itself within it."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel

from evaluation.documents.corpus import Corpus
from evaluation.documents.needle import NeedleDocument
from evaluation.models.source import load_tokenizer, resolve_model
from ropewalk.errors import FactorsDoNotFit, UnsupportedRope
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.found import Factors
from ropewalk.models.generating import generate
from ropewalk.models.rotary import rescaled_parts
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baseline
from tests.helpers.samples import ROPE, STRETCHED, document, longrope_config
from workers.base import Scorer, ScorerSettings
from workers.factory import make_scorer

ORIGINAL, TARGET = 256, 1024
ATTENTION = 1.15


def _factors(*, attention: float = ATTENTION, target: int = TARGET) -> Factors:
    source = resolve_model("pocket")
    scaling = Scaling(baseline("yarn", source.rope, target).scaling.factors, attention)
    identity = ModelIdentity.of(source.rope, name="pocket")
    return Factors(FactorFile.of(source.rope, scaling, model=identity, target_length=target))


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    settings = ScorerSettings(
        model="pocket",
        backend="transformers",
        dtype="float32",
        original_length=ORIGINAL,
        target_length=TARGET,
        threads=1,
    )
    opened = make_scorer(settings)
    yield opened
    opened.close()


def _log_probabilities(model: PreTrainedModel, one: NeedleDocument) -> float:
    """Of the answer, summed over its tokens."""
    run: Any = model
    with torch.no_grad():
        found = run(torch.tensor([one.token_ids])).logits[0].log_softmax(-1)
    positions = [position for span in one.answer_spans for position in range(*span)]
    return sum(float(found[position - 1, one.token_ids[position]]) for position in positions)


def _logits(model: PreTrainedModel, length: int) -> torch.Tensor:
    run: Any = model
    with torch.no_grad():
        logits: torch.Tensor = run(torch.tensor([document(0, length=length).token_ids])).logits
    return logits


@pytest.mark.parametrize("length", [100, ORIGINAL, ORIGINAL + 1, TARGET])
def test_log_probabilities_are_those_of_the_service(pocket: PreTrainedModel, scorer: Scorer, length: int) -> None:
    factors = _factors()
    rope = factors.file.rope
    scaling = factors.file.scaling if length > ORIGINAL else Scaling.identity(rope.num_pairs)
    one = document(1, length=length, answer_tokens=7)
    (scored,) = scorer.score(scaling, [one])
    with factors.apply(pocket):
        found = _log_probabilities(pocket, one)
    assert -found == pytest.approx(scored.nats, abs=1e-5)
    if length > ORIGINAL:
        assert abs(_log_probabilities(pocket, one) - found) > 0.01, "the factors make a difference"


def test_within_the_original_length_the_model_is_its_own_to_the_last_bit(pocket: PreTrainedModel) -> None:
    before = {length: _logits(pocket, length) for length in (64, ORIGINAL, TARGET)}
    with _factors().apply(pocket):
        for length in (ORIGINAL, TARGET, 64, ORIGINAL):  # each choice is made anew
            same = torch.equal(_logits(pocket, length), before[length])
            assert same == (length <= ORIGINAL)
    for length, logits in before.items():
        assert torch.equal(_logits(pocket, length), logits), "nothing is left behind"


def test_removing_twice_is_removing_once(pocket: PreTrainedModel) -> None:
    before = _logits(pocket, TARGET)
    applied = _factors().apply(pocket)
    assert "in the model" in repr(applied)
    applied.remove()
    applied.remove()
    assert "removed" in repr(applied)
    assert torch.equal(_logits(pocket, TARGET), before)


def test_a_copy_of_a_model_switches_by_itself(pocket: PreTrainedModel) -> None:
    with _factors().apply(pocket):
        twin = copy.deepcopy(pocket)
        long = _logits(pocket, TARGET)
    assert torch.equal(_logits(twin, TARGET), long)
    assert not torch.equal(_logits(pocket, TARGET), long)


def test_a_model_with_factors_is_refused_with_both_lengths(pocket: PreTrainedModel) -> None:
    with _factors().apply(pocket):
        before = _logits(pocket, TARGET)
        with pytest.raises(FactorsDoNotFit, match=r"those for 1024 tokens and would get those for 2048: call remove"):
            _factors(target=2048).apply(pocket)
        assert torch.equal(_logits(pocket, TARGET), before)


def _other(**changes: Any) -> PreTrainedModel:
    given: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": ORIGINAL,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    return _built(LlamaConfig(**{**given, **changes}))


def _built(config: PreTrainedConfig) -> PreTrainedModel:
    build: Any = LlamaForCausalLM
    torch.manual_seed(0)
    model: PreTrainedModel = build(config).eval()
    return model


def _state(model: PreTrainedModel) -> list[tuple[str, list[float], object, object]]:
    return [
        (part.prefix, part.inv_freq.tolist(), vars(part.module).get("rope_type"), part.attention_scaling)
        for part in rescaled_parts(model)
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hidden_size": 128}, "rotary_dim must be the model's, 64, but the factor file says 32"),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
            "rope_theta must be the model's, 500000.0, but the factor file says 10000.0",
        ),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
            "radians per position at pair 0, but it turns 0.25",
        ),
        ({"max_position_embeddings": 128}, "at most the model's, 128, but the factor file says 256"),
    ],
    ids=["another head", "another theta", "another scaling", "a shorter model"],
)
def test_another_model_is_refused_and_left_alone(changes: dict[str, Any], told: str) -> None:
    model = _other(**changes)
    before = _state(model)
    with pytest.raises(FactorsDoNotFit) as refused:
        _factors().apply(model)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert _state(model) == before
    assert not any(part.module._forward_pre_hooks for part in rescaled_parts(model))


def test_a_checkpoint_with_factors_is_refused(pocket: PreTrainedModel) -> None:
    config = _factors().config_for(pocket.config)
    assert config.rope_parameters["rope_type"] == "longrope"
    exported = _built(config)
    with pytest.raises(FactorsDoNotFit, match="factors for 1024 tokens already, and would get those for 2048"):
        _factors(target=2048).apply(exported)
    with pytest.raises(FactorsDoNotFit, match="already"):
        _factors().config_for(config.to_dict())


class _Deaf(torch.nn.Module):
    """Looks like a rotary module and computes by something else."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 10000.0 ** -(torch.arange(16) / 16), persistent=False)
        self.attention_scaling = 1.0

    def forward(self, hidden: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = position_ids[..., None].float() * (10000.0 ** -(torch.arange(16) / 16)).repeat(2)
        return angles.cos(), angles.sin()


def test_a_module_that_ignores_factors_is_refused_and_left_alone() -> None:
    model = _other()
    vars(model.model)["_modules"]["rotary_emb"] = deaf = _Deaf()
    before = deaf.inv_freq.clone()  # type: ignore[operator]
    with pytest.raises(UnsupportedRope, match="_Deaf does not rotate by the inv_freq"):
        _factors().apply(model)
    assert torch.equal(deaf.inv_freq, before)  # type: ignore[arg-type]
    assert vars(deaf)["attention_scaling"] == 1.0
    assert "rope_type" not in vars(deaf)


def test_a_published_scaling_stays_within_the_original_length() -> None:
    """Factors over a model with a scaling of its own multiply it, and its config is kept."""
    parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    model = _other(rope_parameters=parameters)
    plain = RopeConfig(rope_theta=10000.0, rotary_dim=32, original_max_position_embeddings=ORIGINAL)
    file = _factors(attention=1.0).file
    over = dataclasses.replace(
        file,
        short_factor=dataclasses.replace(file.short_factor, values=(2.0,) * plain.num_pairs),
        long_factor=dataclasses.replace(file.long_factor, values=tuple(2 * one for one in file.long_factor.values)),
    )
    with Factors(over).apply(model):
        short, long = _logits(model, ORIGINAL), _logits(model, TARGET)
    assert torch.equal(short, _logits(model, ORIGINAL))
    assert not torch.equal(long, _logits(model, TARGET))
    assert over.scaling.factors == RescaleFactors(file.long_factor.values)


def test_a_model_that_switches_by_itself_goes_on_to_do_so_within_its_length(tmp_path: Path) -> None:
    """Factors over a published longrope model: within its length it uses its own short and long factors."""
    build: Any = LlamaForCausalLM
    torch.manual_seed(0)
    model: PreTrainedModel = build(longrope_config(STRETCHED, 1.1)).eval()
    model.save_pretrained(tmp_path)
    rope = resolve_model(str(tmp_path)).rope
    assert rope.original_max_position_embeddings == 256
    scaling = Scaling(baseline("pi", rope, 512).scaling.factors, 1.2)
    file = FactorFile.of(rope, scaling, model=ModelIdentity.of(rope, name="own"), target_length=512)
    lengths = (40, 64, 65, 256)
    before = [_logits(model, length) for length in lengths]
    settings = ScorerSettings(
        model=str(tmp_path), backend="transformers", dtype="float32", original_length=256, target_length=512, threads=1
    )
    opened = make_scorer(settings)
    one = document(1, length=512, answer_tokens=7)
    (scored,) = opened.score(scaling, [one])
    opened.close()
    with Factors(file).apply(model):
        assert -_log_probabilities(model, one) == pytest.approx(scored.nats, abs=1e-5)
        for length, logits in zip(lengths, before, strict=True):
            assert torch.equal(_logits(model, length), logits), length
    plain = FactorFile.of(ROPE, scaling, model=ModelIdentity.of(ROPE, name="plain"), target_length=512)
    with pytest.raises(FactorsDoNotFit, match="'plain', but its config has factors for 256 tokens already"):
        Factors(plain).apply(model)


def test_generated_tokens_across_the_switch_are_those_of_no_cache(pocket: PreTrainedModel, corpus: Corpus) -> None:
    tokenizer = load_tokenizer(resolve_model("pocket"))
    prompt = torch.tensor([tokenizer.encode(corpus.split_text("validation")[:4000])])[:, : ORIGINAL - 8]
    run: Any = pocket
    with _factors().apply(pocket):
        expected = prompt
        for _ in range(14):
            with torch.no_grad():
                logits = run(input_ids=expected, use_cache=False).logits[0, -1]
            expected = torch.cat([expected, logits.argmax().view(1, 1)], dim=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = generate(pocket, prompt, max_new_tokens=14, do_sample=False)
        assert found.tolist() == expected.tolist()
        with pytest.warns(RuntimeWarning, match=r"a text has grown past 256 tokens .* ropewalk\.generate"):
            run.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=14, do_sample=False)
