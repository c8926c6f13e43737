"""A whole evaluation through the controller: the pocket model and a checkpoint of it, on real generating workers."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evaluation.errors import CorpusNotFound, InvalidDocumentRequest
from evaluation.models.source import resolve_model
from evaluation.ruler.tasks import tasks_of
from finetune.language_model import load_model
from finetune.output.checkpoint import write_checkpoint
from ropewalk.errors import FactorsDoNotFit
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.evaluation import EvaluationReport
from ropewalk.wire.kinds import JobState
from ropewalk.wire.reports import FinetuneReport
from search_space.candidates.baselines import baseline
from service.door import Door
from service.errors import InvalidSpec
from service.evaluations.prepare import prepare_evaluation
from service.specs.evaluation import EvaluationSpec
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from tests.helpers.searches import controller
from tests.helpers.tiny_llama import make_factor_file
from tests.helpers.waiting import wait_until
from workers.errors import ScorerUnavailable
from workers.harness.names import check_tasks

LENGTH = 512
ENDS_WITHIN_SECONDS = 300.0
HAS_HARNESS = importlib.util.find_spec("lm_eval") is not None
needs_harness = pytest.mark.skipif(not HAS_HARNESS, reason="needs lm-evaluation-harness (the extra eval)")


@pytest.fixture(scope="module")
def factors() -> FactorFile:
    return make_factor_file(resolve_model("pocket"), target_length=LENGTH, name="ntk")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, factors: FactorFile) -> Path:
    """As fine-tuning writes it, without a step of training."""
    source = resolve_model("pocket")
    output = tmp_path_factory.mktemp("trained") / "checkpoint"
    write_checkpoint(load_model(source.path), source=source, file=factors, model_card="", output=output)
    return output


def finished_finetune(jobs: JobStore, checkpoint: Path, factors: FactorFile) -> str:
    created = jobs.create("finetune", "{}").job
    claimed = jobs.claim("test", 60)
    assert claimed is not None
    for state in (JobState.preparing, JobState.training):
        jobs.transition(claimed[1], state)
    result = FinetuneReport(
        checkpoint=str(checkpoint),
        model=factors.model.name,
        target_length=factors.target_length,
        factors=factors,
        steps=0,
        tokens=0,
        initial_loss_long=0.0,
        final_loss_long=0.0,
        seconds=0.0,
    )
    jobs.transition(claimed[1], JobState.succeeded, result_json=result.to_json())
    return created.id


def evaluate(database: Database, home: Path, spec: dict[str, Any]) -> dict[str, Any]:
    door = Door(database)
    job = door.submissions.submit_evaluation(EvaluationSpec.model_validate(spec)).job
    with controller(database, home):
        wait_until(lambda: door.job("evaluation", job.id).state.is_final, ENDS_WITHIN_SECONDS)
    ended = door.job("evaluation", job.id)
    assert ended.state is JobState.succeeded, ended.error_message
    assert ended.result_json is not None
    assert ended.progress.document_passes == ended.progress.total_document_passes
    result: dict[str, Any] = json.loads(ended.result_json)
    assert result["tokens"] == ended.progress.tokens >= sum(row["documents"] for row in result["rows"][:1])
    assert ended.progress.seconds_left == 0.0
    return result


def test_everything_is_measured_for_everyone(
    ray_cluster: None, database: Database, tmp_path: Path, factors: FactorFile, checkpoint: Path
) -> None:
    spec = {
        "model": None,
        "factors": json.loads(factors.to_json()),
        "finetune_id": finished_finetune(JobStore(database), checkpoint, factors),
        "lengths": [LENGTH],
        "documents": 2,
        "baselines": False,
        "text_windows": 2,
        "tasks": ["niah_single_1"],
        "ruler_documents": 1,
        "threshold": 0,
    }
    result = evaluate(database, tmp_path, spec)
    names = ["none", "found factors", "fine-tuned"]
    assert [(row["name"], row["length"]) for row in result["text"]] == [(n, k) for n in names for k in (256, LENGTH)]
    by = {(row["name"], row["length"]): row for row in result["text"]}
    assert by["none", 256]["perplexity"] == by["found factors", 256]["perplexity"], "within L nothing has changed"
    assert by["fine-tuned", LENGTH]["nll"] == pytest.approx(by["found factors", LENGTH]["nll"], abs=1e-6)
    assert by["found factors", LENGTH]["perplexity"] < by["none", LENGTH]["perplexity"]
    assert {row["tokens"] for row in result["text"]} == {2 * 255}
    assert [(row["name"], row["length"]) for row in result["ruler"]] == [(name, LENGTH) for name in names]
    for row in result["ruler"]:
        assert 0.0 <= row["scores"]["niah_single_1"] == row["average"] <= 100.0
    (overlap,) = result["overlap"]
    assert (overlap["length"], overlap["documents"]) == (LENGTH, 2)
    assert result["effective_lengths"] == dict.fromkeys(names, LENGTH), "every average reaches a threshold of 0"
    kept = {(one["name"], one["measure"]): one["kept"] for one in result["retention"]}
    assert kept["found factors", "perplexity"] == 100.0
    assert kept["fine-tuned", "next-token accuracy"] == pytest.approx(100.0, abs=1.0)


def test_what_documents_share_is_told(database: Database, tmp_path: Path) -> None:
    """Of a text that says little: the job's history, its result and its warnings have it."""
    words = [f"word{number}" for number in range(60)]
    lines = [" ".join(words[at:] + words[:at]) + "." for at in range(60)]
    (tmp_path / "same.txt").write_text("\n\n".join(lines * 30))
    spec = {"model": "pocket", "target_length": 512, "documents": 6, "corpus": str(tmp_path / "same.txt")}
    door = Door(database)
    given = EvaluationSpec.model_validate({**spec, "scorer": {"backend": "analytic"}})
    job = door.submissions.submit_evaluation(given).job
    with controller(database, tmp_path, lease_seconds=60.0):
        wait_until(lambda: door.job("evaluation", job.id).state.is_final)
    result = door.job("evaluation", job.id).result_json
    assert result is not None
    short, long = EvaluationReport.from_json(result).overlap
    assert (short.length, long.length, long.documents) == (256, 512, 6)
    assert long.share > 0.5
    assert 1.0 <= long.effective_documents < 3.0
    told = [warning for warning in door.warnings(job.id) if "share text with each other" in warning]
    assert any("6 documents of 512 tokens share text" in one for one in told)
    events = [event for event in door.events("evaluation", job.id) if event.type == "documents.overlap"]
    assert [json.loads(event.data_json)["length"] for event in events] == [256, 512]


def test_a_checkpoint_directory_is_evaluated_as_the_job_that_wrote_it(
    database: Database, factors: FactorFile, checkpoint: Path
) -> None:
    jobs = JobStore(database)
    fields = {"model": None, "documents": 2, "lengths": (LENGTH,), "baselines": False}
    by_job = EvaluationSpec.model_validate({**fields, "finetune_id": finished_finetune(jobs, checkpoint, factors)})
    by_path = EvaluationSpec.model_validate({**fields, "checkpoint": str(checkpoint)})
    assert prepare_evaluation(by_path, jobs).contenders == prepare_evaluation(by_job, jobs).contenders


@pytest.mark.parametrize("change", [{"rope_theta": 500_000.0}, {"sha256": "0" * 64}])
def test_a_checkpoint_of_another_model_is_not_compared(
    database: Database, factors: FactorFile, checkpoint: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    """Its own factor file is checked, also where the factors that are evaluated come from elsewhere."""
    shutil.copytree(checkpoint, tmp_path / "other")
    file = replace(factors, model=replace(factors.model, **change))
    (tmp_path / "other" / "factors.json").write_text(file.to_json())
    spec = EvaluationSpec(
        model="pocket", factors=json.loads(factors.to_json()), checkpoint=str(tmp_path / "other"), documents=2
    )
    with pytest.raises(FactorsDoNotFit, match="must be the model's"):
        prepare_evaluation(spec, JobStore(database))


def test_formulas_at_a_critical_pair_get_the_found_one(database: Database, factors: FactorFile) -> None:
    moved = replace(factors, critical_pair=9)
    spec = EvaluationSpec(model=None, factors=json.loads(moved.to_json()), lengths=(LENGTH,), documents=2)
    made = {one.name: one for one in prepare_evaluation(spec, JobStore(database)).contenders}
    rope = resolve_model("pocket").rope
    for name in ("ntk_critical", "yarn_critical"):
        expected = baseline(name, rope, factors.target_length, critical_pair=9).scaling.factors
        assert made[name].rope.scaling.factors == expected
        assert expected != baseline(name, rope, factors.target_length).scaling.factors
    assert made["yarn_critical"].rope != made["yarn"].rope


def test_an_adapter_is_merged_first(database: Database, factors: FactorFile, tmp_path: Path) -> None:
    """It is no model; loaded over its base model it would run without the RoPE that it was trained with."""
    (tmp_path / "adapter_config.json").write_text("{}")
    door, jobs = Door(database), JobStore(database)
    with pytest.raises(InvalidSpec, match=r"finetune_id must .* `ropewalk merge .*checkpoint=DIRECTORY") as refused:
        door.submissions.submit_evaluation(EvaluationSpec(finetune_id=finished_finetune(jobs, tmp_path, factors)))
    assert refused.value.pointer == "/finetune_id"
    with pytest.raises(InvalidSpec, match=r"checkpoint must .* `ropewalk merge ") as refused:
        door.submissions.submit_evaluation(EvaluationSpec(checkpoint=str(tmp_path)))
    assert refused.value.pointer == "/checkpoint"
    with pytest.raises(InvalidSpec, match=r"checkpoint must be a directory that holds config.json and factors.json"):
        door.submissions.submit_evaluation(EvaluationSpec(checkpoint=str(tmp_path / "nothing")))
    with pytest.raises(ValidationError, match="at most one of finetune_id and checkpoint"):
        EvaluationSpec(checkpoint=str(tmp_path), finetune_id="ft_1")


@pytest.mark.skipif(HAS_HARNESS, reason="lm-evaluation-harness is installed")
def test_without_the_harness_its_tasks_are_refused(database: Database) -> None:
    spec = EvaluationSpec(target_length=LENGTH, harness=("hellaswag",))
    with pytest.raises(ScorerUnavailable, match=r"pip install '\.\[eval\]'"):
        Door(database).submissions.submit_evaluation(spec)


@needs_harness
def test_harness_tasks_of_ones_own(
    ray_cluster: None, database: Database, tmp_path: Path, factors: FactorFile, checkpoint: Path
) -> None:
    rows = [{"text": f"A value is {n}.", "choices": ["yes", "no"], "label": n % 2} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "own_task.yaml").write_text(
        "task: own_task\n"
        "dataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.jsonl'}}}}}\n"
        "test_split: test\n"
        "output_type: multiple_choice\n"
        'doc_to_text: "{{text}}"\n'
        "doc_to_target: label\n"
        'doc_to_choice: "{{choices}}"\n'
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    spec = {
        "finetune_id": finished_finetune(JobStore(database), checkpoint, factors),
        "documents": 2,
        "baselines": False,
        "harness": ["own_task"],
        "harness_path": str(tmp_path),
    }
    result = evaluate(database, tmp_path, spec)
    assert [(row["name"], row["task"], row["metric"]) for row in result["harness"]] == [
        ("none", "own_task", "acc"),
        ("fine-tuned", "own_task", "acc"),
    ]
    (kept,) = result["retention"]
    assert (kept["name"], kept["measure"], kept["length"]) == ("fine-tuned", "own_task: acc", None)
    for named, told in (
        ("no_such_task", f"tasks of lm-evaluation-harness or of {tmp_path}, but got 'no_such_task'"),
        ("own_tsak", "but got 'own_tsak'; did you mean 'own_task'?"),
        ("hellaswg", "but got 'hellaswg'; did you mean 'hellaswag'?"),
    ):
        with pytest.raises(InvalidSpec, match=told) as no:
            Door(database).submissions.submit_evaluation(EvaluationSpec.model_validate({**spec, "harness": [named]}))
        assert no.value.pointer == "/harness"


@needs_harness
def test_tasks_of_the_harness_itself_are_known_in_no_time() -> None:
    check_tasks(["hellaswag", "gsm8k", "mmlu", "flores_afr-eng", "bertaqa", "RC_tasks"], None)


def test_tasks_are_named_or_all(tmp_path: Path) -> None:
    assert EvaluationSpec(target_length=LENGTH).ruler_tasks == ()
    assert EvaluationSpec.model_validate({"target_length": LENGTH, "tasks": "all"}).ruler_tasks == tasks_of(["all"])
    with_data = EvaluationSpec(target_length=LENGTH, tasks=("all",), squad="squad.json")
    assert with_data.ruler_tasks == (*tasks_of(["all"]), "qa_1")
    assert EvaluationSpec.model_validate_json(with_data.canonical_json()) == with_data


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tasks": ["niah"]}, "a task other than all must be one of niah_single_1"),
        ({"tasks": ["qa_2"]}, "hotpotqa must be given for RULER's qa_2"),
        ({"threshold": 101}, "threshold"),
        ({"text_windows": -1}, "text_windows"),
        ({"harness": [""]}, "harness"),
    ],
)
def test_what_is_wrong_with_a_spec_is_said(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        EvaluationSpec.model_validate({"target_length": LENGTH, **fields})


@pytest.mark.parametrize(
    ("fields", "error", "told"),
    [
        (
            {"lengths": [2]},
            InvalidDocumentRequest,
            "^lengths must leave at least 8 tokens .* but got lengths=2, needles=1",
        ),
        ({"tasks": ["cwe"], "lengths": [600]}, InvalidDocumentRequest, r"at least \d+ tokens .* RULER's cwe"),
        ({"tasks": ["vt"], "scorer": {"backend": "analytic"}}, ScorerUnavailable, "backend=transformers"),
        ({"tasks": ["qa_1"], "squad": "/nowhere/dev-v2.0.json"}, CorpusNotFound, "must exist"),
    ],
)
def test_what_cannot_run_here_is_refused_before_the_job(
    database: Database, fields: dict[str, Any], error: type[Exception], told: str
) -> None:
    spec = EvaluationSpec.model_validate({"target_length": 1024, "documents": 2, **fields})
    with pytest.raises(error, match=told):
        Door(database).submissions.submit_evaluation(spec)
