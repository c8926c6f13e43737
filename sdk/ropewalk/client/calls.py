"""Every request that a client makes, as a value: what is sent, and how the answer is read. Nothing here does I/O."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter

from ropewalk.client.errors import BadInput
from ropewalk.factors.factor_file import FactorFile
from ropewalk.reading.reader import strict_json
from ropewalk.wire.audit import AuditList
from ropewalk.wire.candidates import ScoreList, TrialPage
from ropewalk.wire.factor_value import read_result
from ropewalk.wire.files import FileList
from ropewalk.wire.inspection import Inspection
from ropewalk.wire.jobs import DeletedResource, EstimateResource, EventList, Health, JobPage, JobResource, Readiness
from ropewalk.wire.kinds import BY_PREFIX, KINDS, JobAction, JobKind, KindRow
from ropewalk.wire.pictures import SearchPictures
from ropewalk.wire.plan import Plan
from ropewalk.wire.webhooks import DeliveryList, NewWebhookResource, WebhookList, WebhookResource

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
    def sent_params(self) -> dict[str, Any]:
        """Those that were given."""
        return {name: value for name, value in self.params.items() if value is not None}


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


def submit(kind: JobKind, spec: Spec, idempotency_key: str | None, priority: int | None = None) -> Call[JobResource]:
    """Submit a job of `kind`."""
    headers = {}
    if idempotency_key:
        if not (idempotency_key.isascii() and idempotency_key.isprintable()):
            raise BadInput(f"an idempotency key must be printable ASCII, but got {idempotency_key!r}")
        headers["Idempotency-Key"] = idempotency_key
    return _post(
        f"/v1/{KINDS[kind].collection}",
        spec,
        JobResource.model_validate_json,
        params={"priority": priority},
        headers=headers,
    )


def validate_search(spec: Spec) -> Call[EstimateResource]:
    """Check a spec."""
    return _post("/v1/searches", spec, EstimateResource.model_validate_json, params={"validate_only": "true"})


def plan(kind: JobKind, spec: Spec, options: Spec | None) -> Call[Plan]:
    """Ask what a job would cost."""
    given = options.model_dump(exclude_none=True) if isinstance(options, BaseModel) else options or {}
    return _post(f"/v1/{KINDS[kind].collection}:plan", spec, TypeAdapter(Plan).validate_json, params=given)


def inspect_model(model: str, target_length: int | None, original_length: int | None) -> Call[Inspection]:
    """Ask what a model is."""
    params = {"model": model, "target_length": target_length, "original_length": original_length}
    return _get("/v1/models:inspect", TypeAdapter(Inspection).validate_json, params)


def job(job_id: str) -> Call[JobResource]:
    """Read a job."""
    return _get(job_path(job_id), JobResource.model_validate_json)


def jobs(
    kind: JobKind,
    state: str | None,
    label: str | None,
    limit: int | None,
    page_token: str | None,
    *,
    mine: bool = False,
) -> Call[JobPage]:
    """Read a page of jobs."""
    params = {"state": state, "label": label, "limit": limit, "page_token": page_token, "mine": mine or None}
    return _get(f"/v1/{KINDS[kind].collection}", JobPage.model_validate_json, params)


def act(job_id: str, action: JobAction) -> Call[JobResource]:
    """Ask a job to end, to pause or to go on."""
    return Call(method="POST", path=f"{job_path(job_id)}:{action}", read=JobResource.model_validate_json)


def delete(job_id: str) -> Call[DeletedResource]:
    """Delete a job."""
    return Call(method="DELETE", path=job_path(job_id), read=DeletedResource.model_validate_json)


def label(job_id: str, changes: Mapping[str, str | None]) -> Call[JobResource]:
    """Change a job's labels."""
    return _sent("PATCH", job_path(job_id), {"labels": dict(changes)}, JobResource.model_validate_json)


def prioritize(job_id: str, priority: int) -> Call[JobResource]:
    """Change a job's priority."""
    return _sent("PATCH", job_path(job_id), {"priority": priority}, JobResource.model_validate_json)


def audit(subject: str | None, actor: str | None, before: int | None, limit: int | None) -> Call[AuditList]:
    """Read who did what."""
    params = {"subject": subject, "actor": actor, "before": before, "limit": limit}
    return _get("/v1/audit", AuditList.model_validate_json, params)


def webhook_path(webhook_id: str) -> str:
    """Where a webhook is.

    Raises:
        BadInput: not an id of ours.
    """
    if not re.fullmatch("hook_[0-9a-z]+", webhook_id):
        raise BadInput(f"a webhook's id must be hook_... in digits and lower-case letters, but got {webhook_id!r}")
    return f"/v1/webhooks/{webhook_id}"


def create_webhook(url: str, states: Sequence[str] | None) -> Call[NewWebhookResource]:
    """Have changes told to a URL."""
    spec = {"url": url} if states is None else {"url": url, "states": list(states)}
    return _post("/v1/webhooks", spec, NewWebhookResource.model_validate_json)


def webhooks() -> Call[WebhookList]:
    """Read webhooks."""
    return _get("/v1/webhooks", WebhookList.model_validate_json)


def end_webhook(webhook_id: str) -> Call[WebhookResource]:
    """Tell a webhook nothing any more."""
    return Call(method="DELETE", path=webhook_path(webhook_id), read=WebhookResource.model_validate_json)


def deliveries(webhook_id: str) -> Call[DeliveryList]:
    """Read what a webhook was told."""
    return _get(f"{webhook_path(webhook_id)}/deliveries", DeliveryList.model_validate_json)


def events(job_id: str, after: int) -> Call[EventList]:
    """Read a page of a job's history."""
    return _get(f"{job_path(job_id)}/events", EventList.model_validate_json, {"after": after})


def files(job_id: str) -> Call[FileList]:
    """Read which files a job has left."""
    return _get(f"{job_path(job_id)}/files", FileList.model_validate_json)


def file_path(job_id: str, name: str) -> str:
    """Where a file of a job is."""
    return f"{job_path(job_id)}/files/{quote(name)}"


def trials(search_id: str, after: int | None, limit: int | None, *, full: bool) -> Call[TrialPage]:
    """Read a page of candidates."""
    params = {"after": after, "limit": limit, "view": "full" if full else None}
    return _get(f"{job_path(search_id)}/trials", TrialPage.model_validate_json, params)


def scores(search_id: str, split: str, trial: int | None, after: str | None) -> Call[ScoreList]:
    """Read a page of document scores."""
    params = {"split": split, "trial": trial, "limit": 200, "after": after}
    return _get(f"{job_path(search_id)}/scores", ScoreList.model_validate_json, params)


def pictures(search_id: str) -> Call[SearchPictures]:
    """Read what is drawn of a search."""
    return _get(f"{job_path(search_id)}/pictures", TypeAdapter(SearchPictures).validate_json)


def factors(search_id: str) -> Call[FactorFile]:
    """Read a search's factors."""

    def read(body: bytes) -> FactorFile:
        return read_result(strict_json(body.decode()))

    return _get(f"{job_path(search_id)}/factors", read, {"format": "json"})


def export(search_id: str, format: str) -> Call[str]:
    """Read a search's factors in another form."""
    return _get(f"{job_path(search_id)}/factors", bytes.decode, {"format": format})


def report(evaluation_id: str) -> Call[str]:
    """Read an evaluation's page."""
    return _get(f"{job_path(evaluation_id)}/report", bytes.decode)


def health() -> Call[Health]:
    """Ask whether the process answers."""
    return _get("/healthz", Health.model_validate_json)


def ready() -> Call[Readiness]:
    """Ask whether the server can work."""
    return _get("/readyz", Readiness.model_validate_json)


def metrics() -> Call[str]:
    """Read Prometheus text."""
    return _get("/metrics", bytes.decode)


def _get(path: str, read: Callable[[bytes], T], params: Mapping[str, Any] | None = None) -> Call[T]:
    return Call(method="GET", path=path, read=read, params=params or {})


def _post(
    path: str,
    spec: Spec,
    read: Callable[[bytes], T],
    *,
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Call[T]:
    return _sent("POST", path, spec, read, params=params, headers=headers)


def _sent(
    method: str,
    path: str,
    spec: Spec,
    read: Callable[[bytes], T],
    *,
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Call[T]:
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
