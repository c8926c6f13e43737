"""Files in a bucket of an object store: S3, whatever speaks its protocol, or Google Cloud Storage.

The client is obstore, of the extras `s3` and `gcs` (docs/decisions/0013 says why). It takes credentials and the region
from the environment of the process, as Amazon's and Google's own tools do, or from the machine's role.
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from service.artifacts.store import CHUNK_BYTES
from service.errors import FileMissing, FilesUnreachable

if TYPE_CHECKING:
    from obstore.store import GCSStore, S3Store

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 60.0
RETRIES = 4  # of one request, with a growing pause, before it is an outage
FIRST_PAUSE_SECONDS = 0.5
RETRY_SECONDS = 30.0  # and no longer
PART_BYTES, MAX_PARTS, PARTS_AT_ONCE = 8 << 20, 9000, 4
PROBE = ".probe-"


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """See :class:`service.artifacts.store.ArtifactStore`. An object is there when its last part is."""

    protocol: str
    """s3 or gs."""
    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    """http://host:port of what speaks S3; None: Amazon's."""

    @property
    def place(self) -> str:
        return f"{self.protocol}://{self.bucket}{f'/{self.prefix}' if self.prefix else ''}"

    def directory(self, job_id: str) -> Path | None:
        return None

    def url(self, key: str) -> str:
        return f"{self.place}/{key}"

    def put(self, key: str, file: Path) -> None:
        part = max(PART_BYTES, file.stat().st_size // MAX_PARTS)
        with self._explained():
            self._client.put(key, file, chunk_size=part, max_concurrency=PARTS_AT_ONCE)

    def read(self, key: str) -> Iterator[bytes]:
        with self._explained():
            stream = iter(self._client.get(key).stream(min_chunk_size=CHUNK_BYTES))
        while True:
            with self._explained():
                chunk = next(stream, None)
            if chunk is None:
                return
            yield bytes(chunk)

    def sizes(self, prefix: str = "") -> Mapping[str, int]:
        with self._explained():
            return {one["path"]: one["size"] for page in self._client.list(prefix or None) for one in page}

    def job_ids(self) -> tuple[str, ...]:
        with self._explained():
            found = self._client.list_with_delimiter()["common_prefixes"]
        return tuple(sorted(name for name in found if not name.startswith(".")))

    def remove(self, prefix: str) -> int:
        sizes = dict(self.sizes(prefix))
        if not sizes and (size := self._size_of(prefix)) is not None:
            sizes = {prefix: size}
        with self._explained():
            if sizes:
                self._client.delete(list(sizes))
        return sum(sizes.values())

    def _size_of(self, key: str) -> int | None:
        try:
            with self._explained():
                return self._client.head(key)["size"]
        except FileMissing:
            return None

    def finish(self) -> None:
        """Nothing: objects go one by one, and their rows before them."""

    def check(self) -> None:
        key, content = f"{PROBE}{secrets.token_hex(4)}", secrets.token_bytes(8)
        with self._explained():
            self._client.put(key, content)
        if b"".join(self.read(key)) != content:
            raise FilesUnreachable(f"{self.place}: the store must give back what was written, but does not")
        self.sizes(key)
        with self._explained():
            self._client.delete(key)

    @property
    def _client(self) -> S3Store | GCSStore:
        return _client(self.protocol, self.bucket, self.prefix, self.endpoint)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What the client raises, as ours: on one line, with what to do."""
        try:
            yield
        except FileNotFoundError as error:
            if _NO_BUCKET.search(str(error)):
                raise FilesUnreachable(explained(self.place, str(error))) from error
            raise FileMissing(f"{self.place} must have the object, but it is not there any more") from error
        except OSError:
            raise  # of this machine's disk
        except Exception as error:
            if not type(error).__module__.startswith("obstore"):
                raise
            raise FilesUnreachable(explained(self.place, str(error))) from error


@functools.lru_cache(maxsize=4)
def _client(protocol: str, bucket: str, prefix: str, endpoint: str | None) -> S3Store | GCSStore:
    """One for a process: it keeps connections, and credentials as long as they are good."""
    try:
        from obstore.store import GCSStore, S3Store
    except ImportError as error:
        extra = "gcs" if protocol == "gs" else "s3"
        raise FilesUnreachable(
            f"{protocol}://{bucket}: the extra {extra} must be installed (pip install '.[{extra}]'), but is not"
        ) from error
    timeouts = {"connect_timeout": timedelta(seconds=CONNECT_SECONDS), "timeout": timedelta(seconds=ANSWER_SECONDS)}
    retries = {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=RETRY_SECONDS),
        "backoff": {"init_backoff": timedelta(seconds=FIRST_PAUSE_SECONDS)},
    }
    if protocol == "gs":
        return GCSStore(bucket, prefix=prefix or None, client_options=timeouts, retry_config=retries)  # type: ignore[arg-type]
    if endpoint is None:
        return S3Store(bucket, prefix=prefix or None, client_options=timeouts, retry_config=retries)  # type: ignore[arg-type]
    return S3Store(
        bucket,
        prefix=prefix or None,
        config={"endpoint": endpoint},
        client_options={**timeouts, "allow_http": endpoint.startswith("http://")},  # type: ignore[arg-type]
        retry_config=retries,  # type: ignore[arg-type]
    )


def forget_clients() -> None:
    """Let the next request make a client anew, from what the environment says then."""
    _client.cache_clear()


_XML = re.compile("<[?]xml.*?<Code>(?P<code>[^<]*)</Code>")
_NO_BUCKET = re.compile("NoSuchBucket|The specified bucket does not exist")
# By what stores say: the rule, and what to do.
_RULES: tuple[tuple[str, str], ...] = (
    (_NO_BUCKET.pattern, "the bucket must exist, but does not"),
    (
        "SignatureDoesNotMatch|InvalidAccessKeyId|InvalidClientTokenId|UnrecognizedClient|ExpiredToken|InvalidToken|"
        "AuthFailure|invalid_grant|401 Unauthorized",
        "the credentials must be valid, but are refused ({credentials}, or the role)",
    ),
    (
        "169.254.169.254|[Cc]redential|metadata.google",
        "credentials must be given ({credentials}, or a role), but there are none",
    ),
    ("AccessDenied|403 Forbidden|PermissionDenied", "the credentials must allow to list, read, write and delete there"),
    ("PermanentRedirect|301 Moved|AuthorizationHeaderMalformed", "the region must be the bucket's (AWS_REGION)"),
    ("InvalidBucketName", "the bucket's name must be one of the protocol"),
    (
        "error sending request|Connect|timed out|[Tt]imeout|dns error",
        "the store must answer, but does not{elsewhere}",
    ),
)

_SETTINGS = {
    "s3": {
        "credentials": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
        "elsewhere": " (AWS_ENDPOINT_URL names another)",
    },
    "gs": {"credentials": "GOOGLE_APPLICATION_CREDENTIALS", "elsewhere": ""},
}


def explained(place: str, message: str) -> str:
    """One line of what is wrong with `place`: the rule that does not hold, and what the client said of it."""
    said = " ".join(message.partition("\n\nDebug source:")[0].split())
    if (answer := _XML.search(said)) is not None:
        said = f"{said[: answer.start()]}{answer['code']}"
    rule = next((rule for pattern, rule in _RULES if re.search(pattern, message)), "the store must work, but does not")
    return f"{place}: {rule.format(**_SETTINGS[place.partition(':')[0]])}: {said[:300]}"
