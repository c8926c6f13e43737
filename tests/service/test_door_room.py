"""More workers than the cluster can ever hold, told or refused at submission with both numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.door import Door
from service.errors import InvalidSpec
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from service.specs.search import SearchSpec
from storage.postgres.database import Database
from tests.helpers.http_server import factor_file
from tests.helpers.searches import SPEC, controller
from tests.helpers.waiting import wait_until
from workers.pool.room import Resources

TWO_CPUS = Resources(nodes=({"CPU": 2.0},), free={"CPU": 0.0})
A_GPU = Resources(nodes=({"CPU": 8.0, "GPU": 1.0},), free={})
TOLD = "workers=1000 were asked for, but the cluster has 2 CPUs, room for 2: the job goes on with those that it gets"


def search(**changes: Any) -> SearchSpec:
    return SearchSpec.model_validate({**SPEC, "workers": 1000, **changes})


def test_a_search_is_told_and_runs_to_its_end(database: Database, tmp_path: Path) -> None:
    door = Door(database, resources=lambda: TWO_CPUS)
    assert door.submissions.validate_search(search()).warnings == (TOLD,)
    assert door.submissions.validate_search(search(workers=2)).warnings == ()
    assert Door(database).submissions.validate_search(search()).warnings == (), (
        "a server without a controller does not know"
    )
    job = door.submissions.submit_search(search()).job
    assert door.warnings(job.id) == (TOLD,)
    with controller(database, tmp_path, lease_seconds=60.0):
        wait_until(lambda: door.job("search", job.id).state.is_final)
    assert door.job("search", job.id).state == "succeeded"
    assert door.warnings(job.id) == (TOLD,), "once"


def test_an_evaluation_is_told(database: Database) -> None:
    spec = EvaluationSpec.model_validate(
        {"model": "pocket", "target_length": 512, "documents": 4, "workers": 1000, "scorer": {"backend": "analytic"}}
    )
    door = Door(database, resources=lambda: TWO_CPUS)
    assert door.warnings(door.submissions.submit_evaluation(spec).job.id) == (TOLD,)


@pytest.mark.parametrize(
    ("cluster", "workers", "message"),
    [
        (TWO_CPUS, 3, "at most the 2 that the cluster's 2 CPUs are for, because .* at once, but got workers=3"),
        (A_GPU, 2, "at most the 1 that the cluster's 1 GPUs are for, because .* at once, but got workers=2"),
    ],
)
def test_a_training_is_refused(database: Database, cluster: Resources, workers: int, message: str) -> None:
    door = Door(database, resources=lambda: cluster)
    settings = {"steps": 1, "workers": workers}
    with pytest.raises(InvalidSpec, match=message) as no:
        door.submissions.submit_finetune(FinetuneSpec.model_validate({"factors": _factors(), "settings": settings}))
    assert no.value.pointer == "/settings/workers"
    with pytest.raises(InvalidSpec, match=message) as no:
        door.submissions.validate_search(search(workers=1, target_length=1024, finetune=settings))
    assert no.value.pointer == "/finetune/workers"
    door.submissions.submit_finetune(FinetuneSpec.model_validate({"factors": _factors(), "settings": {"steps": 1}}))


def _factors() -> Any:
    return json.loads(factor_file().to_json())
