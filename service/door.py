"""What clients may do: submit, inspect, pause, resume, cancel and delete. No HTTP here, no Ray."""

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.inspection import Inspection
from ropewalk.wire.kinds import JobKind, JobState
from ropewalk.wire.pictures import SearchPictures
from ropewalk.wire.plan import Plan
from ropewalk.wire.reports import SearchReport
from service.artifacts.copies import StoredModels
from service.artifacts.store import ArtifactStore, verified
from service.errors import FileMissing
from service.files import Files
from service.finetunes.prepare import factor_file_of
from service.inspection.making import inspect_model
from service.pictures.plots import drawn_pictures
from service.pictures.reading import PictureReader
from service.plans.making import plan_evaluation, plan_finetune, plan_search
from service.plans.work import Device
from service.runtime.warnings import warnings_of
from service.specs.base import with_labels
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from service.specs.inspection import InspectionSpec
from service.specs.plan import PlanOptions
from service.specs.search import SearchSpec
from service.submissions import Submissions
from service.webhooks.addresses import Network
from service.webhooks.desk import WebhookDesk
from storage.artifacts import Artifacts
from storage.errors import JobNotFound, StorageError
from storage.jobs import audit
from storage.jobs.deletion import Deleted, Deletion
from storage.jobs.statistics import Statistics, read_statistics
from storage.jobs.store import JobStore
from storage.limits import OwnerLimits
from storage.postgres.database import Database
from storage.records import (
    Artifact,
    AuditEntry,
    Event,
    Job,
    Page,
    StoredScore,
    TrialRecord,
)
from storage.scores.store import ScoreStore
from storage.study.reading import trial_page
from workers.pool.room import Resources

Action = Literal["cancel", "pause", "resume"]

logger = logging.getLogger("ropewalk.api")


class Door:
    """Thread-safe. Every method blocks on the database; submission also reads the model's config and the corpus."""

    def __init__(
        self,
        database: Database,
        *,
        home: Path | None = None,
        store: ArtifactStore | None = None,
        webhook_networks: Sequence[Network] = (),
        resources: Callable[[], Resources | None] = lambda: None,
    ) -> None:
        """`home`: where jobs leave their files, unless it is in `store`; None: in no place that this process reaches.
        `webhook_networks`: where webhooks may lead beside the public internet. `resources`: what the cluster has that
        jobs run on, as of now; None where this process does not know it."""
        self._database = database
        self._jobs = JobStore(database)
        self._scores = ScoreStore(database)
        self._deletion = Deletion(database)
        self._limits = OwnerLimits(database)
        self.webhooks = WebhookDesk(database, allowed=webhook_networks)
        self._files = None if home is None else Files(home, store)
        self._rows = Artifacts(database)
        store = store if self._files is None else self._files.store
        stored = None if home is None or store is None else StoredModels(database, store, home)
        self.submissions = Submissions(database, files=self._files, stored=stored, resources=resources)

    def inspect_model(self, spec: InspectionSpec) -> Inspection:
        """What a model is; no database is asked.

        Raises:
            EvaluationError, RopewalkError: the model cannot be found, read or extended; says why.
        """
        return inspect_model(spec.model, target_length=spec.target_length, original_length=spec.original_length)

    def plan_search(self, spec: SearchSpec, options: PlanOptions) -> Plan:
        """What a search would cost; errors as `service.plans.making.plan_search`."""
        return plan_search(spec, Device.of(options))

    def plan_finetune(self, spec: FinetuneSpec, options: PlanOptions) -> Plan:
        """What a fine-tuning job would cost; errors as `service.plans.making.plan_finetune`."""
        return plan_finetune(spec, Device.of(options), jobs=self._jobs)

    def plan_evaluation(self, spec: EvaluationSpec, options: PlanOptions) -> Plan:
        """What an evaluation would cost; errors as `service.plans.making.plan_evaluation`."""
        return plan_evaluation(spec, Device.of(options), jobs=self._jobs)

    def job(self, kind: JobKind, job_id: str) -> Job:
        """One job of this kind.

        Raises:
            JobNotFound: no job of this kind has this id.
        """
        job = self._jobs.get(job_id)
        if job.kind != kind:
            raise JobNotFound(f"no {kind} has the id {job_id}")
        return job

    def job_with_conditions(self, kind: JobKind, job_id: str) -> Job:
        """One job of this kind, which says it too where it waits for other jobs of its owner. Raises: JobNotFound."""
        return self._with_conditions(self.job(kind, job_id))

    def _with_conditions(self, job: Job) -> Job:
        return job if job.state.is_final or job.state is JobState.paused else self._limits.held_back(job)

    def job_of_any_kind(self, job_id: str) -> Job:
        """One job, as `job_with_conditions` returns it. Raises: JobNotFound."""
        return self._with_conditions(self._jobs.get(job_id))

    def owner(self, job_id: str) -> str | None:
        """Who submitted a job, as named then; None where nobody knows."""
        return self._jobs.owner(job_id)

    def warnings(self, job_id: str) -> tuple[str, ...]:
        """What the job's submitter must know of its model. Raises: JobNotFound."""
        return warnings_of(self._jobs, job_id)

    def jobs(
        self,
        kind: JobKind,
        *,
        state: JobState | None = None,
        label: tuple[str, str] | None = None,
        owner: str | None = None,
        limit: int = 20,
        page_token: str | None = None,
    ) -> Page[Job]:
        """Jobs of this kind, newest first."""
        return self._jobs.list(kind, state=state, label=label, owner=owner, limit=limit, page_token=page_token)

    def request(self, kind: JobKind, job_id: str, action: Action, *, actor: str | None = None) -> Job:
        """Ask for a pause, a resume or an end; the controller follows within one document.

        Raises:
            InvalidTransition: the job's state does not allow it.
        """
        self.job(kind, job_id)
        return self._jobs.request(job_id, action, actor=actor)

    def relabel(self, kind: JobKind, job_id: str, changes: Mapping[str, str | None], *, actor: str) -> Job:
        """Set and remove (None) labels of a job in any state; what was there before is kept nowhere.

        Raises:
            JobNotFound, InvalidSpec: no such job, or more labels than a job may have.
        """
        self.job(kind, job_id)
        return self._jobs.relabel(job_id, changes, with_labels, actor=actor)

    def prioritize(self, kind: JobKind, job_id: str, priority: int, *, actor: str) -> Job:
        """Let a job be claimed before those with a lesser priority. Raises: JobNotFound."""
        self.job(kind, job_id)
        return self._jobs.prioritize(job_id, priority, actor=actor)

    def audit(
        self, *, subject: str | None = None, actor: str | None = None, before: int | None = None, limit: int = 20
    ) -> tuple[AuditEntry, ...]:
        """Who did what, newest first; entries with ids below `before`."""
        return audit.read(self._database, subject=subject, actor=actor, before=before, limit=limit)

    def delete(self, kind: JobKind, job_id: str, *, actor: str) -> tuple[Deleted, int]:
        """Delete a job that has ended, with everything about it; what that was, and the bytes of its files.

        Files that cannot be removed now are removed by housekeeping.

        Raises:
            JobNotFound, InvalidTransition, JobInUse.
        """
        self.job(kind, job_id)
        deleted = self._deletion.delete(job_id, actor=actor)
        size = 0
        try:
            size = 0 if self._files is None else self._files.remove(job_id)
        except OSError as error:
            logger.warning("files of %s, which was deleted, cannot be removed now: %s", job_id, error)
        return deleted, size

    def files(self, kind: JobKind, job_id: str) -> tuple[Artifact, ...]:
        """The files that a job has left, by name. Raises: JobNotFound."""
        self.job(kind, job_id)
        return self._rows.of(job_id)

    def open_file(self, kind: JobKind, job_id: str, name: str) -> tuple[Artifact, Iterator[bytes]]:
        """A file that a job has left, and its content in chunks, the last of which comes when all are what was stored.

        Raises:
            JobNotFound: there is no such job.
            FileMissing: it has left no such file, or that is gone. FilesUnreachable: the store is away.
        """
        file = next((one for one in self.files(kind, job_id) if one.name == name), None)
        if file is None or self._files is None:
            raise FileMissing(f"a file must be one of those that {job_id} has left, but got {name!r}")
        chunks = verified(self._files.store.read(file.key), file)
        first = next(chunks, b"")  # refused before anything is answered
        return file, itertools.chain([first], chunks)

    def file_sizes(self) -> Mapping[str, int]:
        """Bytes of files by part; empty where this process reaches none."""
        return {} if self._files is None else self._files.sizes()

    def trials(self, search_id: str, *, after: int | None = None, limit: int = 200) -> tuple[TrialRecord, ...]:
        """Trials with numbers above `after`, by number."""
        job = self.job("search", search_id)
        if job.started_at is None:
            return ()
        return trial_page(self._database, search_id, after=after, limit=limit)

    def scores(
        self,
        search_id: str,
        *,
        split: str,
        trial: int | None = None,
        after: tuple[int, str] | None = None,
        limit: int = 200,
    ) -> tuple[StoredScore, ...]:
        """Accepted document scores of a split after a (trial, document id), in this order; of one trial if given."""
        self.job("search", search_id)
        return self._scores.page(search_id, split, trial=trial, after=after, limit=limit)

    def pictures(self, search_id: str) -> SearchPictures:
        """The data of the search's pictures, in whatever state it is: as its controller drew them last, which it does
        after each generation, or else as of now."""
        self.job("search", search_id)
        drawn = drawn_pictures(self._database, search_id)
        return PictureReader(self._database, search_id).read() if drawn is None else drawn

    def events(self, kind: JobKind, job_id: str, *, after: int = 0, limit: int = 200) -> tuple[Event, ...]:
        """Events with ids above `after`, oldest first."""
        self.job(kind, job_id)
        return self._jobs.events(job_id, after=after, limit=limit)

    def factor_file(self, search_id: str) -> FactorFile:
        """The winning factors.

        Raises:
            JobNotFound, FactorsNotReady: no such search, or no winner (yet).
        """
        self.job("search", search_id)
        return factor_file_of(self._jobs, search_id)

    def statement(self, search_id: str) -> str:
        """The verdict on the winner against the best baseline, as a sentence; empty while there is none."""
        job = self.job("search", search_id)
        return "" if job.result_json is None else SearchReport.from_json(job.result_json).statement

    def statistics(self) -> Statistics:
        """Counts over all jobs."""
        return read_statistics(self._database)

    def ready(self) -> tuple[bool, str]:
        """(whether jobs can be accepted, why not)."""
        try:
            self._database.check()
        except StorageError as error:
            return False, str(error)
        return True, "ready"
