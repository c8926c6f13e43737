"""Files of deleted jobs go, whoever died before; what the operator keeps for a while goes when its time has come."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from service.artifacts.directory import GOING, size_of
from service.door import Door
from service.files import Files
from service.housekeeping import Housekeeper
from service.keep import Keep
from storage.jobs.deletion import Deletion
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from tests.helpers.http_server import SPEC_JSON
from tests.helpers.waiting import wait_until


def leave_files(home: Path, job_id: str) -> Path:
    """A checkpoint and a state to resume from: 300 and 200 bytes."""
    directory = home / "artifacts" / job_id
    for name, size in (("checkpoint-1/model.safetensors", 300), ("training/step-1/state", 200)):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    return directory


def ended(jobs: JobStore, *, seconds_ago: float, database: Database, kind: str = "search") -> str:
    job_id = jobs.create(kind, SPEC_JSON).job.id  # type: ignore[arg-type]
    jobs.request(job_id, "cancel")
    age(database, job_id, "finished_at", seconds_ago)
    return job_id


def age(database: Database, job_id: str, column: str, seconds: float) -> None:
    with database.engine.begin() as connection:
        connection.execute(
            sa.text(f"UPDATE ropewalk.jobs SET {column} = now() - make_interval(secs => :s) WHERE id = :id"),
            {"s": seconds, "id": job_id},
        )


def test_files_go_with_their_job(database: Database, tmp_path: Path) -> None:
    jobs, door = JobStore(database), Door(database, home=tmp_path)
    job_id, other = (ended(jobs, seconds_ago=0, database=database) for _ in range(2))
    gone, kept = leave_files(tmp_path, job_id), leave_files(tmp_path, other)
    assert door.file_sizes() == {"artifacts": 600, "training_states": 400, "tokens": 0, "copies": 0}
    deleted, size = door.delete("search", job_id, actor="a")
    assert (deleted.id, size) == (job_id, 500)
    assert not gone.exists()
    assert size_of(kept) == 500
    assert os.listdir(tmp_path / "artifacts") == [other]


def test_what_a_process_that_died_left_goes_at_the_next_start(database: Database, tmp_path: Path) -> None:
    """It died between the database and the files, or in the middle of the files."""
    jobs = JobStore(database)
    untouched, begun, living = (ended(jobs, seconds_ago=0, database=database) for _ in range(3))
    for job_id in (untouched, begun, living, "of-a-restored-database"):
        leave_files(tmp_path, job_id)
    for job_id in (untouched, begun):
        Deletion(database).delete(job_id, actor="a")
    (tmp_path / "artifacts" / begun).rename(tmp_path / "artifacts" / f"{GOING}{begun}")
    with Housekeeper(database, tmp_path):
        wait_until(lambda: sorted(os.listdir(tmp_path / "artifacts")) == sorted([living, "of-a-restored-database"]))


def test_nothing_expires_unless_the_operator_says_so(database: Database, tmp_path: Path) -> None:
    job_id = ended(JobStore(database), seconds_ago=10**8, database=database)
    leave_files(tmp_path, job_id)
    Housekeeper(database, tmp_path).clean()
    assert Files(tmp_path).sizes()["artifacts"] == 300


def test_artifacts_expire_some_time_after_the_end(database: Database, tmp_path: Path) -> None:
    jobs = JobStore(database)
    old, young, needed = (ended(jobs, seconds_ago=s, database=database, kind="finetune") for s in (100, 10, 100))
    user = jobs.create("evaluation", f'{{"finetune_id":"{needed}"}}').job.id
    queued = jobs.create("search", SPEC_JSON).job.id
    for job_id in (old, young, needed, user, queued):
        leave_files(tmp_path, job_id)
    Housekeeper(database, tmp_path, Keep(artifacts=50.0)).clean()
    assert Files(tmp_path).job_ids() == tuple(sorted((young, needed, user, queued)))
    assert jobs.get(old).state is JobState.cancelled, "the job itself stays"
    with database.engine.begin() as connection:
        told = connection.execute(sa.text("SELECT actor, action, subject, data_json FROM ropewalk.audit")).all()
    assert [tuple(row) for row in told] == [("retention", "artifacts.expired", old, '{"bytes":500}')]


def test_training_states_expire_of_what_rests(database: Database, tmp_path: Path) -> None:
    jobs = JobStore(database)
    old = ended(jobs, seconds_ago=100, database=database, kind="finetune")
    paused, queued = (jobs.create("finetune", SPEC_JSON).job.id for _ in range(2))
    jobs.request(paused, "pause")
    for job_id in (paused, queued):
        age(database, job_id, "updated_at", 100)
    for job_id in (old, paused, queued):
        leave_files(tmp_path, job_id)
    Housekeeper(database, tmp_path, Keep(states=50.0)).clean()
    files = Files(tmp_path)
    assert [files.has_states(job_id) for job_id in (old, paused, queued)] == [False, False, True]
    assert files.sizes() == {"artifacts": 900, "training_states": 200, "tokens": 0, "copies": 0}


def test_cached_scores_expire_by_age(database: Database, tmp_path: Path) -> None:
    with database.engine.begin() as connection:
        connection.execute(
            sa.text("""
                INSERT INTO ropewalk.score_cache (key, nats, tokens, exact, created_at)
                SELECT decode(lpad(to_hex(n), 64, '0'), 'hex'), 0.5, 7, true, now() - make_interval(secs => n)
                FROM generate_series(1, 25000) AS n
            """)
        )
    Housekeeper(database, tmp_path, Keep(score_cache=1000.0)).clean()
    with database.engine.begin() as connection:
        left = connection.execute(sa.text("SELECT count(*) FROM ropewalk.score_cache")).scalar_one()
    assert 900 < left < 1000


def test_files_that_cannot_be_removed_now_are_told_and_tried_again(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ended(JobStore(database), seconds_ago=0, database=database)
    directory = leave_files(tmp_path, job_id)
    away = tmp_path / "artifacts" / f"{GOING}{job_id}"
    away.write_text("in the way")  # a file, where the directory is to be moved
    _, size = Door(database, home=tmp_path).delete("search", job_id, actor="a")
    assert size == 0
    assert f"files of {job_id}, which was deleted, cannot be removed now" in caplog.text
    away.unlink()
    Housekeeper(database, tmp_path).clean()
    assert not directory.exists()
