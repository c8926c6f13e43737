"""The typed Python client: one method per route, errors as `ApiError`, event streams that resume by themselves.

from api.client import RopewalkClient
with RopewalkClient("http://127.0.0.1:8000") as client:
    search = client.submit_search({"model": "pocket", "target_length": 1024})
    for event in client.events(search.id):
        print(event.type, event.data)
    print(client.factors(search.id))
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from httpx_sse import SSEError, connect_sse
from pydantic import BaseModel, TypeAdapter

from api.errors import BadInput, ServerUnreachable
from api.wire.candidates import ScoreList, ScoreResource, TrialPage
from api.wire.jobs import EstimateResource, EventList, EventResource, Health, JobPage, JobResource, Readiness
from api.wire.problems import FieldProblem, problem_from_text
from service.inspection.data import Inspection
from service.pictures.data import SearchPictures
from service.plans.data import Plan
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from service.specs.plan import PlanOptions
from service.specs.search import SearchSpec
from storage.kinds import BY_PREFIX, KINDS, KindRow
from storage.records import JobAction, JobKind, JobState

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
STREAM_TIMEOUT = httpx.Timeout(45.0, connect=5.0)  # three missed keep-alives
RECONNECT_SECONDS = 1.0

Model = TypeVar("Model", bound=BaseModel)
SpecValue = Mapping[str, Any]


class ApiError(Exception):
    """The server refused a request: `status`, the stable `code`, and the rule that was broken."""

    def __init__(self, status: int, code: str, detail: str, errors: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors


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


class RopewalkClient:
    """A connection to one server; a context manager. Not for use from several threads at once."""

    def __init__(self, url: str, *, key: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        """`url` may hold a user and a password; messages name it without them.

        Raises:
            BadInput: `url` is no URL of a server.
        """
        address = _address(url)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url = str(address.copy_with(username=None, password=None)).rstrip("/")
        self._was_answered = False
        self._http = httpx.Client(
            base_url=address,
            headers=headers,
            timeout=TIMEOUT,
            transport=transport,
            event_hooks={"response": [self._hear]},
        )

    @property
    def was_answered(self) -> bool:
        """Whether a server has ever answered here: then one that does not is waited for, else the URL is wrong."""
        return self._was_answered

    def _hear(self, response: httpx.Response) -> None:
        self._was_answered = True

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

    def submit_search(self, spec: SearchSpec | SpecValue, *, idempotency_key: str | None = None) -> JobResource:
        """Submit a search."""
        return self._submit("search", spec, idempotency_key)

    def submit_finetune(self, spec: FinetuneSpec | SpecValue, *, idempotency_key: str | None = None) -> JobResource:
        """Submit a fine-tuning job."""
        return self._submit("finetune", spec, idempotency_key)

    def submit_evaluation(self, spec: EvaluationSpec | SpecValue, *, idempotency_key: str | None = None) -> JobResource:
        """Submit an evaluation."""
        return self._submit("evaluation", spec, idempotency_key)

    def validate_search(self, spec: SearchSpec | SpecValue) -> EstimateResource:
        """Check a spec and learn its cost; nothing is submitted."""
        body, headers = _body(spec), {"Content-Type": "application/json"}
        params = {"validate_only": "true"}
        return self._send(EstimateResource, "POST", "/v1/searches", content=body, headers=headers, params=params)

    def plan(self, kind: JobKind, spec: BaseModel | SpecValue, options: PlanOptions | None = None) -> Plan:
        """What a job of this kind would cost; nothing is submitted."""
        body, headers = _body(spec), {"Content-Type": "application/json"}
        params = {} if options is None else options.model_dump(exclude_none=True)
        path = f"/v1/{KINDS[kind].collection}:plan"
        answer = self._request("POST", path, content=body, headers=headers, params=params)
        return TypeAdapter(Plan).validate_json(answer.content)

    def _submit(self, kind: JobKind, spec: BaseModel | SpecValue, idempotency_key: str | None) -> JobResource:
        headers = {"Content-Type": "application/json"}
        if idempotency_key:
            if not (idempotency_key.isascii() and idempotency_key.isprintable()):
                raise BadInput(f"an idempotency key must be printable ASCII, but got {idempotency_key!r}")
            headers["Idempotency-Key"] = idempotency_key
        return self._send(JobResource, "POST", f"/v1/{KINDS[kind].collection}", content=_body(spec), headers=headers)

    # -- looking -----------------------------------------------------------------------------------------------------

    def inspect_model(
        self, model: str, *, target_length: int | None = None, original_length: int | None = None
    ) -> Inspection:
        """What a model is and what an extension of it meets; `model` as the server finds it."""
        params = {"model": model, "target_length": target_length, "original_length": original_length}
        content = self._request("GET", "/v1/models:inspect", params=params).content
        return TypeAdapter(Inspection).validate_json(content)

    def job(self, job_id: str) -> JobResource:
        """One job of any kind."""
        return self._send(JobResource, "GET", _path(job_id))

    def jobs(
        self,
        kind: JobKind = "search",
        *,
        state: JobState | None = None,
        label: str | None = None,
        limit: int | None = None,
        page_token: str | None = None,
    ) -> JobPage:
        """One page of jobs, newest first; `label` is key=value."""
        params = {"state": state, "label": label, "limit": limit, "page_token": page_token}
        return self._send(JobPage, "GET", f"/v1/{KINDS[kind].collection}", params=params)

    def trials(
        self, search_id: str, *, after: int | None = None, limit: int | None = None, full: bool = False
    ) -> TrialPage:
        """One page of candidates by number; `full` adds their factors."""
        params = {"after": after, "limit": limit, "view": "full" if full else None}
        return self._send(TrialPage, "GET", f"{_path(search_id)}/trials", params=params)

    def all_trials(self, search_id: str, *, full: bool = False) -> Iterator["TrialPage"]:
        """Every page of candidates."""
        after: int | None = None
        while True:
            page = self.trials(search_id, after=after, limit=200, full=full)
            yield page
            if page.next_after is None:
                return
            after = page.next_after

    def scores(self, search_id: str, *, split: str = "validation", trial: int | None = None) -> ScoreList:
        """Every document score of a split, page after page."""
        items: list[ScoreResource] = []
        params: dict[str, object] = {"split": split, "trial": trial, "limit": 200}
        while True:
            page = self._send(ScoreList, "GET", f"{_path(search_id)}/scores", params=params)
            items += page.items
            if page.next_after is None:
                return ScoreList(items=items, next_after=None)
            params["after"] = page.next_after

    def pictures(self, search_id: str) -> SearchPictures:
        """What is drawn of a search, in whatever state it is; `api.drawing.search` makes PNG files of it."""
        content = self._request("GET", f"{_path(search_id)}/pictures").content
        return TypeAdapter(SearchPictures).validate_json(content)

    def factors(self, search_id: str, *, format: str = "json") -> str:
        """The winning factors as text: json, hf, vllm, mlx or csv."""
        return self._request("GET", f"{_path(search_id)}/factors", params={"format": format}).text

    def report(self, evaluation_id: str) -> str:
        """The report page of a finished evaluation: HTML that needs nothing else."""
        return self._request("GET", f"{_path(evaluation_id)}/report").text

    def health(self) -> Health:
        """Whether the process answers."""
        return self._send(Health, "GET", "/healthz")

    def ready(self) -> Readiness:
        """Whether the server can work; `ApiError` 503 says why not."""
        return self._send(Readiness, "GET", "/readyz")

    def metrics(self) -> str:
        """Prometheus text."""
        return self._request("GET", "/metrics").text

    # -- steering ----------------------------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> JobResource:
        """End a job."""
        return self._act(job_id, "cancel")

    def pause(self, search_id: str) -> JobResource:
        """Pause a search."""
        return self._act(search_id, "pause")

    def resume(self, search_id: str) -> JobResource:
        """Continue a paused search."""
        return self._act(search_id, "resume")

    def _act(self, job_id: str, action: JobAction) -> JobResource:
        return self._send(JobResource, "POST", f"{_path(job_id)}:{action}")

    # -- events ------------------------------------------------------------------------------------------------------

    def event_list(self, job_id: str, *, after: int = 0) -> EventList:
        """One page of a job's history."""
        return self._send(EventList, "GET", f"{_path(job_id)}/events", params={"after": after})

    def events(self, job_id: str, *, after: int = 0, give_up_after_seconds: float = 60.0) -> Iterator[EventResource]:
        """A job's events as they happen, each once, until the job has ended.

        A lost connection is made again where it broke off.

        Raises:
            ServerUnreachable: no server answers at all, or none has for `give_up_after_seconds`.
        """
        heard_at = time.monotonic()
        while True:
            try:
                for event in self._stream(job_id, after):
                    heard_at = time.monotonic()
                    after = event.id
                    yield event
                if self.job(job_id).is_final and not self.event_list(job_id, after=after).items:
                    return
                heard_at = time.monotonic()
            except (httpx.TransportError, SSEError, ServerUnreachable) as error:
                if not self.was_answered:
                    raise self._unreachable(error) from error
                if time.monotonic() - heard_at > give_up_after_seconds:
                    raise ServerUnreachable(f"the server at {self.url} stopped answering: {error}") from error
            except ApiError as error:
                if error.status not in (429, 503) or time.monotonic() - heard_at > give_up_after_seconds:
                    raise
            time.sleep(RECONNECT_SECONDS)

    def _stream(self, job_id: str, after: int) -> Iterator[EventResource]:
        headers = {"Last-Event-ID": str(after)} if after else {}
        path = f"{_path(job_id)}/events"
        with connect_sse(self._http, "GET", path, headers=headers, timeout=STREAM_TIMEOUT) as source:
            if source.response.is_error:
                source.response.read()
                raise _error_of(source.response)
            if source.response.status_code == 204:
                return
            for message in source.iter_sse():
                if message.data:
                    yield EventResource.model_validate_json(message.data)

    def wait(self, job_id: str) -> JobResource:
        """Return when the job has ended."""
        for _ in self.events(job_id):
            pass
        return self.job(job_id)

    # -- the wire ----------------------------------------------------------------------------------------------------

    def _send(self, model: type[Model], method: str, path: str, **request: Any) -> Model:
        return model.model_validate_json(self._request(method, path, **request).content)

    def _request(self, method: str, path: str, **request: Any) -> httpx.Response:
        if "params" in request:
            request["params"] = {name: value for name, value in request["params"].items() if value is not None}
        try:
            response = self._http.request(method, path, **request)
        except (httpx.LocalProtocolError, UnicodeError) as error:  # their texts quote the key
            raise BadInput("keys and parameters must be text that HTTP can carry, but one of them is not") from error
        except httpx.ReadTimeout as error:
            raise ServerUnreachable(
                f"the server at {self.url} did not answer within {TIMEOUT.read:g} s; it may still do what was asked"
            ) from error
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _error_of(response)
        return response

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        reason = f"{type(error).__name__}: {error}"
        return ServerUnreachable(f"no server answers at {self.url} ({reason}); start one with: ropewalk serve")


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url.rstrip("/"))
        if not address.host.encode("idna"):  # as connecting will
            raise httpx.InvalidURL("no host")
    except (httpx.InvalidURL, UnicodeError):
        shown = "" if "@" in url else f", but got {url!r}"  # it may hold a password
        raise BadInput(f"the server's URL must be like http://127.0.0.1:8000{shown}") from None
    return address


def _path(job_id: str) -> str:
    return f"/v1/{kind_of(job_id).collection}/{job_id}"


def _body(spec: BaseModel | SpecValue) -> bytes:
    plain = spec.model_dump(mode="json") if isinstance(spec, BaseModel) else spec
    try:
        return json.dumps(plain, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"a spec must be Unicode text, but got {error.object[error.start : error.end]!r}") from error
    except (ValueError, RecursionError) as error:  # not finite, or beyond what Python writes
        raise BadInput(f"a spec must be JSON of finite numbers: {error}") from error


def _error_of(response: httpx.Response) -> ApiError:
    problem = problem_from_text(response.text)
    if problem is None:
        text = response.text.strip().splitlines()
        return ApiError(response.status_code, "HTTP_ERROR", text[0][:200] if text else response.reason_phrase)
    return ApiError(response.status_code, problem.code, problem.detail, tuple(problem.errors or ()))
