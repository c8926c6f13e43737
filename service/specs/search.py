"""The spec of a search."""

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from evaluation.documents.corpus import default_corpus
from evaluation.documents.skipping import MOST_GAPS, GapPlaces, Skipping
from search_space.strategies.registry import STRATEGIES
from service.specs.base import (
    MAX_DOCUMENTS,
    MAX_TARGET_LENGTH,
    CorpusName,
    JobId,
    Labels,
    ModelName,
    Seed,
    Spec,
    Tokens,
)
from service.specs.finetune import FinetuneOptions
from workers.backends import BACKENDS
from workers.base import DType

if TYPE_CHECKING:
    BackendName = str
else:
    BackendName = Literal["auto", *BACKENDS]  # an enum in the schema

MAX_ARGUMENTS_CHARACTERS = 10_000  # of JSON


class SkippedSpec(Spec):
    """Search documents of few tokens whose positions jump forward, so that the last one stands at the target length."""

    tokens: Tokens | None = Field(
        None, ge=1, le=MAX_TARGET_LENGTH, description="of each document; null: the original length"
    )
    gaps: int = Field(2, ge=1, le=MOST_GAPS, description="jumps in each document")
    places: GapPlaces = Field(
        "haystack",
        description="where: between tokens of the haystack alone, anywhere, or the one gap before the questions (tail)",
    )
    documents: int = Field(
        64,
        ge=1,
        le=MAX_DOCUMENTS,
        description="per candidate, at most, before full ones; with alone, documents of the objective says how many",
    )
    alone: bool | None = Field(
        None,
        description="whether candidates see no full document before validation; "
        "null: so with every strategy but auto, whose best shapes go on to full ones",
    )

    def skipping(self, original_length: int) -> Skipping:
        """How documents skip."""
        return Skipping(tokens=self.tokens or original_length, gaps=self.gaps, places=self.places)


class ObjectiveSpec(Spec):
    """What a candidate is scored on."""

    documents: int = Field(24, ge=1, le=MAX_DOCUMENTS, description="search documents per candidate, at most")
    validation_documents: int = Field(
        320, ge=2, le=MAX_DOCUMENTS, description="held-out documents per finalist, at most"
    )
    skipped: SkippedSpec | None = Field(
        None,
        description="search on position-skipped documents, for a fraction of the tokens; null: on full ones. "
        "Finalists are always compared on full ones",
    )
    needles_per_document: int = Field(1, ge=1, le=64)
    corpus: CorpusName | None = Field(
        None,
        description="null: builtin:pydoc, the Python reference, or for more than 8,192 tokens builtin:stdlib, the "
        "sources of Python's standard library; or a .txt, .jsonl#column, .parquet#column or HF dataset path",
    )


def _describe_strategies(schema: dict[str, Any]) -> None:
    """When a schema is made and not before: installed packages add strategies."""
    schema["description"] = f"{STRATEGIES.described()}. Their arguments: docs/ablation.md"


class StrategySpec(Spec):
    """How candidates are bred: a strategy's name, and its own arguments beside it."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: Annotated[str, StringConstraints(max_length=64)] = Field("auto", json_schema_extra=_describe_strategies)

    @model_validator(mode="after")
    def _arguments_are_few(self) -> Self:
        if (size := len(json.dumps(self.arguments()))) > MAX_ARGUMENTS_CHARACTERS:
            raise ValueError(
                f"the arguments of a strategy must be at most {MAX_ARGUMENTS_CHARACTERS} characters, but got {size}"
            )
        return self

    def arguments(self) -> dict[str, Any]:
        """What the spec gives beside the name; the strategy itself checks it."""
        return dict(self.__pydantic_extra__ or {})


class BudgetSpec(Spec):
    """When to stop. The first limit reached ends the search; the strategy may end earlier by itself."""

    max_trials: int = Field(1344, ge=1, le=1_000_000, description="candidates, analytic baselines not counted")
    max_document_passes: int | None = Field(None, ge=1, le=10**12, description="forward passes over search documents")
    max_tokens: int | None = Field(None, ge=1, le=10**18, description="tokens of those passes")
    patience: int | None = Field(
        None, ge=1, le=1_000_000, description="generations without a better candidate before stopping"
    )
    max_failed_trials: int = Field(
        32, ge=0, le=1_000_000, description="candidates that may fail to be scored; one more fails the search"
    )


class ScorerSpec(Spec):
    """What scores a candidate."""

    backend: BackendName = Field(
        "auto",
        description="auto: vllm where it is installed and a GPU is present, else transformers; " + BACKENDS.described(),
    )
    dtype: DType = "auto"
    attention_factor: Annotated[float, Field(ge=0.5, le=4.0)] | Literal["search"] = Field(
        "search", description="in searches: one number for all candidates, or a gene; evaluations use the factors' own"
    )
    tensor_parallel: int = Field(1, ge=1, le=64, description="GPUs per vLLM engine; 1 for other backends")


def _is_none(value: object) -> bool:
    """A spec without the field reads as it did before there was one."""
    return value is None


class SearchSpec(Spec):
    """A search: a model, a target length, and how much to spend on finding its factors."""

    model: ModelName = Field(description="`pocket`, a directory, or a hub id, also at a revision: org/name@v1.0")
    target_length: Tokens = Field(ge=2, le=MAX_TARGET_LENGTH, description="L', tokens")
    original_length: Tokens | None = Field(None, ge=2, description="L, tokens; null: what the model serves")
    objective: ObjectiveSpec = ObjectiveSpec()
    strategy: StrategySpec = StrategySpec()
    budget: BudgetSpec = BudgetSpec()
    scorer: ScorerSpec = ScorerSpec()
    workers: int = Field(1, ge=1, le=4096, description="scoring workers, one model copy each")
    seed: Seed = 0
    finetune: FinetuneOptions | None = Field(None, description="start a fine-tuning job with the winner")
    labels: Labels = Field({})
    start_from: JobId | None = Field(
        None,
        exclude_if=_is_none,
        description="begin with the best shapes of this search (of another length, seed or sibling model), mapped to "
        "this length and scored anew; strategy auto",
    )

    def with_corpus(self) -> Self:
        """With the corpus that is meant where none is given, as it is stored: see `default_corpus`."""
        meant = self.objective.corpus or default_corpus(self.target_length)
        return self.model_copy(update={"objective": self.objective.model_copy(update={"corpus": meant})})

    @field_validator("finetune", mode="before")
    @classmethod
    def _true_means_defaults(cls, value: object) -> object:
        return {} if value is True else None if value is False else value
