"""What names a store, what names none, and what is said of one that cannot be used."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from api.artifacts import usable_store
from api.errors import InvalidSettings
from api.settings import Settings, load_settings
from service.artifacts.objects import forget_clients
from service.artifacts.opening import open_store
from tests.helpers.object_store import BUCKET, S3Server


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (None, "/home/artifacts"),
        ("/srv/files", "/srv/files"),
        ("file:///srv/files", "/srv/files"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket/a", "gs://bucket/a"),
    ],
)
def test_a_store_has_a_place(url: str | None, place: str) -> None:
    assert open_store(url, Path("/home")).place == place


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("artifacts", "a directory must be absolute"),
        ("file://artifacts", "a directory must be absolute"),
        ("abfs://bucket/a", r"must be a directory, file:///DIRECTORY, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"),
        ("S3://bucket", "must be a directory"),
        ("s3://", "a bucket of 3 to 63"),
        ("s3://Bucket", "a bucket of 3 to 63"),
        ("s3://bucket//a", "a prefix of names"),
        ("s3://bucket/a/../b", "a prefix of names"),
        ("s3://key:secret@bucket/a", "credentials, region and endpoint are given as for AWS's"),
        ("s3://bucket?endpoint_override=x", "credentials, region and endpoint are given as for AWS's"),
    ],
)
def test_what_names_no_store_is_refused_on_one_line(url: str, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_ARTIFACTS", url)
    with pytest.raises(InvalidSettings, match=f"^ROPEWALK_ARTIFACTS .*{rule}") as refused:
        load_settings()
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def said(url: str, home: Path) -> str:
    """Why a process with this setting does not start."""
    forget_clients()
    with pytest.raises(InvalidSettings, match=r"^ROPEWALK_ARTIFACTS must be usable, but ") as refused:
        usable_store(Settings(artifacts=url), home)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_bucket_that_cannot_be_used_is_told_at_the_start(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{BUCKET}/team"
    assert usable_store(Settings(artifacts=url), tmp_path).place == url
    assert "s3://no-such-bucket/team: the bucket must exist, but does not" in said("s3://no-such-bucket/team", tmp_path)
    with monkeypatch.context() as other:
        other.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
        assert "the credentials must be valid, but are refused" in said(url, tmp_path)
    with monkeypatch.context() as other:
        other.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        assert "the store must answer, but does not (AWS_ENDPOINT_URL names another)" in said(url, tmp_path)


def test_a_bucket_of_googles_is_told_by_googles_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose server no package brings: a key that is not there, and an address where nobody answers."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    told = said("gs://bucket/team", tmp_path)
    assert "gs://bucket/team: credentials must be given (GOOGLE_APPLICATION_CREDENTIALS, or a role)" in told
    account = {"gcs_base_url": "https://127.0.0.1:9", "disable_oauth": True}
    account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
    told = said("gs://bucket/team", tmp_path)
    assert "gs://bucket/team: the store must answer, but does not: " in told
    assert "AWS" not in told


def test_a_missing_extra_is_told_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    assert "s3://bucket: the extra s3 must be installed (pip install '.[s3]')" in said("s3://bucket/a", tmp_path)
    assert "gs://bucket: the extra gcs must be installed (pip install '.[gcs]')" in said("gs://bucket/a", tmp_path)


def test_a_directory_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert f"the directory must be writable, but {tmp_path}/file/below is not" in said(
        f"{tmp_path}/file/below", tmp_path
    )
