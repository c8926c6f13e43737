"""`ropewalk wait`: for scripts."""

import time
from typing import Annotated

import typer

from api.commands import common
from api.console import note, print_json, print_line
from ropewalk.client.answers import GIVE_UP_AFTER_SECONDS
from ropewalk.client.errors import BadInput
from ropewalk.client.sync import Client
from ropewalk.reading.durations import seconds_of
from ropewalk.wire.jobs import JobResource
from ropewalk.wire.kinds import JobState

SUCCEEDED, FAILED, CANCELLED, TIMED_OUT = 0, 1, 3, 4
POLL_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("wait")(wait)


def wait(
    job_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Jobs of any kind.")],
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Give up after this long, as 90s or 12h; the jobs go on.")
    ] = None,
    first: Annotated[bool, typer.Option("--any", help="Return when the first of them has ended.")] = False,
    as_json: common.AsJson = False,
) -> int:
    """Wait until jobs have ended, and print each as it does. Exits 0 if all succeeded, 1 if one failed, 3 if one was
    cancelled and none failed, 4 if the time was up."""
    left = list(dict.fromkeys(job_ids))
    deadline = time.monotonic() + _seconds(timeout)
    ended: list[JobResource] = []
    paused: set[str] = set()
    with common.client() as client:
        for job_id in left:
            client.get(job_id)  # what does not exist is told before anything is waited for
        while True:
            for job in [_now(client, job_id) for job_id in left]:
                if job.is_final:
                    ended.append(job)
                    left.remove(job.id)
                    print_json(job) if as_json else print_line(f"{job.id} {job.state.value}")
                elif job.state is JobState.paused and job.id not in paused:
                    paused.add(job.id)
                    note(f"{job.id} is paused; ropewalk resume {job.id} lets it go on")
            if not left or (first and ended):
                return _exit_code(ended)
            if time.monotonic() >= deadline:
                note(f"the time is up; {', '.join(left)} {'goes' if len(left) == 1 else 'go'} on")
                return TIMED_OUT
            time.sleep(POLL_SECONDS)


def _now(client: Client, job_id: str) -> JobResource:
    """The job; a server that is away is waited for."""
    for job in client.snapshots(job_id, give_up_after_seconds=GIVE_UP_AFTER_SECONDS):
        if job is not None:
            return job
    raise AssertionError("snapshots end with a job that has ended")


def _exit_code(ended: list[JobResource]) -> int:
    states = {job.state for job in ended}
    if JobState.failed in states:
        return FAILED
    return CANCELLED if JobState.cancelled in states else SUCCEEDED


def _seconds(text: str | None) -> float:
    try:
        return float("inf") if text is None else seconds_of(text)
    except ValueError as error:
        raise BadInput(f"--timeout: {error}") from None
