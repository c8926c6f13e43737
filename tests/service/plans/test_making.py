"""A plan against what it is a plan of, and against the formulas that it stands on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.architecture.reading import read_outline
from evaluation.errors import EvaluationError
from evaluation.models.source import resolve_model
from finetune.config import KINDS
from finetune.rows import training_tokens
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.wire.plan import Plan, PlanRow
from search_space.candidates.baselines import baseline
from service.errors import InvalidSpec
from service.evaluations.measures import MEASURES
from service.plans import measuring, training_speed
from service.plans.making import plan_evaluation, plan_finetune, plan_search
from service.plans.model import PlannedModel
from service.plans.work import Device
from service.searches.offline import run_offline
from service.searches.prepare import prepare_search
from service.searches.training import finetune_settings
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from service.specs.plan import PlanOptions
from service.specs.search import SearchSpec
from tests.helpers.searches import RACING, SPEC
from workers.analytic_backend.scorer import AnalyticScorer

WIDE: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 16384,
    "num_hidden_layers": 20,
    "num_attention_heads": 128,
    "num_key_value_heads": 16,
    "intermediate_size": 57344,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
}
"""As many weights as a model of 70 billion has, in fewer layers."""


def planned(spec: dict[str, Any], **options: object) -> Plan:
    return plan_search(SearchSpec.model_validate(spec), Device.of(PlanOptions.model_validate(options)))


def row(plan: Plan, work: str) -> PlanRow:
    return next(row for row in plan.rows if row.work == work)


def large(directory: Path) -> str:
    """A directory with a config and nothing else: neither weights nor a tokenizer."""
    (directory / "config.json").write_text(json.dumps(WIDE))
    return str(directory)


@pytest.mark.parametrize("skipped", [None, {"tokens": 100}])
@pytest.mark.parametrize("strategy", [SPEC["strategy"], {"name": "optuna", "candidates": 12, "startup": 4, "batch": 4}])
def test_the_tokens_of_a_determined_search_are_those_of_the_run(
    strategy: dict[str, Any], skipped: dict[str, Any] | None
) -> None:
    spec = {**SPEC, "strategy": strategy, "objective": {**SPEC["objective"], "skipped": skipped}}
    prepared = prepare_search(SearchSpec.model_validate(spec))
    found = run_offline(prepared, AnalyticScorer(prepared.scorer_settings())).search
    search, validation = planned(spec).rows
    assert search.bound == "exactly"
    assert (search.passes, search.tokens) == (found.search_passes, found.search_tokens)
    assert (search.expected_passes, search.expected_tokens) == (search.passes, search.tokens)
    assert validation.bound == "at most"
    assert validation.passes >= found.validation_passes
    assert validation.tokens == validation.passes * prepared.spec.target_length


def test_a_race_has_a_bound_and_an_expectation() -> None:
    prepared = prepare_search(SearchSpec.model_validate(RACING))
    found = run_offline(prepared, AnalyticScorer(prepared.scorer_settings())).search
    search = row(planned(RACING), "search")
    assert search.bound == "at most"
    assert search.tokens == prepared.strategy.max_tokens >= found.search_tokens
    assert 0 < search.expected_tokens <= search.tokens
    free = {**RACING, "budget": {}}
    limited = {**free, "budget": {"max_tokens": 110 * 512}}
    assert row(planned(free), "search").expected_tokens < row(planned(free), "search").tokens
    assert row(planned(limited), "search").expected_tokens <= 110 * 512


def test_nobody_is_dropped_from_validation_before_its_first_round() -> None:
    few = {**SPEC, "objective": {**SPEC["objective"], "validation_documents": 4}, "budget": {"max_trials": 6}}
    validation = row(planned(few), "validation")
    assert validation.expected_passes == validation.passes
    assert validation.passes == 4 * len(
        prepare_search(SearchSpec.model_validate(few)).strategy.propose(0, ()).candidates
    )


def test_operations_hours_and_money_follow_from_the_tokens() -> None:
    flops = read_outline(json.loads((resolve_model("pocket").path / "config.json").read_text())).flops
    spec = {**SPEC, "workers": 4}
    search = row(planned(spec, gpu="A100", utilisation=0.5, price_per_gpu_hour=3), "search")
    assert search.pflop == pytest.approx(search.passes * flops.of(512) / 1e15)
    assert search.gpus == 4
    assert search.hours == pytest.approx(search.pflop * 1e15 / (0.5 * 312e12) / 4 / 3600)
    assert search.price == pytest.approx(search.hours * 4 * 3)
    assert row(planned(spec, gpus=2), "search").gpus == 2
    assert row(planned(spec), "search").price is None


IN_TURN = {"recipe": "pocket", "long_documents_per_step": 1, "skipped_rows_per_step": 3, "long_every": 7}


@pytest.mark.parametrize(
    "options", [*({"recipe": name} for name in ("pocket", "one_gpu", "paper", "published")), IN_TURN]
)
def test_the_tokens_of_a_training_are_those_of_its_rows(options: dict[str, object]) -> None:
    spec = SearchSpec.model_validate({**SPEC, "finetune": options})
    source = resolve_model("pocket")
    assert spec.finetune is not None
    settings = finetune_settings(spec.finetune, source, 512)
    training = row(plan_search(spec, Device.of(PlanOptions())), "training")
    assert training.bound == "exactly"
    rows = (settings.rows_at(kind, step) for kind in KINDS for step in range(settings.steps))
    assert training.passes == sum(rows)
    assert training.tokens == training_tokens(settings, settings.steps, original_length=256, target_length=512)


def test_a_fine_tuning_job_is_planned_from_a_factor_file() -> None:
    source = resolve_model("pocket")
    file = FactorFile.of(
        source.rope,
        baseline("yarn", source.rope, 512).scaling,
        model=ModelIdentity.of(source.rope, name="pocket"),
        target_length=512,
    )
    spec = FinetuneSpec.model_validate({"factors": json.loads(file.to_json()), "settings": {"steps": 7}})
    (training,) = plan_finetune(spec, Device.of(PlanOptions())).rows
    assert training.passes == 7 * 4
    with pytest.raises(InvalidSpec, match="a plan without a server needs"):
        plan_finetune(FinetuneSpec(search_id="srch_1"), Device.of(PlanOptions()))


def test_an_evaluation_counts_its_contenders_at_every_length() -> None:
    spec = EvaluationSpec.model_validate(
        {"model": "pocket", "target_length": 512, "documents": 10, "lengths": [256, 512]}
    )
    (work,) = plan_evaluation(spec, Device.of(PlanOptions())).rows
    assert not any(measure.is_served for measure in MEASURES.values() if measure.is_asked(spec))
    assert work.bound == "exactly"
    assert work.passes % 10 == 0
    assert work.tokens < work.passes * 512


def test_a_config_alone_is_enough_and_what_would_fit_is_said(tmp_path: Path) -> None:
    asked = {"model": large(tmp_path), "target_length": 131072, "finetune": {}}
    plan = planned(asked)
    assert plan.parameters == pytest.approx(72.7e9, rel=0.01)
    assert plan.counted
    assert [one.fits for one in plan.rows] == [False, False, False]
    notes = "\n".join(plan.notes)
    for words in (
        "objective.skipped",
        "scoring takes about",
        "tensor_parallel=4 takes",
        "training takes about",
        "sharding=fsdp",
    ):
        assert words in notes
    with_ranks = planned({**asked, "scorer": {"tensor_parallel": 4}, "finetune": None})
    assert [(one.fits, one.gpus) for one in with_ranks.rows] == [(True, 4), (True, 4)]


def test_where_adamw_alone_is_too_much_another_optimiser_is_said_to_fit(tmp_path: Path) -> None:
    llama = {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32}
    sizes = {"intermediate_size": 8192, "vocab_size": 128_256, "max_position_embeddings": 8192}
    (tmp_path / "config.json").write_text(json.dumps({**llama, **sizes, "rope_theta": 500_000.0}))
    asked = {"model": str(tmp_path), "target_length": 131_072, "finetune": {}}
    plan = planned(asked, gpu="RTX 4090")
    assert not row(plan, "training").fits
    assert any("optimizer=adamw_8bit" in note and note.endswith("and fits") for note in plan.notes)
    assert row(planned({**asked, "finetune": {"optimizer": "adamw_8bit"}}, gpu="RTX 4090"), "training").fits


def test_recomputing_costs_a_forward_pass_more(tmp_path: Path) -> None:
    asked = {"model": large(tmp_path), "target_length": 131072}
    kept, again = (
        row(planned({**asked, "finetune": {"gradient_checkpointing": mode}}), "training") for mode in ("off", "on")
    )
    assert again.pflop == pytest.approx(kept.pflop * 4 / 3)
    assert again.memory_gib < kept.memory_gib


def test_a_training_is_timed_by_its_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its rows are not too long to wait for."""
    monkeypatch.setattr(training_speed, "MEASURED_SECONDS", 0.0)
    monkeypatch.setattr(measuring, "MEASURED_SECONDS", 0.0)
    spec = SearchSpec.model_validate({"model": "pocket", "target_length": 384, "finetune": {"steps": 50}})
    told: list[str] = []
    device = measuring.measured_device(spec, told.append)
    assert device.training_rate is not None
    training = row(plan_search(spec, device), "training")
    assert training.hours * 3600 == pytest.approx(training.pflop * 1e15 / device.training_rate)
    assert told[-1] == "measuring: a few steps of the training, rows of up to 384 tokens"
    monkeypatch.setattr(training_speed, "MOST_TOKENS", 383)
    model = PlannedModel.of(resolve_model("pocket"))
    assert training_speed.training_rate(model, spec, told.append) is None
    assert "rows of 384 tokens are too long to wait for" in told[-1]


def test_a_device_is_asked_at_the_length_that_it_was_measured_at() -> None:
    device = replace(Device.of(PlanOptions()), rates=((256, 1e9), (4096, 4e9)), count=1)
    short, long = (
        row(plan_search(SearchSpec.model_validate({**SPEC, "target_length": length}), device), "search")
        for length in (512, 8192)
    )
    assert short.hours == pytest.approx(short.pflop * 1e15 / 1e9 / 3600)
    assert long.hours == pytest.approx(long.pflop * 1e15 / 4e9 / 3600)


@pytest.mark.parametrize("length", [256, 100])
def test_what_no_search_could_be_is_refused(length: int) -> None:
    with pytest.raises((InvalidSpec, ValueError), match="target_length"):
        planned({"model": "pocket", "target_length": length})


def test_a_model_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nothing/here"):
        planned({"model": str(tmp_path / "nothing/here"), "target_length": 512})
