"""The client of a program without an event loop."""

import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from httpx_sse import connect_sse

from ropewalk.client import calls
from ropewalk.client.answers import (
    GIVE_UP_AFTER_SECONDS,
    NO_ANSWER,
    PASSING,
    RECONNECT_SECONDS,
    STREAM_TIMEOUT,
    TIMEOUT,
    Answers,
    Patience,
)
from ropewalk.client.calls import Call, Spec, T
from ropewalk.client.landing import landing
from ropewalk.client.progress import POLL_SECONDS, Deadline, ProgressBar
from ropewalk.client.proxies import direct, usable_proxies
from ropewalk.found import Factors
from ropewalk.wire.audit import AuditList
from ropewalk.wire.candidates import ScoreList, ScoreResource, TrialPage, TrialResource
from ropewalk.wire.files import FileList, FileResource
from ropewalk.wire.inspection import Inspection
from ropewalk.wire.jobs import (
    DeletedResource,
    EstimateResource,
    EventList,
    EventResource,
    Health,
    JobPage,
    JobResource,
    Readiness,
)
from ropewalk.wire.kinds import JobAction, JobKind
from ropewalk.wire.pictures import SearchPictures
from ropewalk.wire.plan import Plan
from ropewalk.wire.webhooks import DeliveryList, NewWebhookResource, WebhookList, WebhookResource


class Client:
    """A connection to one server; a context manager. Not for use from several threads at once.

    Every method raises ApiError when the server refuses, ServerUnreachable when there is none, BadInput for what cannot
    be sent, and IncompatibleServer when the answer is not one that this version knows.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`url`: default ROPEWALK_URL, else http://127.0.0.1:8000; `key`: an API key, default ROPEWALK_API_KEY;
        `verify`: the certificates that are trusted, as httpx takes them.

        Raises:
            BadInput: `url` is no URL of a server.
        """
        self._answers = Answers(url, key)
        with usable_proxies():
            self._http = httpx.Client(
                base_url=self._answers.address,
                headers=self._answers.headers,
                timeout=TIMEOUT,
                verify=verify,
                transport=transport,
                mounts=direct(self._answers.address),
                event_hooks={"response": [self._answers.hear]},
            )

    @property
    def url(self) -> str:
        """Of the server, without user and password."""
        return self._answers.url

    @property
    def server_version(self) -> str | None:
        """Of the last answer; None before the first, and where there is no Ropewalk server."""
        return self._answers.version

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # -- submission --------------------------------------------------------------------------------------------------

    def submit(self, spec: Spec, *, idempotency_key: str | None = None, priority: int | None = None) -> JobResource:
        """Submit a search. Submitting again with the same `idempotency_key` returns the first job."""
        return self._do(calls.submit("search", spec, idempotency_key, priority))

    def submit_finetune(
        self, spec: Spec, *, idempotency_key: str | None = None, priority: int | None = None
    ) -> JobResource:
        """Submit a fine-tuning job."""
        return self._do(calls.submit("finetune", spec, idempotency_key, priority))

    def submit_evaluation(
        self, spec: Spec, *, idempotency_key: str | None = None, priority: int | None = None
    ) -> JobResource:
        """Submit an evaluation."""
        return self._do(calls.submit("evaluation", spec, idempotency_key, priority))

    def validate(self, spec: Spec) -> EstimateResource:
        """Check a search's spec and learn its cost; nothing is submitted."""
        return self._do(calls.validate_search(spec))

    def plan(self, spec: Spec, kind: JobKind = "search", *, options: Spec | None = None) -> Plan:
        """What a job of this kind would cost; nothing is submitted."""
        return self._do(calls.plan(kind, spec, options))

    # -- looking -----------------------------------------------------------------------------------------------------

    def inspect_model(
        self, model: str, *, target_length: int | None = None, original_length: int | None = None
    ) -> Inspection:
        """What a model is and what an extension of it meets; `model` as the server finds it."""
        return self._do(calls.inspect_model(model, target_length, original_length))

    def get(self, job_id: str) -> JobResource:
        """One job of any kind."""
        return self._do(calls.job(job_id))

    def jobs(
        self,
        kind: JobKind = "search",
        *,
        state: str | None = None,
        label: str | None = None,
        limit: int | None = None,
        page_token: str | None = None,
        mine: bool = False,
    ) -> JobPage:
        """One page of jobs, newest first; `label` is key=value, `mine`: only those of this client's key."""
        return self._do(calls.jobs(kind, state, label, limit, page_token, mine=mine))

    def trial_page(
        self, search_id: str, *, after: int | None = None, limit: int | None = None, full: bool = False
    ) -> TrialPage:
        """One page of candidates by number; `full` adds their factors."""
        return self._do(calls.trials(search_id, after, limit, full=full))

    def trials(self, search_id: str, *, full: bool = False) -> Iterator[TrialResource]:
        """Every candidate by number, asked for page by page; `full` adds their factors."""
        after: int | None = None
        while True:
            page = self.trial_page(search_id, after=after, limit=200, full=full)
            yield from page.items
            if page.next_after is None:
                return
            after = page.next_after

    def scores(self, search_id: str, *, split: str = "validation", trial: int | None = None) -> ScoreList:
        """Every document score of a split, page after page."""
        items: list[ScoreResource] = []
        after: str | None = None
        while True:
            page = self._do(calls.scores(search_id, split, trial, after))
            items += page.items
            if page.next_after is None:
                return ScoreList(items=items, next_after=None)
            after = page.next_after

    def pictures(self, search_id: str) -> SearchPictures:
        """The numbers behind the pictures of a search, in whatever state it is."""
        return self._do(calls.pictures(search_id))

    def files(self, job_id: str) -> FileList:
        """The files that a job has left: a search its factor file, a fine-tuning its checkpoint."""
        return self._do(calls.files(job_id))

    def download(self, job_id: str, directory: str | Path) -> list[Path]:
        """Copy a job's files below `directory`, by their names; each appears whole and checked, or not at all.

        Raises:
            OSError: the disk does not take them.
        """
        return [self._download(job_id, file, Path(directory)) for file in self.files(job_id).items]

    def _download(self, job_id: str, file: FileResource, directory: Path) -> Path:
        try:
            address = calls.file_path(job_id, file.name)
            with (
                landing(directory, file) as (path, write),
                self._http.stream("GET", address, timeout=STREAM_TIMEOUT) as response,
            ):
                if response.is_error:
                    response.read()
                    raise self._answers.refusal(response)
                for chunk in response.iter_bytes():
                    write(chunk)
            return path
        except NO_ANSWER as error:
            raise self._answers.failure(error) from error

    def factors(self, search_id: str) -> Factors:
        """The winning factors."""
        return Factors(self._do(calls.factors(search_id)))

    def export(self, search_id: str, *, format: str = "json") -> str:
        """The winning factors as text, written by the server: it may know formats that are not known here."""
        return self._do(calls.export(search_id, format))

    def report(self, evaluation_id: str) -> str:
        """The report page of a finished evaluation: HTML that needs nothing else."""
        return self._do(calls.report(evaluation_id))

    def health(self) -> Health:
        """Whether the process answers."""
        return self._do(calls.health())

    def ready(self) -> Readiness:
        """Whether the server can work; `ApiError` 503 says why not."""
        return self._do(calls.ready())

    def metrics(self) -> str:
        """Prometheus text."""
        return self._do(calls.metrics())

    # -- steering ----------------------------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> JobResource:
        """End a job."""
        return self._act(job_id, "cancel")

    def pause(self, job_id: str) -> JobResource:
        """Pause a search or a fine-tuning job."""
        return self._act(job_id, "pause")

    def resume(self, job_id: str) -> JobResource:
        """Continue a paused job."""
        return self._act(job_id, "resume")

    def delete(self, job_id: str) -> DeletedResource:
        """Delete a job that has ended, with all that belongs to it; needs a key of scope admin."""
        return self._do(calls.delete(job_id))

    def label(self, job_id: str, changes: Mapping[str, str | None]) -> JobResource:
        """Set labels of a job, or remove them (None); others stay."""
        return self._do(calls.label(job_id, changes))

    def prioritize(self, job_id: str, priority: int) -> JobResource:
        """Let a job come before those with a lesser priority; above 0 with a key of scope admin only."""
        return self._do(calls.prioritize(job_id, priority))

    def _act(self, job_id: str, action: JobAction) -> JobResource:
        return self._do(calls.act(job_id, action))

    def audit(
        self,
        *,
        subject: str | None = None,
        actor: str | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> AuditList:
        """Who did what, newest first; needs a key of scope admin."""
        return self._do(calls.audit(subject, actor, before, limit))

    # -- webhooks ----------------------------------------------------------------------------------------------------

    def create_webhook(self, url: str, *, states: Sequence[str] | None = None) -> NewWebhookResource:
        """Have changes of your jobs told to a URL; default: ends and pauses. Only this answer has the secret."""
        return self._do(calls.create_webhook(url, states))

    def webhooks(self) -> WebhookList:
        """Your webhooks; with scope admin, all."""
        return self._do(calls.webhooks())

    def end_webhook(self, webhook_id: str) -> WebhookResource:
        """Tell a webhook nothing any more."""
        return self._do(calls.end_webhook(webhook_id))

    def deliveries(self, webhook_id: str) -> DeliveryList:
        """What a webhook was told last, and what became of it."""
        return self._do(calls.deliveries(webhook_id))

    # -- waiting -----------------------------------------------------------------------------------------------------

    def event_list(self, job_id: str, *, after: int = 0) -> EventList:
        """One page of a job's history."""
        return self._do(calls.events(job_id, after))

    def watch(
        self, job_id: str, *, after: int = 0, give_up_after_seconds: float = GIVE_UP_AFTER_SECONDS
    ) -> Iterator[EventResource]:
        """A job's events as they happen, each once, until the job has ended; from the one after the id `after`.

        A lost connection is made again where it broke off.

        Raises:
            ServerUnreachable: no server answers at all, or none has for `give_up_after_seconds`.
        """
        patience = Patience(self._answers, give_up_after_seconds)
        while True:
            try:
                for event in self._stream(job_id, after):
                    patience.heard()
                    after = event.id
                    yield event
                if self.get(job_id).is_final and not self.event_list(job_id, after=after).items:
                    return
                patience.heard()
            except PASSING as error:
                patience.bear(error)
            time.sleep(RECONNECT_SECONDS)

    def _stream(self, job_id: str, after: int) -> Iterator[EventResource]:
        headers = {"Last-Event-ID": str(after)} if after else {}
        path = f"{calls.job_path(job_id)}/events"
        with connect_sse(self._http, "GET", path, headers=headers, timeout=STREAM_TIMEOUT) as source:
            if source.response.is_error:
                source.response.read()
                raise self._answers.refusal(source.response)
            if source.response.status_code == 204:
                return
            for message in source.iter_sse():
                if message.data:
                    yield self._answers.event(message.data)

    def snapshots(
        self,
        job_id: str,
        *,
        every_seconds: float = POLL_SECONDS,
        give_up_after_seconds: float = GIVE_UP_AFTER_SECONDS,
    ) -> Iterator[JobResource | None]:
        """The job, again and again until it has ended, the last one ended; None while the server is away.

        Raises:
            ServerUnreachable: no server answers at all, or none has for `give_up_after_seconds`.
        """
        patience = Patience(self._answers, give_up_after_seconds)
        while True:
            job: JobResource | None = None
            try:
                job = self.get(job_id)
                patience.heard()
            except PASSING as error:
                patience.bear(error)
            yield job
            if job is not None and job.is_final:
                return
            time.sleep(every_seconds)

    def wait(
        self,
        job_id: str,
        *,
        progress: bool = False,
        timeout_seconds: float | None = None,
        give_up_after_seconds: float = GIVE_UP_AFTER_SECONDS,
    ) -> JobResource:
        """Return when the job has ended, however it did. With `progress` a bar is drawn meanwhile.

        Raises:
            TimeoutError: it has not ended within `timeout_seconds`; it goes on.
            ServerUnreachable: no server answers at all, or none has for `give_up_after_seconds`.
        """
        deadline = Deadline(job_id, timeout_seconds)
        with ProgressBar(job_id, is_shown=progress) as bar:
            for job in self.snapshots(job_id, give_up_after_seconds=give_up_after_seconds):
                bar.show(job)
                if job is not None and job.is_final:
                    return job
                deadline.check()
        raise AssertionError("snapshots end with a job that has ended")

    # -- the wire ----------------------------------------------------------------------------------------------------

    def _do(self, call: Call[T]) -> T:
        try:
            response = self._http.request(
                call.method, call.path, params=call.sent_params, content=call.content, headers=dict(call.headers)
            )
        except NO_ANSWER as error:
            raise self._answers.failure(error) from error
        return self._answers.value(call, response)
