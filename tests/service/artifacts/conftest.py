"""A store of each kind, empty, behind one fixture; the S3 server is real."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.artifacts.opening import open_store
from service.artifacts.store import ArtifactStore
from tests.helpers.object_store import BUCKET, S3Server, s3, shared_s3

__all__ = ["s3", "shared_s3"]


@pytest.fixture(params=["directory", "file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    urls = {"directory": str(tmp_path / "files"), "file": f"file://{tmp_path}/files"}
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return open_store(f"s3://{BUCKET}/{tmp_path.name}", tmp_path, s3_endpoint=server.url)
    return open_store(urls[request.param], tmp_path)
