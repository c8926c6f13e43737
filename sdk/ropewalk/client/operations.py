"""Every request of the clients, described once for both."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, TypeAdapter

from ropewalk.client.calls import Call, Spec, fetch, job_path, send, webhook_path
from ropewalk.client.errors import BadInput
from ropewalk.client.operation import Operation
from ropewalk.found import Factors
from ropewalk.reading.reader import strict_json
from ropewalk.wire.audit import AuditList
from ropewalk.wire.candidates import ScoreList, TrialPage
from ropewalk.wire.factor_value import read_result
from ropewalk.wire.files import FileList
from ropewalk.wire.inspection import Inspection
from ropewalk.wire.jobs import DeletedResource, EstimateResource, EventList, Health, JobPage, JobResource, Readiness
from ropewalk.wire.kinds import KINDS, JobKind
from ropewalk.wire.pictures import SearchPictures
from ropewalk.wire.plan import Plan
from ropewalk.wire.webhooks import DeliveryList, NewWebhookResource, WebhookList, WebhookResource


class Operations:
    """What a server can be asked for; every method is one request."""

    # -- submission --------------------------------------------------------------------------------------------------

    @Operation
    def submit(
        self, spec: Spec, *, idempotency_key: str | None = None, priority: int | None = None
    ) -> Call[JobResource]:
        """Submit a search. Submitting again with the same `idempotency_key` returns the first job."""
        return _submission("search", spec, idempotency_key, priority)

    @Operation
    def submit_finetune(
        self, spec: Spec, *, idempotency_key: str | None = None, priority: int | None = None
    ) -> Call[JobResource]:
        """Submit a fine-tuning job."""
        return _submission("finetune", spec, idempotency_key, priority)

    @Operation
    def submit_evaluation(
        self, spec: Spec, *, idempotency_key: str | None = None, priority: int | None = None
    ) -> Call[JobResource]:
        """Submit an evaluation."""
        return _submission("evaluation", spec, idempotency_key, priority)

    @Operation
    def validate(self, spec: Spec) -> Call[EstimateResource]:
        """Check a search's spec and learn its cost; nothing is submitted."""
        params = {"validate_only": "true"}
        return send("POST", "/v1/searches", spec, EstimateResource.model_validate_json, params=params)

    @Operation
    def plan(self, spec: Spec, kind: JobKind = "search", *, options: Spec | None = None) -> Call[Plan]:
        """What a job of this kind would cost; nothing is submitted."""
        given = options.model_dump(exclude_none=True) if isinstance(options, BaseModel) else options or {}
        path = f"/v1/{KINDS[kind].collection}:plan"
        return send("POST", path, spec, TypeAdapter(Plan).validate_json, params=given)

    # -- looking -----------------------------------------------------------------------------------------------------

    @Operation
    def inspect_model(
        self, model: str, *, target_length: int | None = None, original_length: int | None = None
    ) -> Call[Inspection]:
        """What a model is and what an extension of it meets; `model` as the server finds it."""
        params = {"model": model, "target_length": target_length, "original_length": original_length}
        return fetch("/v1/models:inspect", TypeAdapter(Inspection).validate_json, params)

    @Operation
    def get(self, job_id: str) -> Call[JobResource]:
        """One job of any kind."""
        return fetch(job_path(job_id), JobResource.model_validate_json)

    @Operation
    def jobs(
        self,
        kind: JobKind = "search",
        *,
        state: str | None = None,
        label: str | None = None,
        limit: int | None = None,
        page_token: str | None = None,
        mine: bool = False,
    ) -> Call[JobPage]:
        """One page of jobs, newest first; `label` is key=value, `mine`: only those of this client's key."""
        params = {"state": state, "label": label, "limit": limit, "page_token": page_token, "mine": mine or None}
        return fetch(f"/v1/{KINDS[kind].collection}", JobPage.model_validate_json, params)

    @Operation
    def event_list(self, job_id: str, *, after: int = 0) -> Call[EventList]:
        """One page of a job's history."""
        return fetch(f"{job_path(job_id)}/events", EventList.model_validate_json, {"after": after})

    @Operation
    def files(self, job_id: str) -> Call[FileList]:
        """The files that a job has left: a search its factor file, a fine-tuning its checkpoint."""
        return fetch(f"{job_path(job_id)}/files", FileList.model_validate_json)

    @Operation
    def trial_page(
        self, search_id: str, *, after: int | None = None, limit: int | None = None, full: bool = False
    ) -> Call[TrialPage]:
        """One page of candidates by number; `full` adds their factors."""
        params = {"after": after, "limit": limit, "view": "full" if full else None}
        return fetch(f"{job_path(search_id)}/trials", TrialPage.model_validate_json, params)

    @Operation
    def _score_page(self, search_id: str, split: str, trial: int | None, after: str | None) -> Call[ScoreList]:
        params = {"split": split, "trial": trial, "limit": 200, "after": after}
        return fetch(f"{job_path(search_id)}/scores", ScoreList.model_validate_json, params)

    @Operation
    def pictures(self, search_id: str) -> Call[SearchPictures]:
        """The numbers behind the pictures of a search, in whatever state it is."""
        return fetch(f"{job_path(search_id)}/pictures", TypeAdapter(SearchPictures).validate_json)

    @Operation
    def factors(self, search_id: str) -> Call[Factors]:
        """The winning factors."""
        return fetch(f"{job_path(search_id)}/factors", _factors, {"format": "json"})

    @Operation
    def export(self, search_id: str, *, format: str = "json") -> Call[str]:
        """The winning factors as text, written by the server: it may know formats that are not known here."""
        return fetch(f"{job_path(search_id)}/factors", bytes.decode, {"format": format})

    @Operation
    def report(self, evaluation_id: str) -> Call[str]:
        """The report page of a finished evaluation: HTML that needs nothing else."""
        return fetch(f"{job_path(evaluation_id)}/report", bytes.decode)

    # -- steering ----------------------------------------------------------------------------------------------------

    @Operation
    def cancel(self, job_id: str) -> Call[JobResource]:
        """End a job."""
        return Call(method="POST", path=f"{job_path(job_id)}:cancel", read=JobResource.model_validate_json)

    @Operation
    def pause(self, job_id: str) -> Call[JobResource]:
        """Pause a search or a fine-tuning job."""
        return Call(method="POST", path=f"{job_path(job_id)}:pause", read=JobResource.model_validate_json)

    @Operation
    def resume(self, job_id: str) -> Call[JobResource]:
        """Continue a paused job."""
        return Call(method="POST", path=f"{job_path(job_id)}:resume", read=JobResource.model_validate_json)

    @Operation
    def delete(self, job_id: str) -> Call[DeletedResource]:
        """Delete a job that has ended, with all that belongs to it; needs a key of scope admin."""
        return Call(method="DELETE", path=job_path(job_id), read=DeletedResource.model_validate_json)

    @Operation
    def label(self, job_id: str, changes: Mapping[str, str | None]) -> Call[JobResource]:
        """Set labels of a job, or remove them (None); others stay."""
        return send("PATCH", job_path(job_id), {"labels": dict(changes)}, JobResource.model_validate_json)

    @Operation
    def prioritize(self, job_id: str, priority: int) -> Call[JobResource]:
        """Let a job come before those with a lesser priority; above 0 with a key of scope admin only."""
        return send("PATCH", job_path(job_id), {"priority": priority}, JobResource.model_validate_json)

    # -- webhooks ----------------------------------------------------------------------------------------------------

    @Operation
    def create_webhook(self, url: str, *, states: Sequence[str] | None = None) -> Call[NewWebhookResource]:
        """Have changes of your jobs told to a URL; default: ends and pauses. Only this answer has the secret."""
        spec = {"url": url} if states is None else {"url": url, "states": list(states)}
        return send("POST", "/v1/webhooks", spec, NewWebhookResource.model_validate_json)

    @Operation
    def webhooks(self) -> Call[WebhookList]:
        """Your webhooks; with scope admin, all."""
        return fetch("/v1/webhooks", WebhookList.model_validate_json)

    @Operation
    def end_webhook(self, webhook_id: str) -> Call[WebhookResource]:
        """Tell a webhook nothing any more."""
        return Call(method="DELETE", path=webhook_path(webhook_id), read=WebhookResource.model_validate_json)

    @Operation
    def deliveries(self, webhook_id: str) -> Call[DeliveryList]:
        """What a webhook was told last, and what became of it."""
        return fetch(f"{webhook_path(webhook_id)}/deliveries", DeliveryList.model_validate_json)

    # -- the server --------------------------------------------------------------------------------------------------

    @Operation
    def audit(
        self,
        *,
        subject: str | None = None,
        actor: str | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> Call[AuditList]:
        """Who did what, newest first; needs a key of scope admin."""
        params = {"subject": subject, "actor": actor, "before": before, "limit": limit}
        return fetch("/v1/audit", AuditList.model_validate_json, params)

    @Operation
    def health(self) -> Call[Health]:
        """Whether the process answers."""
        return fetch("/healthz", Health.model_validate_json)

    @Operation
    def ready(self) -> Call[Readiness]:
        """Whether the server can work; `ApiError` 503 says why not."""
        return fetch("/readyz", Readiness.model_validate_json)

    @Operation
    def metrics(self) -> Call[str]:
        """Prometheus text."""
        return fetch("/metrics", bytes.decode)


def _submission(kind: JobKind, spec: Spec, idempotency_key: str | None, priority: int | None) -> Call[JobResource]:
    if idempotency_key and not (idempotency_key.isascii() and idempotency_key.isprintable()):
        raise BadInput(f"an idempotency key must be printable ASCII, but got {idempotency_key!r}")
    return send(
        "POST",
        f"/v1/{KINDS[kind].collection}",
        spec,
        JobResource.model_validate_json,
        params={"priority": priority},
        headers={"Idempotency-Key": idempotency_key} if idempotency_key else None,
    )


def _factors(body: bytes) -> Factors:
    return Factors(read_result(strict_json(body.decode())))
