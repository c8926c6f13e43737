"""From a search's factors to a fine-tuning job, and its report; the training is in `service.finetunes.run`."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.models.fitting import resolve_for
from evaluation.models.source import ModelSource
from finetune.config import FinetuneSettings
from finetune.errors import InvalidFinetuneSettings
from finetune.output.fitting import check_fits
from ropewalk.factors.exports.hf import switch_length
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.reports import FinetuneReport, SearchReport
from service.errors import FactorsNotReady, InvalidSpec
from service.finetunes.upload import Trained
from service.searches.training import check_training_data, finetune_settings
from service.specs.finetune import FinetuneSpec
from storage.jobs.store import JobStore
from workers.pool.room import Resources, Room


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedFinetune:
    """A fine-tuning job ready to run."""

    source: ModelSource
    file: FactorFile
    settings: FinetuneSettings


def prepare_finetune(spec: FinetuneSpec, jobs: JobStore, *, quickly: bool = False) -> PreparedFinetune:
    """Resolve the factors and the model; `quickly` as of `check_training_data`.

    Raises:
        JobNotFound, FactorsNotReady: the search is unknown, or has no factors yet.
        InvalidSpec: the factor file or a setting breaks a rule.
    """
    if spec.factors is not None:
        file = spec.factors.read()
    else:
        assert spec.search_id is not None  # the spec holds exactly one of the two
        file = factor_file_of(jobs, spec.search_id)
    source = resolve_for(file, spec.model or file.model.reference)
    check_fits(source, file)
    settings = finetune_settings(spec.settings, source, file.target_length)
    check_training_data(
        source,
        settings,
        original_length=switch_length(file),
        target_length=file.target_length,
        quickly=quickly,
    )
    return PreparedFinetune(source=source, file=file, settings=settings)


def training_room(resources: Resources, settings: FinetuneSettings) -> Room:
    """What a training needs of a cluster: a GPU for each worker where there are any, else a CPU."""
    gpus_each = 1.0 if resources.all_of("GPU") and settings.device != "cpu" else 0.0
    return resources.room(workers=settings.workers, gpus_each=gpus_each, together=True)


def check_room(room: Room) -> None:
    """Raise InvalidFinetuneSettings for more workers than the cluster has room for: none begins before all can."""
    if room.workers > room.most:
        what = f"{room.gpus:g} GPUs" if room.gpus_each else f"{room.cpus:g} CPUs"
        raise InvalidFinetuneSettings(
            f"workers must be at most the {room.most} that the cluster's {what} are for, because a training needs all "
            f"of them at once, but got workers={room.workers}"
        )


def factor_file_of(jobs: JobStore, search_id: str) -> FactorFile:
    """The factors of a search that has chosen its winner.

    Raises:
        JobNotFound: no search has this id.
        FactorsNotReady: it has no winner (yet); says which state it is in.
    """
    job = jobs.get(search_id)
    if job.kind != "search":
        raise InvalidSpec(f"search_id must name a search, but {search_id} is a {job.kind}", pointer="/search_id")
    if job.result_json is None:
        raise FactorsNotReady(f"search {search_id} has no factors: its state is {job.state}")
    return SearchReport.from_json(job.result_json).factors


def finetune_report(prepared: PreparedFinetune, trained: Trained) -> FinetuneReport:
    """What the fine-tuning job's resource shows as `result`."""
    result = trained.result
    return FinetuneReport(
        checkpoint=trained.checkpoint,
        model=prepared.source.name,
        target_length=prepared.file.target_length,
        factors=prepared.file,
        steps=result.steps,
        tokens=result.tokens,
        initial_loss_long=result.initial_loss_long,
        final_loss_long=result.final_loss_long,
        initial_loss_middle=result.initial_loss_middle,
        final_loss_middle=result.final_loss_middle,
        initial_loss_short=result.initial_loss_short,
        final_loss_short=result.final_loss_short,
        initial_loss_skipped=result.initial_loss_skipped,
        final_loss_skipped=result.final_loss_skipped,
        seconds=result.seconds,
    )
