"""Housekeeping: files of jobs that were deleted, and what the operator keeps for a while only.

It runs in every process that has the home, at its start and then again and again. Doing anything of it twice is doing
it once, so there is nobody who must not die.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from service.artifacts.store import ArtifactStore
from service.files import Files
from service.keep import Keep
from storage.artifacts import Artifacts
from storage.errors import StorageError
from storage.jobs.deletion import Deletion
from storage.jobs.expiry import BATCH, Expiry
from storage.postgres.database import Database

EVERY_SECONDS = 600.0
ACTOR = "retention"

logger = logging.getLogger("ropewalk.housekeeping")


class Housekeeper:
    """Of one database and one home. A context manager: a thread of its own while it is open."""

    def __init__(
        self,
        database: Database,
        home: Path,
        keep: Keep | None = None,
        *,
        store: ArtifactStore | None = None,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._deletion, self._expiry, self._rows = Deletion(database), Expiry(database), Artifacts(database)
        self._files = Files(home, store)
        self._keep = keep or Keep()
        self._every = every_seconds
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self.clean()
            except (OSError, StorageError) as error:
                logger.warning("housekeeping goes on in %.0f s: %s", self._every, error)
            except Exception:
                logger.exception("housekeeping failed; it goes on in %.0f s", self._every)
            if self._closed.wait(self._every):
                return

    def clean(self) -> None:
        """Once.

        Raises:
            OSError, StorageError: what stands in the way.
        """
        self._files.finish()
        there = self._files.job_ids()
        for job_id in sorted(self._deletion.among(there)):
            size = self._files.remove(job_id)
            logger.info("removed %d bytes of %s, which was deleted", size, job_id)
        self._remove_leftovers(there)
        self._expire(there)

    def _remove_leftovers(self, there: tuple[str, ...]) -> None:
        """Of a directory nothing: its checkpoints of before there were rows have none."""
        if self._files.is_directory:
            return
        for job_id, epoch in sorted(self._rows.first_live_epoch(there).items()):
            known = self._rows.keys([job_id])
            if size := self._files.remove_leftovers(job_id, known=known, below_epoch=epoch):
                logger.info("removed %d bytes that uploads of %s had left", size, job_id)

    def _expire(self, there: tuple[str, ...]) -> None:
        if self._keep.states is not None:
            with_states = [job_id for job_id in there if self._files.has_states(job_id)]
            for job_id in self._expiry.rested(with_states, seconds=self._keep.states, paused=True):
                self._told(job_id, "states.expired", self._files.remove_states(job_id))
        if self._keep.artifacts is not None:
            for job_id in self._expiry.rested(there, seconds=self._keep.artifacts):
                self._rows.forget(job_id)  # first: what is half removed is nobody's file any more
                self._told(job_id, "artifacts.expired", self._files.remove(job_id))
        if self._keep.score_cache is not None:
            gone = BATCH
            while gone == BATCH and not self._closed.is_set():
                gone = self._expiry.forget_cached_scores(seconds=self._keep.score_cache)

    def _told(self, job_id: str, action: str, size: int) -> None:
        self._expiry.record(job_id, action, actor=ACTOR, size=size)
        logger.info("%s of %s: %d bytes", action, job_id, size)
