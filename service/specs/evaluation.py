"""The spec of an evaluation."""

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from evaluation.ruler.score import DEFAULT_THRESHOLD
from evaluation.ruler.tasks import TASKS, tasks_of
from service.specs.base import (
    MAX_DOCUMENTS,
    MAX_TARGET_LENGTH,
    CorpusName,
    FileName,
    JobId,
    Labels,
    ModelName,
    Seed,
    Spec,
    TaskName,
    Tokens,
)
from service.specs.factors import GivenFactors
from service.specs.search import ScorerSpec


class EvaluationSpec(Spec):
    """What a model does at several lengths: needles, RULER, plain text and harness tasks, without scaling, with the
    baselines, with given factors and fine-tuned."""

    model: ModelName | None = Field(
        None, description="null: the one that the search, the job, the factors or the checkpoint name; else pocket"
    )
    factors: GivenFactors | None = None
    search_id: JobId | None = Field(None, description="use this search's factors")
    finetune_id: JobId | None = Field(None, description="also evaluate this job's checkpoint")
    checkpoint: FileName | None = Field(
        None, description="also evaluate this checkpoint directory, as `ropewalk merge` writes it; not with finetune_id"
    )
    target_length: Tokens | None = Field(None, ge=2, le=MAX_TARGET_LENGTH, description="null: the factors' own")
    lengths: tuple[Annotated[Tokens, Field(ge=2, le=MAX_TARGET_LENGTH)], ...] | None = Field(
        None, max_length=16, description="tokens; null: the original and the target length"
    )
    documents: int = Field(40, ge=2, le=MAX_DOCUMENTS, description="needle documents per length")
    needles_per_document: int = Field(1, ge=1, le=64)
    tasks: tuple[TaskName, ...] = Field(
        (), max_length=64, description="RULER's tasks by name, or all: those whose data is here; scored by generation"
    )
    ruler_documents: int = Field(20, ge=1, le=MAX_DOCUMENTS, description="prompts per task and length; RULER has 500")
    threshold: float = Field(
        DEFAULT_THRESHOLD, ge=0, le=100, description="percent: the RULER average that an effective length must reach"
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
    labels: Labels = Field({})

    @property
    def ruler_files(self) -> dict[str, str]:
        """The data files that are given, by field."""
        given = {"squad": self.squad, "hotpotqa": self.hotpotqa}
        return {field: file for field, file in given.items() if file is not None}

    @property
    def ruler_tasks(self) -> tuple[str, ...]:
        """The tasks that `tasks` names; all has those whose files are given."""
        return tasks_of(self.tasks, self.ruler_files)

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
        for name in self.ruler_tasks:
            file = TASKS[name].file
            if file is not None and file not in self.ruler_files:
                raise ValueError(f"{file} must be given for RULER's {name}: its data is not shipped")
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
