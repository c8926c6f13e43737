"""The specs that users submit: a search, a fine-tuning job, an evaluation.

Frozen and validated on construction; unknown fields are refused. What can be checked from the spec alone is checked
here; what needs the model or the corpus is checked in `prepare` before the job is accepted.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Labels = Annotated[dict[Label, Label], Field(max_length=32, description="free text to find the job by")]
Seed = Annotated[int, Field(ge=0, lt=2**32, description="all randomness is derived from it")]
MAX_TARGET_LENGTH = 16 * 1024 * 1024  # tokens; no RoPE model reaches further today
MAX_DOCUMENTS = 10_000


class Spec(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def canonical_json(self) -> str:
        """The text that is stored and hashed: every field, defaults included, in declaration order."""
        return self.model_dump_json()


class ObjectiveSpec(Spec):
    """What a candidate is scored on."""

    documents: int = Field(24, ge=1, le=MAX_DOCUMENTS, description="search documents per candidate, at most")
    validation_documents: int = Field(
        80, ge=2, le=MAX_DOCUMENTS, description="held-out documents per finalist, at most"
    )
    needles_per_document: int = Field(1, ge=1, le=64)
    corpus: str | None = Field(
        None, description="null: the Python reference; or a .txt, .jsonl#column, .parquet#column or HF dataset path"
    )


class StrategySpec(Spec):
    """How candidates are bred: a strategy's name, and its own arguments beside it."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: str = "auto"

    def arguments(self) -> dict[str, Any]:
        """What the spec gives beside the name; the strategy itself checks it."""
        return dict(self.__pydantic_extra__ or {})


class BudgetSpec(Spec):
    """When to stop. The first limit reached ends the search; the strategy may end earlier by itself."""

    max_trials: int = Field(1344, ge=1, le=1_000_000, description="candidates, analytic baselines not counted")
    max_document_passes: int | None = Field(None, ge=1, description="forward passes over search documents")
    patience: int | None = Field(None, ge=1, description="generations without a better candidate before stopping")


class ScorerSpec(Spec):
    """What scores a candidate."""

    backend: Literal["auto", "transformers", "vllm", "analytic"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attention_factor: Annotated[float, Field(ge=0.5, le=4.0)] | Literal["search"] = Field(
        "search", description="of searches: a number for every candidate, or a gene; evaluations take the factors' own"
    )
    tensor_parallel: int = Field(1, ge=1, le=64)


class FinetuneSpec(Spec):
    """Settings of the fine-tuning job; null keeps the recipe's default (see `finetune/config.py`)."""

    steps: int | None = Field(None, ge=1, le=1_000_000)
    learning_rate: float | None = Field(None, gt=0, le=1)
    warmup_steps: int | None = Field(None, ge=0, le=1_000_000)
    weight_decay: float | None = Field(None, ge=0, le=1)
    clip: float | None = Field(None, gt=0)
    long_documents_per_step: int | None = Field(None, ge=1, le=4096)
    short_sequences_per_step: int | None = Field(None, ge=0, le=4096)
    needle_fraction: float | None = Field(None, ge=0, le=1)
    needles_per_document: int | None = Field(None, ge=1, le=64)
    answer_weight: float | None = Field(None, ge=0, le=1000)
    long_loss_share: float | None = Field(None, ge=0, le=1)
    seed: Seed | None = None
    corpus: str | None = None


class SearchSpec(Spec):
    """A search: a model, a target length, and how much to spend on finding its factors."""

    model: str = Field(min_length=1, max_length=1024, description="`pocket`, a directory, or a hub id")
    target_length: int = Field(ge=2, le=MAX_TARGET_LENGTH, description="L', tokens")
    original_length: int | None = Field(None, ge=2, description="L, tokens; null: what the model's config says")
    objective: ObjectiveSpec = ObjectiveSpec()
    strategy: StrategySpec = StrategySpec()
    budget: BudgetSpec = BudgetSpec()
    scorer: ScorerSpec = ScorerSpec()
    workers: int = Field(1, ge=1, le=4096, description="scoring workers, one model copy each")
    seed: Seed = 0
    finetune: FinetuneSpec | None = Field(None, description="start a fine-tuning job with the winner")
    labels: Labels = {}

    @field_validator("finetune", mode="before")
    @classmethod
    def _true_means_defaults(cls, value: object) -> object:
        return {} if value is True else None if value is False else value


class FinetuneJobSpec(Spec):
    """A fine-tuning job on its own: the factors of a finished search, or a factor file."""

    search_id: str | None = None
    factors: dict[str, Any] | None = Field(None, description="a factor file (`ropewalk.factors/1`)")
    model: str | None = Field(None, description="null: the search's model, or the one that the factor file names")
    settings: FinetuneSpec = FinetuneSpec()
    labels: Labels = {}

    @model_validator(mode="after")
    def _exactly_one_source(self) -> Self:
        if (self.search_id is None) == (self.factors is None):
            raise ValueError("exactly one of search_id and factors must be given")
        return self


class EvaluationSpec(Spec):
    """Needle retrieval of a model at several lengths: without scaling, with the baselines, with given factors."""

    model: str | None = Field("pocket", description="null: the model of the search or of the fine-tuning job")
    factors: dict[str, Any] | None = Field(None, description="a factor file (`ropewalk.factors/1`)")
    search_id: str | None = Field(None, description="use this search's factors")
    finetune_id: str | None = Field(None, description="also evaluate this job's checkpoint")
    target_length: int | None = Field(None, ge=2, le=MAX_TARGET_LENGTH, description="null: the factors' own")
    lengths: tuple[Annotated[int, Field(ge=2, le=MAX_TARGET_LENGTH)], ...] | None = Field(
        None, max_length=16, description="tokens; null: the original and the target length"
    )
    documents: int = Field(40, ge=2, le=MAX_DOCUMENTS)
    needles_per_document: int = Field(1, ge=1, le=64)
    corpus: str | None = None
    baselines: bool = True
    seed: Seed = 0
    scorer: ScorerSpec = ScorerSpec()
    workers: int = Field(1, ge=1, le=4096)
    labels: Labels = {}

    @model_validator(mode="after")
    def _length_is_known(self) -> Self:
        if self.factors is None and self.search_id is None and self.finetune_id is None and self.target_length is None:
            raise ValueError("target_length must be given when neither factors, search_id nor finetune_id is")
        if self.factors is not None and self.search_id is not None:
            raise ValueError("at most one of factors and search_id may be given")
        return self
