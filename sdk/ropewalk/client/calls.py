"""A request as a value: what is sent, and how the answer is read; and the paths of what is asked for. No I/O here."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from ropewalk.client.errors import BadInput
from ropewalk.wire.kinds import BY_PREFIX, KindRow

T = TypeVar("T")
Spec = BaseModel | Mapping[str, Any]
"""What a job is to do: the object that its route takes, as a dict or as a pydantic model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call(Generic[T]):
    """One request; `read` makes a value of the answer's body and raises ValueError where it is none."""

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def as_sent(self) -> dict[str, Any]:
        """As httpx takes it, with the parameters that were given."""
        params = {name: value for name, value in self.params.items() if value is not None}
        headers = dict(self.headers)
        return {"method": self.method, "url": self.path, "params": params, "content": self.content, "headers": headers}


def kind_of(job_id: str) -> KindRow:
    """The kind that an id's prefix says. The id can stand in a URL's path as it is: it holds no delimiter.

    Raises:
        BadInput: not an id of ours.
    """
    prefix, _, rest = job_id.partition("_")
    if prefix not in BY_PREFIX or not re.fullmatch("[0-9a-z]+", rest):
        forms = ", ".join(f"{known}_..." for known in BY_PREFIX)
        raise BadInput(f"an id must be one of {forms} in digits and lower-case letters, but got {job_id!r}")
    return BY_PREFIX[prefix]


def job_path(job_id: str) -> str:
    """Where a job is."""
    return f"/v1/{kind_of(job_id).collection}/{job_id}"


def file_path(job_id: str, name: str) -> str:
    """Where a file of a job is."""
    return f"{job_path(job_id)}/files/{quote(name)}"


def webhook_path(webhook_id: str) -> str:
    """Where a webhook is.

    Raises:
        BadInput: not an id of ours.
    """
    if not re.fullmatch("hook_[0-9a-z]+", webhook_id):
        raise BadInput(f"a webhook's id must be hook_... in digits and lower-case letters, but got {webhook_id!r}")
    return f"/v1/webhooks/{webhook_id}"


def fetch(path: str, read: Callable[[bytes], T], params: Mapping[str, Any] | None = None) -> Call[T]:
    """Read what is at `path`."""
    return Call(method="GET", path=path, read=read, params=params or {})


def send(
    method: str,
    path: str,
    spec: Spec,
    read: Callable[[bytes], T],
    *,
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Call[T]:
    """Send `spec` as JSON.

    Raises:
        BadInput: it is no JSON.
    """
    return Call(
        method=method,
        path=path,
        read=read,
        params=params or {},
        content=json_of(spec.model_dump(mode="json") if isinstance(spec, BaseModel) else spec),
        headers={"Content-Type": "application/json", **(headers or {})},
    )


def json_of(spec: Mapping[str, Any]) -> bytes:
    """A spec as it is sent.

    Raises:
        BadInput: it is no JSON.
    """
    try:
        return json.dumps(spec, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"a spec must be Unicode text, but got {error.object[error.start : error.end]!r}") from error
    except (TypeError, ValueError, RecursionError) as error:  # not finite, or beyond what Python writes
        raise BadInput(f"a spec must be JSON of finite numbers: {error}") from error
