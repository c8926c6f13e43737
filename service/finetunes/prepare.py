"""From a search's factors to a fine-tuning job, and its result as JSON; the training is in `service.finetunes.run`."""

from __future__ import annotations

import json
from dataclasses import dataclass

from evaluation.models.source import ModelSource, resolve_model
from finetune.config import FinetuneSettings
from finetune.output.fitting import check_fits
from finetune.results import FinetuneResult
from search_space.factors.factor_file import FactorFile
from service.errors import FactorsNotReady, InvalidSpec
from service.searches.prepare import check_training_data, finetune_settings, parse_factor_file
from service.specs.finetune import FinetuneSpec
from storage.jobs.store import JobStore


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedFinetune:
    """A fine-tuning job ready to run."""

    source: ModelSource
    file: FactorFile
    settings: FinetuneSettings


def prepare_finetune(spec: FinetuneSpec, jobs: JobStore) -> PreparedFinetune:
    """Resolve the factors and the model.

    Raises:
        JobNotFound, FactorsNotReady: the search is unknown, or has no factors yet.
        InvalidSpec: the factor file or a setting breaks a rule.
    """
    file = factor_file_of(jobs, spec.search_id) if spec.search_id is not None else _given(spec)
    source = resolve_model(spec.model or file.model.name)
    check_fits(source, file)
    settings = finetune_settings(spec.settings, source, file.target_length)
    check_training_data(
        source,
        settings,
        original_length=file.original_max_position_embeddings,
        target_length=file.target_length,
    )
    return PreparedFinetune(source=source, file=file, settings=settings)


def _given(spec: FinetuneSpec) -> FactorFile:
    assert spec.factors is not None  # the spec holds exactly one of the two
    return parse_factor_file(spec.factors, pointer="/factors")


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
    return FactorFile.from_json(json.dumps(json.loads(job.result_json)["factors"]))


def finetune_result_json(prepared: PreparedFinetune, result: FinetuneResult) -> str:
    """What the fine-tuning job's resource shows as `result`."""
    return json.dumps(
        {
            "checkpoint": str(result.checkpoint),
            "model": prepared.source.name,
            "target_length": prepared.file.target_length,
            "factors": json.loads(prepared.file.to_json()),
            "steps": result.steps,
            "tokens": result.tokens,
            "initial_loss_long": result.initial_loss_long,
            "final_loss_long": result.final_loss_long,
            "initial_loss_middle": result.initial_loss_middle,
            "final_loss_middle": result.final_loss_middle,
            "initial_loss_short": result.initial_loss_short,
            "final_loss_short": result.final_loss_short,
            "seconds": result.seconds,
        }
    )
