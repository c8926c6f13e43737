"""The spec of a fine-tuning job."""

from typing import Any, Self

from pydantic import Field, model_validator

from finetune.config import Dtype, FinetuneSettings, GradientCheckpointing, RecipeName, Sharding, SkippedPlaces
from finetune.optimizers import OptimizerName
from ropewalk.reading.annotations import docs_of, slots_of
from service.specs.base import CorpusName, JobId, Labels, ModelName, Spec, Tokens
from service.specs.factors import GivenFactors

_SLOTS = {slot.name: slot for slot in slots_of(FinetuneSettings)}
_DOCS = docs_of(FinetuneSettings)


def _setting(name: str) -> Any:
    """A field of FinetuneSettings, or null: its range and what its docstring says."""
    limits = _SLOTS[name].range
    return Field(
        None,
        description=_DOCS.get(name),
        ge=limits.bounds().get("minimum") if limits else None,
        le=limits.bounds().get("maximum") if limits else None,
        gt=limits.bounds().get("exclusiveMinimum") if limits else None,
    )


class FinetuneOptions(Spec):
    """Settings of the fine-tuning job; null keeps the recipe's (see `finetune/config.py` and `finetune/recipes.py`)."""

    recipe: RecipeName = Field(
        "auto",
        description="defaults of null settings; auto: pocket for models below 10 million weights, else one_gpu",
    )
    steps: int | None = _setting("steps")
    learning_rate: float | None = _setting("learning_rate")
    warmup_steps: int | None = _setting("warmup_steps")
    final_learning_rate_fraction: float | None = _setting("final_learning_rate_fraction")
    weight_decay: float | None = _setting("weight_decay")
    clip: float | None = _setting("clip")
    long_documents_per_step: int | None = _setting("long_documents_per_step")
    middle_sequences_per_step: int | None = _setting("middle_sequences_per_step")
    short_sequences_per_step: int | None = _setting("short_sequences_per_step")
    short_tokens: Tokens | None = _setting("short_tokens")
    skipped_rows_per_step: int | None = _setting("skipped_rows_per_step")
    long_every: int | None = _setting("long_every")
    skipped_tokens: Tokens | None = _setting("skipped_tokens")
    skipped_gaps: int | None = _setting("skipped_gaps")
    skipped_places: SkippedPlaces | None = _setting("skipped_places")
    skipped_tail_share: float | None = _setting("skipped_tail_share")
    skipped_tail_tokens: Tokens | None = _setting("skipped_tail_tokens")
    skipped_reach: Tokens | None = _setting("skipped_reach")
    skipped_full_reach_share: float | None = _setting("skipped_full_reach_share")
    rows_per_pass: int | None = _setting("rows_per_pass")
    long_loss_share: float | None = _setting("long_loss_share")
    middle_loss_share: float | None = _setting("middle_loss_share")
    skipped_loss_share: float | None = _setting("skipped_loss_share")
    needle_fraction: float | None = _setting("needle_fraction")
    needles_per_document: int | None = _setting("needles_per_document")
    answer_weight: float | None = _setting("answer_weight")
    text_repeats: float | None = _setting("text_repeats")
    dtype: Dtype | None = _setting("dtype")
    optimizer: OptimizerName | None = _setting("optimizer")
    gradient_checkpointing: GradientCheckpointing | None = _setting("gradient_checkpointing")
    workers: int | None = _setting("workers")
    sharding: Sharding | None = _setting("sharding")
    checkpoint_every: int | None = _setting("checkpoint_every")
    lora_rank: int | None = _setting("lora_rank")
    lora_alpha: float | None = _setting("lora_alpha")
    seed: int | None = _setting("seed")
    corpus: CorpusName | None = _setting("corpus")


class FinetuneSpec(Spec):
    """A fine-tuning job on its own: the factors of a finished search, or a factor file."""

    search_id: JobId | None = None
    factors: GivenFactors | None = None
    model: ModelName | None = Field(None, description="null: the search's model, or the one that the factor file names")
    settings: FinetuneOptions = FinetuneOptions()
    labels: Labels = Field({})

    @model_validator(mode="after")
    def _exactly_one_source(self) -> Self:
        if (self.search_id is None) == (self.factors is None):
            raise ValueError("exactly one of search_id and factors must be given")
        return self
