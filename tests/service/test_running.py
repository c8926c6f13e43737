"""How the end of a run is recorded, when the user or the database comes in between."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from ropewalk.wire.jobs import REPORTS, JobResource
from ropewalk.wire.kinds import JOB_KINDS, JobKind, JobState
from ropewalk.wire.reports import Report
from service import running
from service.artifacts.opening import open_store
from service.finetunes.run import forget_states
from service.running import RUNS, run_job
from service.runtime.failures import RetryPolicy
from service.runtime.job import Runtime
from service.runtime.lease import LeaseKeeper
from service.specs.finetune import FinetuneSpec
from storage.errors import DatabaseUnreachable
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.scores.cache import ScoreCache
from storage.scores.store import ScoreStore


def _claimed(database: Database, home: Path, kind: JobKind, spec_json: str) -> Runtime:
    store = JobStore(database)
    store.create(kind, spec_json)
    claimed = store.claim("a", 60)
    assert claimed is not None
    job, lease = claimed
    return Runtime(
        job=job,
        keeper=LeaseKeeper(store, job, lease, lease_seconds=60),
        database=database,
        jobs=store,
        scores=ScoreStore(database),
        score_cache=ScoreCache(database),
        home=home,
        store=open_store(None, home),
        open_pool=lambda *_, **__: pytest.fail("nothing is scored here"),
    )


def test_a_pause_that_becomes_a_cancellation_before_it_is_obeyed(database: Database, tmp_path: Path) -> None:
    runtime = _claimed(database, tmp_path, "search", "{}")
    runtime.enter(JobState.preparing)
    runtime.jobs.request(runtime.job.id, "pause")
    runtime.keeper.renew_now()
    runtime.jobs.request(runtime.job.id, "cancel")
    run_job(runtime, retry=RetryPolicy())
    assert runtime.jobs.get(runtime.job.id).state is JobState.cancelled


def test_every_kind_has_a_run_and_a_report() -> None:
    assert tuple(RUNS) == tuple(REPORTS) == JOB_KINDS
    assert set(REPORTS.values()) == set(get_args(JobResource.model_fields["result"].annotation)) - {type(None)}


def test_training_states_stay_until_the_success_is_recorded(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = FinetuneSpec(search_id="srch_01m7zv2x5e0000000000000001")
    runtime = _claimed(database, tmp_path, "finetune", spec.canonical_json())
    state = runtime.home / "artifacts" / runtime.job.id / "training" / "step-5"
    state.mkdir(parents=True)
    monkeypatch.setattr(running, "prepare_finetune", lambda spec, jobs: None)
    monkeypatch.setattr(running, "ensure_ray", lambda: None)
    monkeypatch.setattr(running, "run_finetune_job", lambda runtime, prepared: runtime.enter(JobState.training))
    monkeypatch.setattr(running, "finetune_report", lambda prepared, result: Report())
    forgotten: list[JobState] = []

    def forget(runtime: Runtime) -> None:
        forgotten.append(runtime.jobs.get(runtime.job.id).state)
        forget_states(runtime)

    monkeypatch.setattr(running, "forget_states", forget)
    transition = JobStore.transition

    def away(self: JobStore, lease: object, state: JobState, **fields: object) -> object:
        if state is JobState.succeeded:
            raise DatabaseUnreachable("the database must answer, but is away")
        return transition(self, lease, state, **fields)  # type: ignore[arg-type]

    with monkeypatch.context() as outage:
        outage.setattr(JobStore, "transition", away)
        with pytest.raises(DatabaseUnreachable):
            run_job(runtime, retry=RetryPolicy())
    assert state.exists()
    run_job(runtime, retry=RetryPolicy())
    assert forgotten == [JobState.succeeded]
    assert not state.exists()
