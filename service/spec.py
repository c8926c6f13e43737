"""The specs that users submit: a search, a fine-tuning job, an evaluation.

Frozen and validated on construction; unknown fields are refused. What can be checked from the spec alone is checked
here; what needs the model or the corpus is checked in `prepare` before the job is accepted.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from evaluation.ruler_score import DEFAULT_THRESHOLD
from evaluation.ruler_task import QA_TASKS, RulerTask, tasks_of

Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Labels = Annotated[dict[Label, Label], Field(max_length=32, description="free text to find the job by")]
Seed = Annotated[int, Field(ge=0, lt=2**32, description="all randomness is derived from it")]


@dataclass(frozen=True, slots=True)
class Reads:
    """Marks a field whose text makes the service read: a model, a corpus or another file. See `service.readable`."""

    what: Literal["model", "corpus", "file"]


ModelName = Annotated[str, StringConstraints(min_length=1, max_length=1024), Reads("model")]
CorpusName = Annotated[str, StringConstraints(min_length=1, max_length=4096), Reads("corpus")]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=4096), Reads("file")]
JobId = Annotated[str, StringConstraints(max_length=64)]
TaskName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\w.+-]+$")]
MAX_TARGET_LENGTH = 16 * 1024 * 1024  # tokens; no RoPE model reaches further today
MAX_DOCUMENTS = 10_000
MAX_ARGUMENTS_CHARACTERS = 10_000  # of JSON


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
    corpus: CorpusName | None = Field(
        None, description="null: the Python reference; or a .txt, .jsonl#column, .parquet#column or HF dataset path"
    )


class StrategySpec(Spec):
    """How candidates are bred: a strategy's name, and its own arguments beside it."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: Annotated[str, StringConstraints(max_length=64)] = Field(
        "auto", description="auto, evolution, optuna or gradient; their arguments: docs/ablation.md"
    )

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
    patience: int | None = Field(
        None, ge=1, le=1_000_000, description="generations without a better candidate before stopping"
    )
    max_failed_trials: int = Field(
        32, ge=0, le=1_000_000, description="candidates that cannot be scored before the search is given up as failed"
    )


class ScorerSpec(Spec):
    """What scores a candidate."""

    backend: Literal["auto", "transformers", "vllm", "analytic"] = Field(
        "auto",
        description="auto: vllm where it is installed and a GPU is present, else transformers; "
        "analytic: a formula in place of the model, for tests",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attention_factor: Annotated[float, Field(ge=0.5, le=4.0)] | Literal["search"] = Field(
        "search", description="of searches: a number for every candidate, or a gene; evaluations take the factors' own"
    )
    tensor_parallel: int = Field(1, ge=1, le=64, description="GPUs that one vLLM engine is spread over; 1 otherwise")


class FinetuneSpec(Spec):
    """Settings of the fine-tuning job; null keeps the recipe's (see `finetune/config.py` and `finetune/recipes.py`)."""

    recipe: Literal["auto", "pocket", "paper"] = Field(
        "auto", description="what null means; auto: pocket for models of less than 10 million weights, else the paper's"
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
        None, description="fsdp: deal the model out to the workers, when it is larger than one GPU"
    )
    checkpoint_every: int | None = Field(
        None, ge=1, le=1_000_000, description="steps between two states to resume from"
    )
    lora_rank: int | None = Field(None, ge=0, le=4096, description="train adapters only; 0: all weights")
    lora_alpha: float | None = Field(None, gt=0, le=1e6)
    seed: Seed | None = None
    corpus: CorpusName | None = None


class SearchSpec(Spec):
    """A search: a model, a target length, and how much to spend on finding its factors."""

    model: ModelName = Field(description="`pocket`, a directory, or a hub id")
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

    search_id: JobId | None = None
    factors: dict[str, Any] | None = Field(None, description="a factor file (`ropewalk.factors/1`)")
    model: ModelName | None = Field(None, description="null: the search's model, or the one that the factor file names")
    settings: FinetuneSpec = FinetuneSpec()
    labels: Labels = {}

    @model_validator(mode="after")
    def _exactly_one_source(self) -> Self:
        if (self.search_id is None) == (self.factors is None):
            raise ValueError("exactly one of search_id and factors must be given")
        return self


class EvaluationSpec(Spec):
    """What a model does at several lengths: needles, RULER, plain text and harness tasks, without scaling, with the
    baselines, with given factors and fine-tuned."""

    model: ModelName | None = Field(
        None, description="null: the one that the search, the job, the factors or the checkpoint name; else pocket"
    )
    factors: dict[str, Any] | None = Field(None, description="a factor file (`ropewalk.factors/1`)")
    search_id: JobId | None = Field(None, description="use this search's factors")
    finetune_id: JobId | None = Field(None, description="also evaluate this job's checkpoint")
    checkpoint: FileName | None = Field(
        None, description="also evaluate this checkpoint directory, as `ropewalk merge` writes it; not with finetune_id"
    )
    target_length: int | None = Field(None, ge=2, le=MAX_TARGET_LENGTH, description="null: the factors' own")
    lengths: tuple[Annotated[int, Field(ge=2, le=MAX_TARGET_LENGTH)], ...] | None = Field(
        None, max_length=16, description="tokens; null: the original and the target length"
    )
    documents: int = Field(40, ge=2, le=MAX_DOCUMENTS, description="needle documents per length")
    needles_per_document: int = Field(1, ge=1, le=64)
    tasks: tuple[TaskName, ...] = Field(
        (), max_length=64, description="RULER's tasks by name, or all: those whose data is here; scored by generation"
    )
    ruler_documents: int = Field(20, ge=1, le=MAX_DOCUMENTS, description="prompts per task and length; RULER has 500")
    threshold: float = Field(
        DEFAULT_THRESHOLD, ge=0, le=100, description="percent: RULER average that a length must reach to count"
    )
    squad: FileName | None = Field(None, description="SQuAD's dev-v2.0.json, for RULER's qa_1")
    hotpotqa: FileName | None = Field(None, description="hotpot_dev_distractor_v1.json, for RULER's qa_2")
    text_windows: int = Field(
        0, ge=0, le=MAX_DOCUMENTS, description="held-out texts per length for perplexity and next-token accuracy"
    )
    harness: tuple[TaskName, ...] = Field(
        (), max_length=64, description="lm-evaluation-harness tasks, for the model and its fine-tuned checkpoint"
    )
    harness_path: FileName | None = Field(None, description="a directory with harness tasks of your own")
    harness_limit: int | None = Field(None, ge=1, le=10**9, description="examples per harness task; null: all")
    corpus: CorpusName | None = None
    baselines: bool = True
    seed: Seed = 0
    scorer: ScorerSpec = ScorerSpec()
    workers: int = Field(1, ge=1, le=4096)
    labels: Labels = {}

    @property
    def ruler_tasks(self) -> tuple[RulerTask, ...]:
        """RULER's tasks that `tasks` names; all has the question answering tasks whose files are given."""
        given = [task for task, file in zip(QA_TASKS, (self.squad, self.hotpotqa), strict=True) if file is not None]
        return tasks_of([*self.tasks, *(given if "all" in self.tasks else [])])

    @field_validator("tasks", mode="before")
    @classmethod
    def _one_task_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("tasks")
    @classmethod
    def _tasks_are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        tasks_of(value)
        return value

    @model_validator(mode="after")
    def _data_is_given(self) -> Self:
        for task, name, file in zip(QA_TASKS, ("squad", "hotpotqa"), (self.squad, self.hotpotqa), strict=True):
            if task in self.tasks and file is None:
                raise ValueError(f"{name} must be given for RULER's {task}: its data is not shipped")
        return self

    @model_validator(mode="after")
    def _length_is_known(self) -> Self:
        sources = (self.factors, self.search_id, self.finetune_id, self.checkpoint)
        if self.target_length is None and all(source is None for source in sources):
            raise ValueError("target_length must be given when no factors, search_id, finetune_id or checkpoint is")
        if self.factors is not None and self.search_id is not None:
            raise ValueError("at most one of factors and search_id may be given")
        if self.finetune_id is not None and self.checkpoint is not None:
            raise ValueError("at most one of finetune_id and checkpoint may be given")
        return self
