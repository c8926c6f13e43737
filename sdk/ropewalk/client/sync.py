"""The client of a program without an event loop."""

import time
from collections.abc import Iterator
from pathlib import Path

from ropewalk.client.answers import GIVE_UP_AFTER_SECONDS, PASSING, RECONNECT_SECONDS, Patience
from ropewalk.client.connection import Connection
from ropewalk.client.operations import Operations
from ropewalk.client.progress import POLL_SECONDS, Deadline, ProgressBar
from ropewalk.wire.candidates import ScoreList, ScoreResource, TrialResource
from ropewalk.wire.jobs import EventResource, JobResource


class Client(Operations, Connection):
    """A connection to one server; a context manager. Not for use from several threads at once.

    Every method raises ApiError when the server refuses, ServerUnreachable when there is none, BadInput for what cannot
    be sent, and IncompatibleServer when the answer is not one that this version knows.
    """

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
            page = self._score_page(search_id, split, trial, after)
            items += page.items
            if page.next_after is None:
                return ScoreList(items=items, next_after=None)
            after = page.next_after

    def download(self, job_id: str, directory: str | Path) -> list[Path]:
        """Copy a job's files below `directory`, by their names; each appears whole and checked, or not at all.

        Raises:
            OSError: the disk does not take them.
        """
        return [self._download(job_id, file, Path(directory)) for file in self.files(job_id).items]

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
                    patience.reset()
                    after = event.id
                    yield event
                if self.get(job_id).is_final and not self.event_list(job_id, after=after).items:
                    return
                patience.reset()
            except PASSING as error:
                patience.check(error)
            time.sleep(RECONNECT_SECONDS)

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
                patience.reset()
            except PASSING as error:
                patience.check(error)
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
