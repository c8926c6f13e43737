"""Fine-tuning with an object store for its files: real Ray Train, a real S3 server, and no directory that is shared."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from evaluation.models.source import ModelSource
from finetune.config import FinetuneSettings
from finetune.job import run_finetune
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.kinds import JobState
from ropewalk.wire.reports import FinetuneReport
from service.artifacts.copies import StoredModels
from service.artifacts.opening import open_store
from service.door import Door
from service.errors import InvalidSpec
from service.evaluations.prepare import prepare_evaluation
from service.finetunes import actor
from service.runtime.failures import RetryPolicy
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from storage.artifacts import Artifacts
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from tests.helpers.object_store import BUCKET, S3Server, s3, shared_s3
from tests.helpers.processes import below
from tests.helpers.searches import controller
from tests.helpers.tiny_llama import factor_file, tiny_directory, tiny_source
from tests.helpers.waiting import wait_until
from workers.factory import make_scorer

__all__ = ["factor_file", "s3", "shared_s3", "tiny_directory", "tiny_source"]

ENDS_WITHIN_SECONDS = 300.0
STEPS, KEPT_EVERY = 80, 5
SETTINGS: dict[str, Any] = {"steps": STEPS, "checkpoint_every": KEPT_EVERY, "long_documents_per_step": 1}
SOON = RetryPolicy(attempts=50, first_pause_seconds=0.5, longest_pause_seconds=1.0)


def _steps(door: Door, job_id: str, type: str) -> list[int]:
    events = door.events("finetune", job_id, limit=1000)
    return [json.loads(event.data_json)["step"] for event in events if event.type == type]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pauses_kills_and_an_outage_change_nothing(
    ray_cluster: None,
    database: Database,
    s3: S3Server,
    tmp_path: Path,
    tiny_source: ModelSource,
    factor_file: FactorFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another controller with another home goes on from the bucket; so does a worker after a kill, and both after the
    store was away. The checkpoint is that of a training without any of it, and is evaluated from the bucket."""
    for name, value in s3.environment.items():  # the cluster was there before the server
        monkeypatch.setitem(actor._TRAIN_ENVIRONMENT, name, value)
    alone = tmp_path / "alone"
    run_finetune(tiny_source, factor_file, FinetuneSettings(**SETTINGS), alone, lambda progress: None)
    store = open_store(f"s3://{BUCKET}/{tmp_path.name}", tmp_path, s3_endpoint=s3.url)
    door = Door(database, home=tmp_path / "api", store=store)
    spec = {"factors": json.loads(factor_file.to_json()), "settings": SETTINGS}
    job_id = door.submissions.submit_finetune(FinetuneSpec.model_validate(spec)).job.id
    with controller(database, tmp_path / "one", store=store):
        wait_until(lambda: max(_steps(door, job_id, "training.step"), default=0) > KEPT_EVERY, ENDS_WITHIN_SECONDS)
        door.request("finetune", job_id, "pause")
        wait_until(lambda: door.job("finetune", job_id).state is JobState.paused, ENDS_WITHIN_SECONDS)
    kept = {key.rpartition("/")[0] for key in store.sizes(f"{job_id}/training")}
    assert 1 <= len(kept) <= 3, "two, and one that replaces the older"
    door.request("finetune", job_id, "resume")
    with controller(database, tmp_path / "two", store=store, retry=SOON):
        wait_until(lambda: len(_steps(door, job_id, "training.resumed")) == 1, ENDS_WITHIN_SECONDS)
        (first,) = _steps(door, job_id, "training.resumed")
        wait_until(lambda: _steps(door, job_id, "training.step")[-1] > first + KEPT_EVERY, ENDS_WITHIN_SECONDS)
        for worker in below("RayTrainWorker"):
            worker.send_signal(signal.SIGKILL)
        s3.stop()
        try:
            wait_until(lambda: door.job("finetune", job_id).failures > 0, ENDS_WITHIN_SECONDS)
            conditions = {one.type: one for one in door.job("finetune", job_id).conditions}
            assert conditions["Progressing"].reason == "FilesUnreachable", conditions
        finally:
            s3.start()
        wait_until(lambda: door.job("finetune", job_id).state.is_final, ENDS_WITHIN_SECONDS)
    ended = door.job("finetune", job_id)
    assert ended.state is JobState.succeeded, ended.error_message
    report = FinetuneReport.from_json(ended.result_json or "")
    assert report.checkpoint.startswith(f"{store.place}/{job_id}/checkpoint-")
    names = {one.name for one in door.files("finetune", job_id)}
    assert names == {f"checkpoint/{path.name}" for path in alone.iterdir()}
    weights = b"".join(door.open_file("finetune", job_id, "checkpoint/model.safetensors")[1])
    assert weights == (alone / "model.safetensors").read_bytes()
    assert store.sizes(f"{job_id}/training") == {}, "what it could be resumed from is gone"
    assert not list(tmp_path.glob("*/artifacts/*"))
    _evaluates(database, door, store, job_id, tmp_path, weights)


def _evaluates(database: Database, door: Door, store: Any, job_id: str, tmp_path: Path, weights: bytes) -> None:
    spec = EvaluationSpec.model_validate(
        {"finetune_id": job_id, "documents": 2, "baselines": False, "scorer": {"backend": "transformers"}}
    )
    prepared = prepare_evaluation(spec, JobStore(database), stored=StoredModels(database, store, tmp_path / "worker"))
    (copy,) = (tmp_path / "worker" / "copies").glob("[!.]*")
    assert not list(copy.glob("*.safetensors")), "the API needs no weights"
    scorer = make_scorer(prepared.settings()[str(copy)])
    assert (copy / "model.safetensors").read_bytes() == weights
    scorer.close()
    store.remove(job_id)
    with pytest.raises(InvalidSpec, match=r"finetune_id must name a job whose checkpoint is still there") as refused:
        prepare_evaluation(spec, JobStore(database), stored=StoredModels(database, store, tmp_path / "late"))
    assert store.place in str(refused.value)
    assert Artifacts(database).of(job_id), "somebody else has removed them"
