"""What jobs leave in an object store: recorded, expired, deleted, cleared up behind who died; and outages."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from service.artifacts.opening import open_store
from service.artifacts.store import ArtifactStore
from service.door import Door
from service.errors import FileMissing, FilesUnreachable
from service.files import Files
from service.finetunes.upload import Upload
from service.housekeeping import Housekeeper
from service.keep import Keep
from service.specs.search import SearchSpec
from service.submissions import Submitter
from storage.artifacts import Artifacts
from storage.errors import LeaseLost
from storage.jobs.store import JobStore
from storage.limits import OwnerLimits
from storage.postgres.database import Database
from storage.records import Lease, Limits
from tests.helpers.object_store import BUCKET, S3Server
from tests.helpers.searches import SPEC, controller
from tests.helpers.waiting import wait_until


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path) -> ArtifactStore:
    return open_store(f"s3://{BUCKET}/{tmp_path.name}", tmp_path, s3_endpoint=s3.url)


def upload(store: ArtifactStore, lease: Lease, directory: Path) -> Upload:
    """Of a checkpoint of two files in `directory`."""
    (directory / "sub").mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text("{}")
    (directory / "sub" / "model.safetensors").write_bytes(os.urandom(1000))
    return Upload(store=store, job_id=lease.job_id, epoch=lease.epoch)


def claimed(jobs: JobStore, kind: str = "finetune") -> Lease:
    job = jobs.create(kind, "{}").job  # type: ignore[arg-type]
    found = jobs.claim("a", 600.0, [kind])  # type: ignore[list-item]
    assert found is not None
    assert found[0].id == job.id
    return found[1]


def test_a_search_leaves_its_factors_in_the_bucket(database: Database, bucket: ArtifactStore, tmp_path: Path) -> None:
    door = Door(database, home=tmp_path / "home", store=bucket)
    job_id = door.submissions.submit_search(SearchSpec.model_validate(SPEC)).job.id
    with controller(database, tmp_path / "home", store=bucket, lease_seconds=60.0):
        wait_until(lambda: door.job("search", job_id).state.is_final)
    text = door.factor_file(job_id).to_json().encode()
    (file,) = door.files("search", job_id)
    assert (file.name, file.bytes, file.sha256) == ("factors.json", len(text), hashlib.sha256(text).hexdigest())
    assert b"".join(door.open_file("search", job_id, "factors.json")[1]) == text
    assert dict(bucket.sizes()) == {f"{job_id}/factors.json": len(text)}
    assert door.file_sizes()["artifacts"] == len(text)
    assert not (tmp_path / "home" / "artifacts").exists()
    _, size = door.delete("search", job_id, actor="a")
    assert (size, bucket.job_ids()) == (len(text), ())


def test_a_checkpoint_is_there_with_its_rows_and_not_before(
    database: Database, bucket: ArtifactStore, tmp_path: Path
) -> None:
    jobs, rows, door = JobStore(database), Artifacts(database), Door(database, home=tmp_path, store=bucket)
    lease = claimed(jobs)
    of = upload(bucket, lease, tmp_path / "out")
    place, files = of.checkpoint(tmp_path / "out")
    other, _ = of.checkpoint(tmp_path / "out")
    assert other != place, "two uploads are never in each other's way"
    assert door.files("finetune", lease.job_id) == ()
    with pytest.raises(FileMissing, match=r"must be one of those that ft_\w+ has left, but got"):
        door.open_file("finetune", lease.job_id, "checkpoint/config.json")
    rows.record(lease, files)
    assert [one.name for one in door.files("finetune", lease.job_id)] == [
        "checkpoint/config.json",
        "checkpoint/sub/model.safetensors",
    ]
    assert place.startswith(f"{bucket.place}/{lease.job_id}/checkpoint-{lease.epoch}-")
    file, chunks = door.open_file("finetune", lease.job_id, "checkpoint/sub/model.safetensors")
    assert b"".join(chunks) == (tmp_path / "out" / "sub" / "model.safetensors").read_bytes()
    assert file.bytes == 1000


def test_who_has_lost_the_lease_records_nothing(database: Database, bucket: ArtifactStore, tmp_path: Path) -> None:
    jobs, rows = JobStore(database), Artifacts(database)
    lease = claimed(jobs)
    _, files = upload(bucket, lease, tmp_path / "out").checkpoint(tmp_path / "out")
    jobs.release(lease)
    with pytest.raises(LeaseLost):
        rows.record(lease, files)
    assert rows.of(lease.job_id) == ()


def test_uploads_that_nobody_can_record_any_more_are_removed(
    database: Database, bucket: ArtifactStore, tmp_path: Path
) -> None:
    """Those of an owner who died, never those of one who may still be at work, nor what has a row."""
    jobs, rows = JobStore(database), Artifacts(database)
    lease = claimed(jobs)
    of = upload(bucket, lease, tmp_path / "out")
    place, _ = of.checkpoint(tmp_path / "out")
    state = f"{lease.job_id}/training/owner-{lease.epoch}/checkpoint_000000005/rank-0.json"
    bucket.put(state, tmp_path / "out" / "config.json")
    keeper = Housekeeper(database, tmp_path, store=bucket)
    keeper.clean()
    assert len(bucket.sizes()) == 3, "its owner is at work"
    jobs.release(lease)
    found = jobs.claim("b", 600.0, ["finetune"])
    assert found is not None
    of = upload(bucket, found[1], tmp_path / "other")
    _, files = of.checkpoint(tmp_path / "other")
    rows.record(found[1], files)
    keeper.clean()
    assert set(bucket.sizes()) == {state, *(one.key for one in files)}
    assert place not in {key.rpartition("/")[0] for key in bucket.sizes()}
    jobs.transition(found[1], JobState.preparing)
    jobs.transition(found[1], JobState.training)
    jobs.transition(found[1], JobState.succeeded, result_json="{}")
    keeper.clean()
    assert {one.key for one in files} <= set(bucket.sizes())


def test_what_has_expired_is_nobodys_file(database: Database, bucket: ArtifactStore, tmp_path: Path) -> None:
    jobs, rows, door = JobStore(database), Artifacts(database), Door(database, home=tmp_path, store=bucket)
    lease = claimed(jobs)
    _, files = upload(bucket, lease, tmp_path / "out").checkpoint(tmp_path / "out")
    rows.record(lease, files)
    bucket.put(f"{lease.job_id}/training/owner-1/checkpoint_000000005/rank-0.json", tmp_path / "out" / "config.json")
    jobs.transition(lease, JobState.failed, error_code="X", error_message="x")
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE ropewalk.jobs SET finished_at = now() - make_interval(days => 9)"))
    Housekeeper(database, tmp_path, Keep(states=86400.0), store=bucket).clean()
    assert set(bucket.sizes()) == {one.key for one in files}
    assert not Files(tmp_path, bucket).has_states(lease.job_id)
    Housekeeper(database, tmp_path, Keep(artifacts=86400.0), store=bucket).clean()
    assert (dict(bucket.sizes()), door.files("finetune", lease.job_id)) == ({}, ())


def test_a_store_that_is_away_costs_no_search_and_is_told(
    database: Database, s3: S3Server, bucket: ArtifactStore, tmp_path: Path
) -> None:
    door = Door(database, home=tmp_path / "home", store=bucket)
    OwnerLimits(database).set("team", Limits(stored_bytes=10), actor="a")
    s3.stop()
    try:
        job_id = door.submissions.submit_search(SearchSpec.model_validate(SPEC)).job.id
        with controller(database, tmp_path / "home", store=bucket, lease_seconds=60.0):
            wait_until(lambda: door.job("search", job_id).state.is_final)
        (failed,) = [one for one in door.events("search", job_id, limit=1000) if one.type == "artifact.failed"]
        assert "the store must answer, but does not" in failed.data_json
        assert door.job("search", job_id).state is JobState.succeeded
        with pytest.raises(FilesUnreachable):
            door.submissions.submit_search(SearchSpec.model_validate(SPEC), Submitter(owner="team"))
        with pytest.raises(FilesUnreachable):
            Housekeeper(database, tmp_path, store=bucket).clean()
    finally:
        s3.start()
    Housekeeper(database, tmp_path, store=bucket).clean()
    door.submissions.submit_search(SearchSpec.model_validate(SPEC), Submitter(owner="team"))


KILLED = """
import os, sys
from pathlib import Path
from service.artifacts.opening import open_store
store = open_store(sys.argv[1], Path("/"), s3_endpoint=os.environ["AWS_ENDPOINT_URL"])
store.put("ft_1/checkpoint-1-ab/model.safetensors", Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_middle_of_an_upload_leaves_no_object(
    s3: S3Server, bucket: ArtifactStore, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as out:
        out.truncate(1 << 30)
    parts = s3.directory / ".nanio" / "multipart"
    process = subprocess.Popen([sys.executable, "-c", KILLED, bucket.place, str(path)], env={**os.environ})
    try:
        wait_until(lambda: any(one.stat().st_size > 1000 for one in parts.rglob("*") if one.is_file()))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was still at it"
    finally:
        process.kill()
        process.wait()
    assert (dict(bucket.sizes()), bucket.job_ids()) == ({}, ())
    with pytest.raises(FileMissing):
        next(iter(bucket.read("ft_1/checkpoint-1-ab/model.safetensors")))
    path.write_bytes(b"whole")
    bucket.put("ft_1/checkpoint-1-ab/model.safetensors", path)
    assert b"".join(bucket.read("ft_1/checkpoint-1-ab/model.safetensors")) == b"whole"
