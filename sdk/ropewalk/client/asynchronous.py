"""The client of a program with an event loop: the same calls as the other one's, awaited."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from httpx_sse import aconnect_sse

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


class AsyncClient:
    """A connection to one server; an asynchronous context manager, for one event loop. See :class:`ropewalk.Client`.

    Every method raises ApiError when the server refuses, ServerUnreachable when there is none, BadInput for what cannot
    be sent, and IncompatibleServer when the answer is not one that this version knows.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`url`: default ROPEWALK_URL, else http://127.0.0.1:8000; `key`: an API key, default ROPEWALK_API_KEY;
        `verify`: the certificates that are trusted, as httpx takes them.

        Raises:
            BadInput: `url` is no URL of a server.
        """
        self._answers = Answers(url, key)
        with usable_proxies():
            self._http = httpx.AsyncClient(
                base_url=self._answers.address,
                headers=self._answers.headers,
                timeout=TIMEOUT,
                verify=verify,
                transport=transport,
                mounts=direct(self._answers.address),
                event_hooks={"response": [self._hear]},
            )

    @property
    def url(self) -> str:
        """Of the server, without user and password."""
        return self._answers.url

    @property
    def server_version(self) -> str | None:
        """Of the last answer; None before the first, and where there is no Ropewalk server."""
        return self._answers.version

    async def _hear(self, response: httpx.Response) -> None:
        self._answers.hear(response)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # -- submission --------------------------------------------------------------------------------------------------

    async def submit(
        self, spec: Spec, *, idempotency_key: str | None = None, priority: int | None = None
    ) -> JobResource:
        """Submit a search. Submitting again with the same `idempotency_key` returns the first job."""
        return await self._do(calls.submit("search", spec, idempotency_key, priority))

    async def submit_finetune(
        self, spec: Spec, *, idempotency_key: str | None = None, priority: int | None = None
    ) -> JobResource:
        """Submit a fine-tuning job."""
        return await self._do(calls.submit("finetune", spec, idempotency_key, priority))

    async def submit_evaluation(
        self, spec: Spec, *, idempotency_key: str | None = None, priority: int | None = None
    ) -> JobResource:
        """Submit an evaluation."""
        return await self._do(calls.submit("evaluation", spec, idempotency_key, priority))

    async def validate(self, spec: Spec) -> EstimateResource:
        """Check a search's spec and learn its cost; nothing is submitted."""
        return await self._do(calls.validate_search(spec))

    async def plan(self, spec: Spec, kind: JobKind = "search", *, options: Spec | None = None) -> Plan:
        """What a job of this kind would cost; nothing is submitted."""
        return await self._do(calls.plan(kind, spec, options))

    # -- looking -----------------------------------------------------------------------------------------------------

    async def inspect_model(
        self, model: str, *, target_length: int | None = None, original_length: int | None = None
    ) -> Inspection:
        """What a model is and what an extension of it meets; `model` as the server finds it."""
        return await self._do(calls.inspect_model(model, target_length, original_length))

    async def get(self, job_id: str) -> JobResource:
        """One job of any kind."""
        return await self._do(calls.job(job_id))

    async def jobs(
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
        return await self._do(calls.jobs(kind, state, label, limit, page_token, mine=mine))

    async def trial_page(
        self, search_id: str, *, after: int | None = None, limit: int | None = None, full: bool = False
    ) -> TrialPage:
        """One page of candidates by number; `full` adds their factors."""
        return await self._do(calls.trials(search_id, after, limit, full=full))

    async def trials(self, search_id: str, *, full: bool = False) -> AsyncIterator[TrialResource]:
        """Every candidate by number, asked for page by page; `full` adds their factors."""
        after: int | None = None
        while True:
            page = await self.trial_page(search_id, after=after, limit=200, full=full)
            for item in page.items:
                yield item
            if page.next_after is None:
                return
            after = page.next_after

    async def scores(self, search_id: str, *, split: str = "validation", trial: int | None = None) -> ScoreList:
        """Every document score of a split, page after page."""
        items: list[ScoreResource] = []
        after: str | None = None
        while True:
            page = await self._do(calls.scores(search_id, split, trial, after))
            items += page.items
            if page.next_after is None:
                return ScoreList(items=items, next_after=None)
            after = page.next_after

    async def pictures(self, search_id: str) -> SearchPictures:
        """The numbers behind the pictures of a search, in whatever state it is."""
        return await self._do(calls.pictures(search_id))

    async def files(self, job_id: str) -> FileList:
        """The files that a job has left: a search its factor file, a fine-tuning its checkpoint."""
        return await self._do(calls.files(job_id))

    async def download(self, job_id: str, directory: str | Path) -> list[Path]:
        """Copy a job's files below `directory`, by their names; each appears whole and checked, or not at all.

        Raises:
            OSError: the disk does not take them.
        """
        return [await self._download(job_id, file, Path(directory)) for file in (await self.files(job_id)).items]

    async def _download(self, job_id: str, file: FileResource, directory: Path) -> Path:
        try:
            with landing(directory, file) as (path, write):
                address = calls.file_path(job_id, file.name)
                async with self._http.stream("GET", address, timeout=STREAM_TIMEOUT) as response:
                    if response.is_error:
                        await response.aread()
                        raise self._answers.refusal(response)
                    async for chunk in response.aiter_bytes():
                        write(chunk)
            return path
        except NO_ANSWER as error:
            raise self._answers.failure(error) from error

    async def factors(self, search_id: str) -> Factors:
        """The winning factors."""
        return Factors(await self._do(calls.factors(search_id)))

    async def export(self, search_id: str, *, format: str = "json") -> str:
        """The winning factors as text, written by the server: it may know formats that are not known here."""
        return await self._do(calls.export(search_id, format))

    async def report(self, evaluation_id: str) -> str:
        """The report page of a finished evaluation: HTML that needs nothing else."""
        return await self._do(calls.report(evaluation_id))

    async def health(self) -> Health:
        """Whether the process answers."""
        return await self._do(calls.health())

    async def ready(self) -> Readiness:
        """Whether the server can work; `ApiError` 503 says why not."""
        return await self._do(calls.ready())

    async def metrics(self) -> str:
        """Prometheus text."""
        return await self._do(calls.metrics())

    # -- steering ----------------------------------------------------------------------------------------------------

    async def cancel(self, job_id: str) -> JobResource:
        """End a job."""
        return await self._act(job_id, "cancel")

    async def pause(self, job_id: str) -> JobResource:
        """Pause a search or a fine-tuning job."""
        return await self._act(job_id, "pause")

    async def resume(self, job_id: str) -> JobResource:
        """Continue a paused job."""
        return await self._act(job_id, "resume")

    async def delete(self, job_id: str) -> DeletedResource:
        """Delete a job that has ended, with all that belongs to it; needs a key of scope admin."""
        return await self._do(calls.delete(job_id))

    async def label(self, job_id: str, changes: Mapping[str, str | None]) -> JobResource:
        """Set labels of a job, or remove them (None); others stay."""
        return await self._do(calls.label(job_id, changes))

    async def prioritize(self, job_id: str, priority: int) -> JobResource:
        """Let a job come before those with a lesser priority; above 0 with a key of scope admin only."""
        return await self._do(calls.prioritize(job_id, priority))

    async def _act(self, job_id: str, action: JobAction) -> JobResource:
        return await self._do(calls.act(job_id, action))

    async def audit(
        self,
        *,
        subject: str | None = None,
        actor: str | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> AuditList:
        """Who did what, newest first; needs a key of scope admin."""
        return await self._do(calls.audit(subject, actor, before, limit))

    # -- webhooks ----------------------------------------------------------------------------------------------------

    async def create_webhook(self, url: str, *, states: Sequence[str] | None = None) -> NewWebhookResource:
        """Have changes of your jobs told to a URL; default: ends and pauses. Only this answer has the secret."""
        return await self._do(calls.create_webhook(url, states))

    async def webhooks(self) -> WebhookList:
        """Your webhooks; with scope admin, all."""
        return await self._do(calls.webhooks())

    async def end_webhook(self, webhook_id: str) -> WebhookResource:
        """Tell a webhook nothing any more."""
        return await self._do(calls.end_webhook(webhook_id))

    async def deliveries(self, webhook_id: str) -> DeliveryList:
        """What a webhook was told last, and what became of it."""
        return await self._do(calls.deliveries(webhook_id))

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def event_list(self, job_id: str, *, after: int = 0) -> EventList:
        """One page of a job's history."""
        return await self._do(calls.events(job_id, after))

    async def watch(
        self, job_id: str, *, after: int = 0, give_up_after_seconds: float = GIVE_UP_AFTER_SECONDS
    ) -> AsyncIterator[EventResource]:
        """A job's events as they happen, each once, until the job has ended; from the one after the id `after`.

        A lost connection is made again where it broke off.

        Raises:
            ServerUnreachable: no server answers at all, or none has for `give_up_after_seconds`.
        """
        patience = Patience(self._answers, give_up_after_seconds)
        while True:
            try:
                async for event in self._stream(job_id, after):
                    patience.heard()
                    after = event.id
                    yield event
                if (await self.get(job_id)).is_final and not (await self.event_list(job_id, after=after)).items:
                    return
                patience.heard()
            except PASSING as error:
                patience.bear(error)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _stream(self, job_id: str, after: int) -> AsyncIterator[EventResource]:
        headers = {"Last-Event-ID": str(after)} if after else {}
        path = f"{calls.job_path(job_id)}/events"
        async with aconnect_sse(self._http, "GET", path, headers=headers, timeout=STREAM_TIMEOUT) as source:
            if source.response.is_error:
                await source.response.aread()
                raise self._answers.refusal(source.response)
            if source.response.status_code == 204:
                return
            async for message in source.aiter_sse():
                if message.data:
                    yield self._answers.event(message.data)

    async def snapshots(
        self,
        job_id: str,
        *,
        every_seconds: float = POLL_SECONDS,
        give_up_after_seconds: float = GIVE_UP_AFTER_SECONDS,
    ) -> AsyncIterator[JobResource | None]:
        """The job, again and again until it has ended, the last one ended; None while the server is away.

        Raises:
            ServerUnreachable: no server answers at all, or none has for `give_up_after_seconds`.
        """
        patience = Patience(self._answers, give_up_after_seconds)
        while True:
            job: JobResource | None = None
            try:
                job = await self.get(job_id)
                patience.heard()
            except PASSING as error:
                patience.bear(error)
            yield job
            if job is not None and job.is_final:
                return
            await asyncio.sleep(every_seconds)

    async def wait(
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
            async for job in self.snapshots(job_id, give_up_after_seconds=give_up_after_seconds):
                bar.show(job)
                if job is not None and job.is_final:
                    return job
                deadline.check()
        raise AssertionError("snapshots end with a job that has ended")

    # -- the wire ----------------------------------------------------------------------------------------------------

    async def _do(self, call: Call[T]) -> T:
        try:
            response = await self._http.request(
                call.method, call.path, params=call.sent_params, content=call.content, headers=dict(call.headers)
            )
        except NO_ANSWER as error:
            raise self._answers.failure(error) from error
        return self._answers.value(call, response)
