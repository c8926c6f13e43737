"""From a setting to the store that it names."""

from __future__ import annotations

import re
from pathlib import Path

from evaluation.models.user_path import user_path
from service.artifacts.directory import DirectoryStore
from service.artifacts.objects import ObjectStore
from service.artifacts.store import ArtifactStore

DIRECTORY = "artifacts"  # below the home
OBJECT_PROTOCOLS = ("s3", "gs")
FORMS = "a directory, file:///DIRECTORY, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._~=+-]+")


def open_store(url: str | None, home: Path, *, s3_endpoint: str | None = None) -> ArtifactStore:
    """The store at `url`; None: `artifacts` below the home. `s3_endpoint`: a server that speaks S3; None: Amazon's.
    Nothing is asked of it yet.

    Raises:
        ValueError: `url` names none; a clause that begins with "must".
    """
    if url is None:
        return DirectoryStore(home / DIRECTORY)
    protocol, separator, rest = url.partition("://")
    if not separator:
        return _directory(url)
    if protocol == "file":
        return _directory(rest)
    if protocol not in OBJECT_PROTOCOLS:
        raise ValueError(f"must be {FORMS}")
    bucket, _, prefix = rest.rstrip("/").partition("/")
    if "@" in rest or "?" in rest:
        raise ValueError(
            "must name a bucket and a prefix and nothing else: credentials, region and endpoint are given as for AWS's "
            "and Google's own tools (AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS)"
        )
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"must be {FORMS}, with a bucket of 3 to 63 lower-case letters, digits, dots and dashes")
    if prefix and not all(_PREFIX.fullmatch(part) and part not in (".", "..") for part in prefix.split("/")):
        raise ValueError(f"must be {FORMS}, with a prefix of names of letters, digits and . _ ~ = + - between slashes")
    return ObjectStore(protocol, bucket, prefix, s3_endpoint if protocol == "s3" else None)


def _directory(text: str) -> DirectoryStore:
    path = user_path(text)
    if not text or not path.is_absolute():
        raise ValueError(f"must be {FORMS}, and a directory must be absolute")
    return DirectoryStore(path)
