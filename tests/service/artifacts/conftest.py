"""A store of each kind, empty, behind one fixture; the servers are real."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.artifacts.opening import open_store
from service.artifacts.store import ArtifactStore
from tests.helpers.google_store import gs, shared_google_store
from tests.helpers.object_store import BUCKET, S3Server, s3, shared_s3

__all__ = ["gs", "s3", "shared_google_store", "shared_s3"]


@pytest.fixture(params=["directory", "file", "s3", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    urls = {"directory": str(tmp_path / "files"), "file": f"file://{tmp_path}/files"}
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return open_store(f"s3://{BUCKET}/{tmp_path.name}", tmp_path, s3_endpoint=server.url)
    if request.param == "gs":
        request.getfixturevalue("gs")
        return open_store(f"gs://{BUCKET}/{tmp_path.name}", tmp_path)
    return open_store(urls[request.param], tmp_path)
