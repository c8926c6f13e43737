"""The routes that every kind of job has: list, look, ask for an end or a pause, follow its history, take its files,
label, delete."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self
from urllib.parse import quote

from fastapi import APIRouter, Body, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, Field, model_validator

from api.http import deps
from api.http.routes import common
from api.wire.jobs import deleted_resource, file_list, job_page, job_resource
from ropewalk.wire.files import FileList
from ropewalk.wire.jobs import DeletedResource, EventList, JobPage, JobResource
from ropewalk.wire.kinds import KINDS, JobAction, JobKind
from service.specs.base import MAX_LABELS, Label, Spec
from storage.records import PRIORITIES

DELETION = (
    "Delete a job that has ended, with its scores, events, study and files; needs scope admin. A row of the audit log "
    "stays."
)
CHANGE = (
    "Set labels of a job, or remove them (null): others stay, and what was there before is kept nowhere. Or change its "
    "priority among jobs that wait: above 0 with scope admin only."
)


class JobChanges(Spec):
    """What may be changed of a job."""

    labels: dict[Label, Label | None] = Field({}, max_length=MAX_LABELS, description="by name; null removes one")
    priority: int | None = Field(None, ge=PRIORITIES[0], le=PRIORITIES[1], description="null: as it is")

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("at least one of labels and priority must be given")
        return self


ChangesBody = Annotated[
    JobChanges,
    AfterValidator(deps.without_nul),
    Body(openapi_examples={"labels": {"value": {"labels": {"team": "long-context", "secret": None}}}}),
]
FILES = "The files that the job has left, with their checksums: a search its factor file, a fine-tuning its checkpoint."
FILE = "The content of a file, as long as it is what was stored: otherwise the connection ends before the last bytes."
BINARY = {"type": "string", "format": "binary"}
Endpoint = Callable[..., Any]


def add_job_routes(
    router: APIRouter, kind: JobKind, *, page: str, one: str, actions: Mapping[JobAction, str], events: str
) -> None:
    """Add them to the router of `kind`; what the OpenAPI document says of each is given here."""
    row, path = KINDS[kind], f"/{{{kind}_id}}"
    job_id: Any = Path(alias=f"{kind}_id")

    def add(name: str, path: str, endpoint: Endpoint, description: str, **options: Any) -> None:
        router.add_api_route(path, endpoint, name=name, operation_id=name, description=description, **options)

    add(f"list_{row.collection}", "", _page_of(kind), page, responses=common.problems())
    add(f"get_{kind}", path, _one_of(kind, job_id), one, responses=common.problems(404))
    add(
        f"delete_{kind}",
        path,
        _deletion_of(kind, job_id),
        DELETION,
        methods=["DELETE"],
        responses=common.problems(404, 409),
    )
    add(
        f"change_{kind}",
        path,
        _change_of(kind, job_id),
        CHANGE,
        methods=["PATCH"],
        responses=common.problems(404, 413, 415),
    )
    for action in row.actions:
        act, refusals = _action_of(kind, job_id, action), common.problems(404, 409)
        add(f"{action}_{kind}", f"{path}:{action}", act, actions[action], methods=["POST"], responses=refusals)
    add(f"list_{kind}_files", f"{path}/files", _files_of(kind, job_id), FILES, responses=common.problems(404))
    add(
        f"get_{kind}_file",
        f"{path}/files/{{name:path}}",
        _file_of(kind, job_id),
        FILE,
        response_class=StreamingResponse,
        responses={200: {"content": {"application/octet-stream": {"schema": BINARY}}}, **common.problems(404)},
    )
    add(
        f"list_{kind}_events",
        f"{path}/events",
        _events_of(kind, job_id),
        events,
        response_model=EventList,
        responses=common.EVENT_RESPONSES,
    )


def _page_of(kind: JobKind) -> Endpoint:
    def page(
        door: deps.TheDoor,
        who: deps.Who,
        limit: deps.Limit,
        label: deps.Label,
        state: deps.State = None,
        page_token: deps.PageToken = None,
        mine: deps.Mine = False,
    ) -> JobPage:
        owner = who.owner if mine else who.sees
        found = door.jobs(kind, state=state, label=label, owner=owner, limit=limit, page_token=page_token)
        return job_page(found)

    return page


def _one_of(kind: JobKind, the_id: Any) -> Endpoint:
    def one(door: deps.TheDoor, job_id: str = the_id) -> JobResource:
        return job_resource(door.job_with_conditions(kind, job_id), door.warnings(job_id))

    return one


def _deletion_of(kind: JobKind, the_id: Any) -> Endpoint:
    def delete(door: deps.TheDoor, who: deps.Who, job_id: str = the_id) -> DeletedResource:
        return deleted_resource(*door.delete(kind, job_id, actor=who.name))

    return delete


def _change_of(kind: JobKind, the_id: Any) -> Endpoint:
    def change(door: deps.TheDoor, who: deps.Who, changes: ChangesBody, job_id: str = the_id) -> JobResource:
        deps.check_priority(who, changes.priority or 0)
        job = door.relabel(kind, job_id, changes.labels, actor=who.name) if changes.labels else door.job(kind, job_id)
        if changes.priority is not None:
            job = door.prioritize(kind, job_id, changes.priority, actor=who.name)
        return job_resource(job, door.warnings(job_id))

    return change


def _action_of(kind: JobKind, the_id: Any, action: JobAction) -> Endpoint:
    def act(door: deps.TheDoor, who: deps.Who, job_id: str = the_id) -> JobResource:
        return job_resource(door.request(kind, job_id, action, actor=who.name), door.warnings(job_id))

    return act


def _files_of(kind: JobKind, the_id: Any) -> Endpoint:
    def files(door: deps.TheDoor, job_id: str = the_id) -> FileList:
        return file_list(door.files(kind, job_id))

    return files


def _file_of(kind: JobKind, the_id: Any) -> Endpoint:
    def file(
        door: deps.TheDoor, name: Annotated[str, Path(max_length=deps.MAX_FILTER_CHARACTERS)], job_id: str = the_id
    ) -> StreamingResponse:
        found, chunks = door.open_file(kind, job_id, name)
        headers = {
            "Content-Length": str(found.bytes),
            "ETag": f'"{found.sha256}"',
            "Content-Disposition": f'attachment; filename="{quote(name.rpartition("/")[2])}"',
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)

    return file


def _events_of(kind: JobKind, the_id: Any) -> Endpoint:
    def events(
        door: deps.TheDoor,
        request: Request,
        job_id: str = the_id,
        after: deps.After = 0,
        last_event_id: deps.LastEventId = None,
    ) -> EventList | Response:
        return common.events(door, kind, job_id, request=request, after=after, last_event_id=last_event_id)

    return events
