"""Fine-tuning jobs through the controller: real Ray Train, workers that are killed, controllers that take over."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.exceptions import ActorDiedError, OutOfMemoryError
from ray.train import WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError
from ray.util import placement_group_table

from evaluation.models.source import ModelSource
from finetune.config import FinetuneSettings
from finetune.errors import TrainingDiverged
from finetune.job import run_finetune
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.kinds import JobState
from ropewalk.wire.reports import FinetuneReport
from service.door import Door
from service.finetunes import run as finetuning
from service.finetunes.run import _failure
from service.runtime.failures import is_infrastructure
from service.specs.finetune import FinetuneSpec
from service.specs.search import SearchSpec
from storage.errors import DatabaseUnreachable
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Job
from tests.helpers.holder import Holder
from tests.helpers.processes import below
from tests.helpers.searches import SPEC as SEARCH
from tests.helpers.searches import controller
from tests.helpers.tiny_llama import factor_file, tiny_directory, tiny_source
from tests.helpers.waiting import wait_until

__all__ = ["factor_file", "tiny_directory", "tiny_source"]

ENDS_WITHIN_SECONDS = 300.0
STEPS, KEPT_EVERY = 120, 5
CHANGED = "condition.changed"
SETTINGS: dict[str, Any] = {"steps": STEPS, "checkpoint_every": KEPT_EVERY, "long_documents_per_step": 1}


@pytest.fixture(scope="module")
def expected(tiny_source: ModelSource, factor_file: FactorFile, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the same training without Ray, without an interruption."""
    output = tmp_path_factory.mktemp("alone") / "out"
    run_finetune(tiny_source, factor_file, FinetuneSettings(**SETTINGS), output, lambda progress: None)
    return (output / "model.safetensors").read_bytes()


def _submit(door: Door, file: FactorFile, **settings: Any) -> str:
    spec = {"factors": json.loads(file.to_json()), "settings": {**SETTINGS, **settings}}
    return door.submissions.submit_finetune(FinetuneSpec.model_validate(spec)).job.id


def _seen(door: Door, job_id: str, type: str) -> list[int]:
    """The steps of all events of a type."""
    return [
        json.loads(event.data_json)["step"]
        for event in door.events("finetune", job_id, limit=1000)
        if event.type == type
    ]


def _readiness(door: Door, job_id: str) -> dict[str, str]:
    """What was said of the workers, by reason: from the events, as a condition can be gone before anybody looks."""
    changes = [json.loads(one.data_json) for one in door.events("finetune", job_id, limit=1000) if one.type == CHANGED]
    return {one["reason"]: one["message"] for one in changes if one["condition"] == "WorkersReady"}


def _wait_for(door: Door, job_id: str, reached: Callable[[], bool]) -> None:
    def reached_in_time() -> bool:
        job = door.job("finetune", job_id)
        assert not job.state.is_final, f"{job.state}: {job.error_message}"
        return reached()

    wait_until(reached_in_time, ENDS_WITHIN_SECONDS)


def _ended(door: Door, job_id: str) -> Job:
    wait_until(lambda: door.job("finetune", job_id).state.is_final, ENDS_WITHIN_SECONDS)
    return door.job("finetune", job_id)


def _workers() -> list[psutil.Process]:
    """The processes that train."""
    return below("RayTrainWorker")


def _weights(job: Job) -> bytes:
    assert job.state is JobState.succeeded, job.error_message
    assert job.result_json is not None
    return (Path(json.loads(job.result_json)["checkpoint"]) / "model.safetensors").read_bytes()


@pytest.mark.timeout(900)
def test_a_pause_another_controller_and_a_killed_worker_change_nothing(
    ray_cluster: None, database: Database, tmp_path: Path, factor_file: FactorFile, expected: bytes
) -> None:
    door = Door(database)
    job_id = _submit(door, factor_file)
    states = tmp_path / "artifacts" / job_id / "training"
    with controller(database, tmp_path):
        _wait_for(door, job_id, lambda: max(_seen(door, job_id, "training.step"), default=0) > KEPT_EVERY)
        door.request("finetune", job_id, "pause")
        wait_until(lambda: door.job("finetune", job_id).state is JobState.paused, ENDS_WITHIN_SECONDS)
    assert any(states.glob("*/checkpoint_*"))
    door.request("finetune", job_id, "resume")
    with controller(database, tmp_path):
        _wait_for(door, job_id, lambda: len(_seen(door, job_id, "training.resumed")) == 1)
        (first,) = _seen(door, job_id, "training.resumed")
        _wait_for(door, job_id, lambda: _seen(door, job_id, "training.step")[-1] > first + KEPT_EVERY)
        (worker,) = _workers()
        worker.send_signal(signal.SIGKILL)
        ended = _ended(door, job_id)
    assert _weights(ended) == expected
    resumed = _seen(door, job_id, "training.resumed")
    assert KEPT_EVERY <= resumed[0] < resumed[1] < STEPS, "by the second controller, then by Ray Train"
    progress, report = ended.progress, FinetuneReport.from_json(ended.result_json or "")
    assert (progress.fraction, progress.seconds_left) == (1.0, 0.0)
    assert progress.tokens == progress.total_tokens == report.tokens
    assert not states.exists()


@pytest.mark.timeout(900)
def test_a_training_that_waits_says_for_what(
    ray_cluster: None, database: Database, tmp_path: Path, factor_file: FactorFile
) -> None:
    """For CPUs that others hold, then for its model; then it says that it trains. Others see what it holds."""
    door = Door(database)
    other = door.submissions.submit_search(SearchSpec.model_validate(SEARCH)).job.id
    claimed = JobStore(database).claim("somebody", 600)
    assert claimed is not None
    holders: list[Any] = [ray.remote(num_cpus=1)(Holder).remote() for _ in range(2)]
    ray.get([holder.held.remote() for holder in holders])
    job_id = _submit(door, factor_file, steps=2)
    with controller(database, tmp_path):
        wait_until(lambda: "WaitingForRoom" in _readiness(door, job_id), ENDS_WITHIN_SECONDS)
        for holder in holders:
            ray.kill(holder)
        assert _ended(door, job_id).state is JobState.succeeded
    said = _readiness(door, job_id)
    assert said["WaitingForRoom"] == (
        f"a worker needs 1 CPU of one machine, and of the cluster's 0 of 2 CPUs are free; at work: {other}"
    )
    assert said["Ready"] == "1 of 1 workers train on CPUs"


@pytest.mark.timeout(900)
def test_an_outage_and_a_cancel_leave_nothing_of_a_training(
    ray_cluster: None, database: Database, tmp_path: Path, factor_file: FactorFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the controller lets go of, because the database is away or the user asks, ends and gives its CPUs back."""
    answers, note = [], finetuning._ProgressBook.note

    def away_once(book: finetuning._ProgressBook, progress: Any) -> None:
        answers.append(progress)
        if len(answers) == 1:
            raise DatabaseUnreachable("the database must answer, but does not")
        note(book, progress)

    monkeypatch.setattr(finetuning._ProgressBook, "note", away_once)
    door = Door(database)
    job_id = _submit(door, factor_file, steps=100_000, needle_fraction=1.0)
    with controller(database, tmp_path):
        _wait_for(door, job_id, lambda: bool(_seen(door, job_id, "training.step")))
        door.request("finetune", job_id, "cancel")
        assert _ended(door, job_id).state is JobState.cancelled
    assert not (tmp_path / "artifacts" / job_id / "training").exists()
    _wait_until_nothing_is_left()


def _wait_until_nothing_is_left() -> None:
    """Neither a process that trains nor a CPU that is reserved for one."""

    def left() -> bool:
        groups = placement_group_table().values()
        return bool(_workers()) or any(group["state"] != "REMOVED" for group in groups)

    deadline = time.monotonic() + 60
    while left() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left()


def test_a_refusal_keeps_its_code_and_lost_workers_are_no_fault_of_the_job() -> None:
    refused = _failure(TrainingDiverged("every loss must be finite, but step 1 got long loss nan"))
    assert (refused.code, is_infrastructure(refused)) == ("TRAINING_DIVERGED", False)
    assert "step 1 got long loss nan" in str(refused)
    died = WorkerHealthCheckFailedError("unhealthy", failure=ActorDiedError())
    short_of_memory = WorkerHealthCheckFailedError("unhealthy", failure=OutOfMemoryError("killed"))  # type: ignore[no-untyped-call]
    hangs = WorkerHealthCheckTimeoutError("no answer")  # type: ignore[no-untyped-call]
    groups: list[dict[int, Exception]] = [
        {0: died},
        {0: RuntimeError("reset"), 1: died},
        {0: short_of_memory},
        {0: hangs},
    ]
    for failures in groups:
        lost = _failure(WorkerGroupError("a trace", failures))
        assert (lost.code, is_infrastructure(lost)) == ("WORKER_LOST", True)
    broken = _failure(WorkerGroupError("a trace", {0: ValueError("Traceback\n  line\nwhat went wrong")}))
    assert (broken.code, str(broken)) == ("FINETUNE_FAILED", "fine-tuning failed: what went wrong")
