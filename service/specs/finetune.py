"""The spec of a fine-tuning job."""

from typing import Literal, Self

from pydantic import Field, model_validator

from service.specs.base import CorpusName, JobId, Labels, ModelName, Seed, Spec
from service.specs.factors import GivenFactors


class FinetuneOptions(Spec):
    """Settings of the fine-tuning job; null keeps the recipe's (see `finetune/config.py` and `finetune/recipes.py`)."""

    recipe: Literal["auto", "pocket", "paper"] = Field(
        "auto",
        description="defaults of null settings; auto: pocket for models below 10 million weights, else the paper's",
    )
    steps: int | None = Field(None, ge=1, le=1_000_000)
    learning_rate: float | None = Field(None, gt=0, le=1)
    warmup_steps: int | None = Field(None, ge=0, le=1_000_000)
    final_learning_rate_fraction: float | None = Field(None, ge=0, le=1)
    weight_decay: float | None = Field(None, ge=0, le=1)
    clip: float | None = Field(None, gt=0, le=1e6)
    long_documents_per_step: int | None = Field(None, ge=1, le=4096, description="documents of the target length L'")
    middle_sequences_per_step: int | None = Field(
        None, ge=0, le=4096, description="rows of L' tokens packed from documents of more than L and fewer than L'"
    )
    short_sequences_per_step: int | None = Field(
        None, ge=0, le=4096, description="rows of L' tokens packed from documents of at most L"
    )
    rows_per_pass: int | None = Field(None, ge=1, le=4096, description="rows in one forward pass, at most")
    long_loss_share: float | None = Field(None, ge=0, le=1)
    middle_loss_share: float | None = Field(None, ge=0, le=1)
    needle_fraction: float | None = Field(None, ge=0, le=1)
    needles_per_document: int | None = Field(None, ge=1, le=64)
    answer_weight: float | None = Field(None, ge=0, le=1000)
    text_repeats: float | None = Field(
        None, gt=0, le=1e6, description="how often the same long text may be read, on average"
    )
    dtype: Literal["auto", "float32", "bfloat16"] | None = None
    gradient_checkpointing: Literal["auto", "on", "off"] | None = None
    workers: int | None = Field(
        None, ge=1, le=4096, description="data-parallel processes, one GPU each if there are any"
    )
    sharding: Literal["none", "fsdp"] | None = Field(
        None, description="fsdp: shard the model over the workers, when it is larger than one GPU"
    )
    checkpoint_every: int | None = Field(
        None, ge=1, le=1_000_000, description="steps between two states to resume from"
    )
    lora_rank: int | None = Field(None, ge=0, le=4096, description="train adapters only; 0: all weights")
    lora_alpha: float | None = Field(None, gt=0, le=1e6)
    seed: Seed | None = None
    corpus: CorpusName | None = None


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
