"""A model of the Hub: the commit is found once, at submission, and every run and every later job reads that one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from evaluation.models.source import resolve_model
from ropewalk.wire.reports import SearchReport
from service.door import Door
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from service.specs.plan import PlanOptions
from service.specs.search import SearchSpec
from storage.postgres.database import Database
from tests.helpers.hub_stand_in import hub_stand_in, use_hub
from tests.helpers.paths import POCKET
from tests.helpers.searches import SPEC, controller
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # of the library that uploads


def _push(api: HfApi, pocket: Path, **changes: object) -> str:
    config = json.loads((pocket / "config.json").read_text()) | changes
    rest = [file for file in sorted(pocket.iterdir()) if file.name != "config.json"]
    operations = [CommitOperationAdd(file.name, str(file)) for file in rest]
    operations.append(CommitOperationAdd("config.json", json.dumps(config).encode()))
    return api.create_commit("lab/pocket", operations, commit_message="a model").oid


def test_a_search_of_a_branch_stays_at_the_commit_that_it_was_submitted_with(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_stand_in() as url:
        use_hub(url, tmp_path / "cache", monkeypatch)
        api = HfApi(endpoint=url, token="hf_writer")
        api.create_repo("lab/pocket")
        first = _push(api, POCKET)
        door = Door(database)
        spec = SearchSpec.model_validate({**SPEC, "model": "lab/pocket@main"})
        assert door.submissions.validate_search(spec).spec.model == f"lab/pocket@{first}"
        assert door.plan_search(spec, PlanOptions()).model == "lab/pocket"
        job = door.submissions.submit_search(spec).job
        moved = _push(api, POCKET, max_position_embeddings=384)
        use_hub(url, tmp_path / "another machine", monkeypatch)
        with controller(database, tmp_path, lease_seconds=60.0):
            wait_until(lambda: door.job("search", job.id).state.is_final)
        done = door.job("search", job.id)
        assert done.result_json is not None, done.error_message
        factors = SearchReport.from_json(done.result_json).factors
        assert (factors.model.name, factors.model.revision) == ("lab/pocket", first)
        assert factors.original_max_position_embeddings == 256

        assert resolve_model("lab/pocket@main", weights=False).revision == moved
        finetune = door.submissions.submit_finetune(
            FinetuneSpec.model_validate({"search_id": job.id, "settings": {"steps": 1}})
        )
        evaluation = door.submissions.submit_evaluation(
            EvaluationSpec.model_validate({"search_id": job.id, "documents": 4, "scorer": {"backend": "analytic"}})
        )
        for created in (finetune, evaluation):
            assert json.loads(created.job.spec_json)["model"] == f"lab/pocket@{first}"
