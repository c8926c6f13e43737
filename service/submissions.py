"""Specs that clients submit: checked, within their owner's limits, and accepted as jobs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from evaluation.models.source import ModelSource
from finetune.config import FinetuneSettings
from finetune.errors import InvalidFinetuneSettings
from ropewalk.wire.kinds import JobKind
from service.artifacts.copies import StoredModels
from service.errors import InvalidSpec, LimitReached
from service.evaluations.prepare import prepare_evaluation
from service.files import Files
from service.finetunes.prepare import check_room, prepare_finetune, training_room
from service.runtime.starting import too_many
from service.runtime.warnings import WARNING
from service.searches.prepare import prepare_search
from service.searches.starts import starts_of
from service.searches.training import finetune_settings
from service.searches.validation import FINALISTS, most_passes
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from service.specs.search import SearchSpec
from storage.jobs.store import JobStore
from storage.limits import OwnerLimits
from storage.postgres.database import Database
from storage.records import Created, IdempotencyRequest, Scheduling
from workers.base import ScorerSettings
from workers.pool.room import Resources

AnySpec = TypeVar("AnySpec", SearchSpec, FinetuneSpec, EvaluationSpec)


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchEstimate:
    """What a valid spec will cost at most."""

    spec: SearchSpec
    candidates: int
    baselines: int
    document_passes: int
    """Over search documents."""
    tokens: int
    """Of those passes."""
    validation_document_passes: int
    validation_tokens: int
    warnings: tuple[str, ...]
    """What the user must know of the model."""


def _at_commit(spec: AnySpec, source: ModelSource) -> AnySpec:
    """With the commit of a Hub's model in its name: branches and tags move while a job waits, is paused or retried."""
    return spec if source.revision is None else spec.model_copy(update={"model": source.reference})


@dataclass(frozen=True, kw_only=True, slots=True)
class Submitter:
    """Who submits a job, and how."""

    creator: str | None = None
    """The principal; None: nobody knows."""
    owner: str | None = None
    """Whose job it is, where that is not the creator's own name."""
    priority: int = 0
    idempotency: IdempotencyRequest | None = None


NOBODY = Submitter()


class Submissions:
    """Thread-safe. Reads models' configs and corpora, and blocks on the database."""

    def __init__(
        self,
        database: Database,
        *,
        files: Files | None,
        stored: StoredModels | None,
        resources: Callable[[], Resources | None],
    ) -> None:
        """`files`: what owners' jobs have left; `stored`: models among it; `resources`: what the cluster has as of now,
        None where this process does not know it."""
        self._database, self._jobs, self._limits = database, JobStore(database), OwnerLimits(database)
        self._files, self._stored, self._resources = files, stored, resources

    def validate_search(self, spec: SearchSpec) -> SearchEstimate:
        """Check a spec without submitting it.

        Raises:
            JobNotFound, FactorsNotReady: of the search that it begins with.
            InvalidSpec, EvaluationError, RopewalkError, WorkersError: what the spec got wrong.
        """
        spec = spec.with_corpus()
        prepared = prepare_search(spec, weights=False, starts=starts_of(spec, self._database))
        spec = _at_commit(spec, prepared.model.source)
        if spec.finetune is not None:
            settings = finetune_settings(spec.finetune, prepared.model.source, spec.target_length)
            self._check_training(settings, "/finetune/workers")
        validation = most_passes(
            prepared.num_baselines + FINALISTS, prepared.num_baselines, spec.objective.validation_documents
        )
        return SearchEstimate(
            spec=spec,
            candidates=prepared.strategy.max_candidates,
            baselines=prepared.num_baselines,
            document_passes=prepared.strategy.max_document_passes,
            tokens=prepared.strategy.max_tokens,
            validation_document_passes=validation,
            validation_tokens=validation * spec.target_length,
            warnings=(*prepared.warnings, *self._too_many(prepared.scorer_settings(), spec.workers)),
        )

    def submit_search(self, spec: SearchSpec, by: Submitter = NOBODY) -> Created:
        """Accept a search; errors as `validate_search`, LimitReached and IdempotencyConflict."""
        estimate = self.validate_search(spec)
        return self._create("search", estimate.spec, by, spec.workers, estimate.warnings)

    def submit_finetune(self, spec: FinetuneSpec, by: Submitter = NOBODY) -> Created:
        """Accept a fine-tuning job; errors as `prepare_finetune`, LimitReached and IdempotencyConflict."""
        prepared = prepare_finetune(spec, self._jobs, quickly=True)
        self._check_training(prepared.settings, "/settings/workers")
        spec = _at_commit(spec, prepared.source)
        return self._create("finetune", spec, by, spec.settings.workers or 1)

    def submit_evaluation(self, spec: EvaluationSpec, by: Submitter = NOBODY) -> Created:
        """Accept an evaluation; errors as `prepare_evaluation`, LimitReached and IdempotencyConflict."""
        prepared = prepare_evaluation(spec, self._jobs, stored=self._stored, quickly=True)
        spec = _at_commit(prepared.spec, prepared.model.source)
        told = {line: None for one in prepared.settings().values() for line in self._too_many(one, spec.workers)}
        return self._create("evaluation", spec, by, spec.workers, (*prepared.warnings, *told))

    def _too_many(self, settings: ScorerSettings, workers: int) -> tuple[str, ...]:
        """What is told of more workers than the cluster has room for."""
        known = self._resources()
        more = None if known is None else too_many(known.room_for_scoring(settings, workers=workers))
        return () if more is None else (more,)

    def _check_training(self, settings: FinetuneSettings, pointer: str) -> None:
        """Raise InvalidSpec for a training that the cluster cannot hold."""
        if (known := self._resources()) is None:
            return
        try:
            check_room(training_room(known, settings))
        except InvalidFinetuneSettings as error:
            raise InvalidSpec(str(error), pointer=pointer) from error

    def _create(
        self,
        kind: JobKind,
        spec: SearchSpec | FinetuneSpec | EvaluationSpec,
        by: Submitter,
        workers: int,
        warnings: Sequence[str] = (),
    ) -> Created:
        if (owner := by.owner or by.creator) is not None:
            self._check_limits(owner, workers)
        return self._jobs.create(
            kind,
            spec.canonical_json(),
            tuple(sorted(spec.labels.items())),
            idempotency=by.idempotency,
            creator=by.creator,
            first_events=[(WARNING, json.dumps({"text": warning})) for warning in warnings],
            scheduling=Scheduling(priority=by.priority, workers=workers, owner=by.owner),
        )

    def _check_limits(self, owner: str, workers: int) -> None:
        """What no waiting would make right; jobs at work are counted when one is claimed."""
        limits = self._limits.of(owner)
        if limits.workers is not None and workers > limits.workers:
            raise LimitReached(f"workers must be at most {limits.workers} for {owner}, but got workers={workers}")
        if limits.stored_bytes is None or self._files is None:
            return
        stored = self._files.size(self._limits.owned(owner, self._files.job_ids()))
        if stored >= limits.stored_bytes:
            raise LimitReached(
                f"files of {owner} must be less than {limits.stored_bytes} bytes, but its jobs have {stored}: "
                "have some of them deleted first"
            )
