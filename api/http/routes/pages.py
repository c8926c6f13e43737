"""Pages for browsers: the jobs at `/`, and one of them. They are there to look at."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api.http import deps
from api.http.routes.common import MAX_EVENTS
from api.http.routes.evaluations import PAGE_POLICY
from api.http.scopes import NOBODY
from api.report.jobs import job_page, jobs_page
from api.wire.jobs import event_resource, job_resource
from api.wire.jobs import job_page as page_of_jobs
from ropewalk.wire.jobs import EventResource
from ropewalk.wire.kinds import JOB_KINDS
from service.door import Door
from storage.records import Job

router = APIRouter(include_in_schema=False)

_OF_EACH_KIND = 50
_MOST_EVENTS = 20_000


@router.get("/")
def show_jobs(request: Request, who: deps.Who, door: deps.TheDoor) -> Response:
    """The newest jobs that the key may see; who shows none is sent to the documentation, which is open."""
    prefix = request.scope.get("root_path", "")
    if who is NOBODY:
        return RedirectResponse(f"{prefix}/docs")
    found = [
        job for kind in JOB_KINDS for job in page_of_jobs(door.jobs(kind, owner=who.sees, limit=_OF_EACH_KIND)).items
    ]
    found.sort(key=lambda job: job.created_at, reverse=True)
    return _page(jobs_page(found, prefix=prefix))


@router.get("/jobs/{job_id}")
def show_job(job_id: str, request: Request, door: deps.TheDoor) -> Response:
    """One job of any kind."""
    job: Job = door.job_of_any_kind(job_id)
    pictures = door.pictures(job.id) if job.kind == "search" and job.started_at is not None else None
    events = _all_events(door, job)
    shown = job_resource(job, door.warnings(job.id))
    prefix = request.scope.get("root_path", "")
    return _page(job_page(shown, events=events, pictures=pictures, prefix=prefix))


def _all_events(door: Door, job: Job) -> list[EventResource]:
    """Up to a bound: a training has one for each step."""
    found: list[EventResource] = []
    while len(found) < _MOST_EVENTS:
        page = door.events(job.kind, job.id, after=found[-1].id if found else 0, limit=MAX_EVENTS)
        found += [event_resource(event) for event in page]
        if len(page) < MAX_EVENTS:
            break
    return found


def _page(text: str) -> HTMLResponse:
    return HTMLResponse(text, headers={"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-store"})
