"""What a spec alone can get wrong."""

import json

import pytest
from pydantic import ValidationError

from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from service.specs.search import SearchSpec

MINIMAL = {"model": "pocket", "target_length": 1024}


def test_a_spec_needs_a_model_and_a_target_length_only() -> None:
    spec = SearchSpec.model_validate(MINIMAL)
    assert spec.objective.documents == 24
    assert spec.strategy.name == "auto"
    assert spec.budget.max_trials == 1344
    assert spec.scorer.attention_factor == "search"
    assert spec.finetune is None


def test_the_canonical_text_says_every_default_and_reads_back() -> None:
    spec = SearchSpec.model_validate({**MINIMAL, "strategy": {"name": "evolution", "population": 8}})
    text = spec.canonical_json()
    assert json.loads(text)["objective"]["validation_documents"] == 320
    assert json.loads(text)["strategy"] == {"name": "evolution", "population": 8}
    assert SearchSpec.model_validate_json(text) == spec


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target_length", 1),
        ("target_length", "many"),
        ("workers", 0),
        ("seed", -1),
        ("budget", {"max_trials": -5}),
        ("budget", {"max_document_passes": 0}),
        ("budget", {"max_tokens": 0}),
        ("objective", {"documents": 0}),
        ("objective", {"needles_per_document": 0}),
        ("scorer", {"attention_factor": float("nan")}),
        ("scorer", {"backend": "magic"}),
        ("model", ""),
        ("tragedy", 1),
    ],
)
def test_a_bad_field_is_named(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        SearchSpec.model_validate({**MINIMAL, field: value})
    assert caught.value.errors()[0]["loc"][0] == field


def test_finetune_may_be_true() -> None:
    assert SearchSpec.model_validate({**MINIMAL, "finetune": True}).finetune is not None
    assert SearchSpec.model_validate({**MINIMAL, "finetune": False}).finetune is None


def test_a_spec_is_frozen() -> None:
    spec = SearchSpec.model_validate(MINIMAL)
    with pytest.raises(ValidationError):
        spec.seed = 4  # type: ignore[misc]


def test_a_given_factor_file_is_stored_as_it_was_written() -> None:
    """Its order, its whole numbers and what it leaves out: the same request has the same hash."""
    given = {"target_length": 1024, "long_factor": [1, 2.50], "format": "ropewalk.factors/1"}
    for spec in (FinetuneSpec.model_validate({"factors": given}), EvaluationSpec.model_validate({"factors": given})):
        text = spec.canonical_json()
        assert '"factors":{"target_length":1024,"long_factor":[1,2.5],"format":"ropewalk.factors/1"}' in text
        assert type(spec).model_validate_json(text) == spec


@pytest.mark.parametrize("given", [{}, {"search_id": "srch_1", "factors": {}}])
def test_a_fine_tuning_job_takes_its_factors_from_exactly_one_place(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        FinetuneSpec.model_validate(given)


def test_an_evaluation_must_know_its_length() -> None:
    with pytest.raises(ValidationError, match="target_length must be given"):
        EvaluationSpec.model_validate({"model": "pocket"})
    assert EvaluationSpec.model_validate({"model": "pocket", "target_length": 512}).documents == 40
