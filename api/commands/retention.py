"""What goes: labels, jobs, and jobs by age; and who did what."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from api.commands import common
from api.console import note, print_json, print_line, print_table
from ropewalk.client.errors import ApiError, BadInput
from ropewalk.client.sync import Client
from ropewalk.reading.durations import seconds_of
from ropewalk.wire.jobs import DeletedResource, JobSummary
from ropewalk.wire.kinds import JOB_KINDS, KINDS, JobKind, JobState

LEFT_ALONE = ("JOB_IN_USE", "JOB_DELETED", "JOB_NOT_FOUND", "INVALID_TRANSITION")
TOO_OFTEN = "TOO_MANY_REQUESTS"
TOO_OFTEN_SECONDS = 2.0
T = TypeVar("T")
_FINAL = tuple(state for state in JobState if state.is_final)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("label")(label)
    app.command("delete")(delete)
    app.command("purge")(purge)
    app.command("audit")(audit)


def label(
    job_id: common.JobId,
    changes: Annotated[
        list[str], typer.Argument(metavar="CHANGE...", help="key=value to set a label, key- to remove it.")
    ],
    as_json: common.AsJson = False,
) -> None:
    """Set or remove labels of a job, in any state; others stay. What was there before is kept nowhere."""
    given = {name: text for one in changes for name, text in [_change(one)]}
    with common.client() as client:
        job = client.label(job_id, given)
    if as_json:
        print_json(job)
        return
    print_line(f"{job.id} {' '.join(f'{name}={text}' for name, text in job.labels.items()) or 'has no labels'}")


def _change(text: str) -> tuple[str, str | None]:
    key, separator, value = text.partition("=")
    if separator and key and value:
        return key, value
    if not separator and len(text) > 1 and text.endswith("-"):
        return text[:-1], None
    raise BadInput(f"a change of a label must be key=value or key-, but got {text!r}")


def delete(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Jobs that have ended.")],
    as_json: common.AsJson = False,
) -> int:
    """Delete jobs that have ended, with scores, events, study and files (scope admin). The first refusal ends it."""
    wanted = dict.fromkeys(job_ids)
    with common.client() as client:
        for job_id in wanted:
            client.get(job_id)  # a misspelt one is told before anything is gone
        for job_id in wanted:
            _told(client.delete(job_id), as_json=as_json)
    return 0


def purge(
    older_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only jobs that ended longer ago, as 90d or 12h.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Only jobs with this label: key=value.")] = None,
    kind: Annotated[str | None, typer.Option(help=f"Only jobs of this kind: {common.any_of(KINDS)}.")] = None,
    state: Annotated[JobState | None, typer.Option(help="Only jobs that ended so.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which jobs these are, delete nothing.")] = False,
    as_json: common.AsJson = False,
) -> int:
    """Delete the jobs that have ended and that the options choose, but for those that others need."""
    if older_than is None and label is None:
        raise BadInput("purge must be told which jobs: --older-than 90d, --label key=value, or both")
    if state is not None and not state.is_final:
        raise BadInput(f"--state must be one of {', '.join(_FINAL)}, but got {state}")
    if label is not None:
        common.labels_of([label])
    before = datetime.now(UTC) - _age(older_than)
    count = 0
    with common.client() as client:
        for job in _chosen(client, _kinds(kind), (state,) if state else _FINAL, label, before):
            count += 1
            if dry_run:
                print_json(job) if as_json else print_line(_line(job))
                continue
            try:
                _told(_patiently(partial(client.delete, job.id)), as_json=as_json)
            except ApiError as error:
                if error.code not in LEFT_ALONE:
                    raise
                count -= 1
                note(f"{job.id} is left alone: {error.detail}")
    if not as_json:
        print_line(f"{count} job{'' if count == 1 else 's'} {'would be ' if dry_run else ''}deleted")
    return 0


def _age(text: str | None) -> timedelta:
    try:
        return timedelta(seconds=0 if text is None else seconds_of(text))
    except ValueError as error:
        raise BadInput(f"--older-than: {error}") from None


def _kinds(text: str | None) -> tuple[JobKind, ...]:
    try:
        return JOB_KINDS if text is None else (KINDS.find(text).name,)
    except ValueError as error:
        raise BadInput(f"--{error}") from None


def _chosen(
    client: Client, kinds: tuple[JobKind, ...], states: tuple[JobState, ...], label: str | None, before: datetime
) -> Iterator[JobSummary]:
    """Page by page: a page token stays right while jobs of earlier pages go."""
    for kind in kinds:
        for state in states:
            token: str | None = None
            while True:
                page = _patiently(partial(client.jobs, kind, state=state, label=label, limit=200, page_token=token))
                yield from (job for job in page.items if job.finished_at is not None and job.finished_at <= before)
                token = page.next_page_token
                if token is None:
                    break


def _patiently(ask: Callable[[], T]) -> T:
    """The answer, when the server lets a key ask again that asked too often: a purge is many requests."""
    while True:
        try:
            return ask()
        except ApiError as error:
            if error.code != TOO_OFTEN:
                raise
        time.sleep(TOO_OFTEN_SECONDS)


def _line(job: JobSummary) -> str:
    ended = "" if job.finished_at is None else job.finished_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    labels = " ".join(f"{key}={text}" for key, text in job.labels.items())
    return f"{job.id}  {job.state.value}  {ended}  {labels}".rstrip()


def _told(deleted: DeletedResource, *, as_json: bool) -> None:
    if as_json:
        print_json(deleted)
        return
    print_line(
        f"{deleted.id} deleted: {deleted.scores} scores, {deleted.events} events, {deleted.trials} trials, "
        f"{deleted.bytes} bytes of files"
    )


def audit(
    subject: Annotated[str | None, typer.Option(help="Only what was done to this job, key, webhook or owner.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this one did: key:..., local, operator.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most entries to list, up to 200.")] = 20,
    before: Annotated[int | None, typer.Option(min=0, help="Only entries with a lesser id.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """List who did what, newest first. Needs scope admin."""
    with common.client() as client:
        found = client.audit(subject=subject, actor=actor, before=before, limit=limit)
    if as_json:
        print_json(found)
        return
    table = Table("id", "when", "who", "did", "to", "data")
    for one in found.items:
        when = one.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        data = " ".join(f"{name}={value}" for name, value in one.data.items() if value is not None)
        table.add_row(str(one.id), when, one.actor, one.action, one.subject, data)
    print_table(table)
    if found.next_before is not None:
        note(f"more: --before {found.next_before}")
