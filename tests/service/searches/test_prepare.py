"""What is refused at the door because the model, the corpus or the budget says so: told once, before a job exists."""

from pathlib import Path
from typing import Any

import pytest

from evaluation.errors import CorpusNotFound, CorpusTooShort, InvalidDocumentRequest, ModelNotFound
from finetune.errors import InvalidFinetuneSettings
from search_space.errors import InvalidStrategy
from service.errors import InvalidSpec
from service.searches.prepare import prepare_search
from service.specs.search import SearchSpec
from workers.errors import ScorerUnavailable

MINIMAL: dict[str, Any] = {"model": "pocket", "target_length": 512}
SKIPPED: dict[str, Any] = {"steps": 3, "warmup_steps": 1, "long_documents_per_step": 0, "skipped_rows_per_step": 2}


def prepare(**fields: object) -> None:
    prepare_search(SearchSpec.model_validate({**MINIMAL, **fields}), weights=False)


def test_a_good_spec_is_accepted() -> None:
    prepare(finetune={"steps": 3})
    prepare(finetune=SKIPPED)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"model": "./no/such/model"}, ModelNotFound, "no/such/model"),
        ({"target_length": 128}, InvalidDocumentRequest, "at least original_length"),
        ({"target_length": 256}, InvalidSpec, "greater than the model's original length"),
        ({"original_length": 512, "target_length": 1024}, InvalidSpec, "model serves, 256, .* original_length=512"),
        ({"strategy": {"name": "magic"}}, InvalidStrategy, "magic"),
        ({"strategy": {"name": "evolution", "popultion": 3}}, InvalidStrategy, "popultion"),
        ({"objective": {"corpus": "/no/such.txt"}}, CorpusNotFound, r"/no/such\.txt"),
        ({"finetune": {"corpus": "/no/such.txt"}}, CorpusNotFound, r"/no/such\.txt"),
        ({"finetune": {"steps": 3, "warmup_steps": 4}}, InvalidFinetuneSettings, "warmup_steps"),
        (
            {"finetune": {**SKIPPED, "skipped_tokens": 40}},
            InvalidDocumentRequest,
            "skipped tokens must leave at least 8",
        ),
        (
            {"finetune": {**SKIPPED, "skipped_tokens": 509}},
            InvalidFinetuneSettings,
            "skipped_tokens=509, skipped_gaps=4",
        ),
        ({"finetune": {**SKIPPED, "skipped_reach": 513}}, InvalidFinetuneSettings, "reach=513, .*target_length=512"),
        (
            {"finetune": {**SKIPPED, "short_tokens": 255}},
            InvalidFinetuneSettings,
            "short_tokens=255, original_length=256",
        ),
        ({"scorer": {"backend": "vllm"}}, ScorerUnavailable, "vllm"),
        ({"scorer": {"tensor_parallel": 2}}, ScorerUnavailable, "tensor_parallel=2"),
        ({"budget": {"max_document_passes": 95}}, InvalidStrategy, r"auto's first generation, 26 .* \(104\)"),
        (
            {"budget": {"max_tokens": 104 * 512 - 1}},
            InvalidStrategy,
            r"first generation, .* \(53248\), .*max_tokens=53247",
        ),
        (
            {"budget": {"max_tokens": 104 * 256 - 1}, "objective": {"skipped": {"alone": True}}},
            InvalidStrategy,
            r"26 candidates on 1024 tokens each \(26624\)",
        ),
        ({"strategy": {"name": "evolution"}, "budget": {"max_trials": 63}}, InvalidStrategy, "at least the 64"),
        (
            {"objective": {"skipped": {"alone": False}}, "strategy": {"name": "evolution"}},
            InvalidSpec,
            "skipped.alone must be true with strategy evolution",
        ),
        ({"objective": {"skipped": {"tokens": 511}}}, InvalidSpec, "tokens=511, gaps=2, target_length=512"),
        ({"objective": {"skipped": {"tokens": 20}}}, InvalidDocumentRequest, "skipped tokens must leave at least 8"),
        ({"target_length": 10_000_000}, CorpusTooShort, r"must have at least the \d+ tokens"),
    ],
)
def test_the_rule_and_the_value_are_named(fields: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        prepare(**fields)


def test_only_search_documents_skip_positions() -> None:
    spec = SearchSpec.model_validate(
        {**MINIMAL, "objective": {"skipped": {"gaps": 1, "alone": True}, "validation_documents": 2}}
    )
    prepared = prepare_search(spec, weights=False)
    searched, validated = prepared.documents("search")[0], prepared.documents("validation")[0]
    assert (len(searched.token_ids), searched.length, len(searched.jumps)) == (256, 512, 1)
    assert (len(validated.token_ids), validated.length, validated.jumps) == (512, 512, ())


def test_a_skipped_document_costs_its_own_tokens() -> None:
    for objective, tokens in (({}, 512), ({"skipped": {"tokens": 128, "alone": True}}, 128)):
        prepared = prepare_search(SearchSpec.model_validate({**MINIMAL, "objective": objective}), weights=False)
        assert prepared.cost.of(range(3)) == 3 * tokens
        assert prepared.strategy.max_tokens == prepared.strategy.max_document_passes * tokens


def test_full_documents_come_before_skipped_ones() -> None:
    objective = {"documents": 3, "skipped": {"tokens": 128, "documents": 5}, "validation_documents": 2}
    prepared = prepare_search(SearchSpec.model_validate({**MINIMAL, "objective": objective}), weights=False)
    tokens = [len(document.token_ids) for document in prepared.documents("search")]
    assert tokens == [512] * 3 + [128] * 5
    assert prepared.cost.of(range(8)) == sum(tokens)


def test_a_model_without_rope_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_positions": 1024, "n_embd": 64, "n_head": 4}')
    with pytest.raises(ValueError, match=r"(?i)rope|position"):
        prepare(model=str(tmp_path))
