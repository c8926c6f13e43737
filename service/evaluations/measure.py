"""What a measure of an evaluation is: a row, and the work that it makes of one evaluation. No Ray here: the API
prepares evaluations too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, TypeVar

import numpy as np

from evaluation.documents.windows import WindowScore
from evaluation.models.warnings import model_warnings
from evaluation.scores.served_rope import ServedRope
from ropewalk.wire.evaluation import EvaluationReport, RetentionRow
from service.evaluations.contenders import Contender, Setup, setups_at
from service.evaluations.figure import Figure
from service.evaluations.progress import EvaluationProgress
from service.runtime.job import Runtime
from service.searches.model import PreparedModel, scorer_settings
from service.specs.evaluation import EvaluationSpec
from workers.base import ScorerSettings
from workers.generator import Generated, ServingTask
from workers.model_files import ModelFiles

EVALUATION_SEED = 0x5EED  # mixed into the seed: documents that neither a search nor its validation has drawn

Found = Mapping[str, object]
"""What a measure found, by field of :class:`EvaluationReport`, which checks it."""

QuestionT = TypeVar("QuestionT")
ScoreT = TypeVar("ScoreT")


class Work(ABC):
    """A measure in one evaluation. units: how much progress counts of it. is_early: run before the others, because what
    it lacks should be told before anything long begins."""

    units: int
    is_early: ClassVar[bool] = False

    def check(self) -> None:  # noqa: B027  # most have nothing to check
        """Refuse at submission what could not be measured; raises what that takes."""


class OwnWork(Work):
    """Runs by itself."""

    @abstractmethod
    def run(self, runtime: Runtime, progress: EvaluationProgress) -> Found:
        """Measure.

        Raises:
            LeaseLost, RunStopped: see `LeaseKeeper.check`.
            ScorerUnavailable, ScoringFailed, RunFailed: it could not be measured.
        """


class ServedWork(Work, Generic[QuestionT, ScoreT]):
    """Questions that every contender's model answers by generating or reading, as a server of it would.

    The pool that answers is shared: each model is opened once for all measures.
    """

    lengths: Sequence[int]

    @abstractmethod
    def questions(self, length: int) -> Iterable[QuestionT]:
        """What is asked at `length`; made on the way, because long ones do not all fit the memory."""

    @abstractmethod
    def task(self, key: str, rope: ServedRope, question: QuestionT) -> ServingTask:
        """A question to one contender."""

    @abstractmethod
    def score(self, question: QuestionT, answer: Generated | WindowScore) -> ScoreT:
        """What is kept of an answer."""

    @abstractmethod
    def found(self, scores: Mapping[Setup, Sequence[ScoreT]]) -> Found:
        """Of the scores of every setup, in the order of its questions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedEvaluation:
    """An evaluation ready to run. works: by measure, of those that the spec asks for. files: of models
    that workers have to fetch, by the name that they are opened by."""

    spec: EvaluationSpec
    model: PreparedModel
    target_length: int
    lengths: tuple[int, ...]
    contenders: tuple[Contender, ...]
    works: Mapping[str, Work]
    files: Mapping[str, ModelFiles] = field(default_factory=dict)

    @property
    def original_length(self) -> int:
        """L, tokens."""
        return self.model.rope.original_max_position_embeddings

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user must know of the model and of the lengths."""
        beyond = [length for length in self.lengths if length > self.target_length]
        told = model_warnings(self.model.source, self.target_length)
        if not beyond:
            return told
        lengths = ", ".join(map(str, beyond))
        return (
            *told,
            f"lengths={lengths} lie beyond the target length {self.target_length}, for which factors were found: they "
            "are measured with those factors, and a search for the longest of them would find others",
        )

    @property
    def seed(self) -> int:
        """What everything here is drawn by."""
        return int(np.random.SeedSequence([self.spec.seed, EVALUATION_SEED]).generate_state(1)[0])

    def settings(self) -> dict[str, ScorerSettings]:
        """What workers open, by model."""
        longest = max(self.original_length, *self.lengths)
        names = dict.fromkeys(contender.model for contender in self.contenders)
        opened = {name: scorer_settings(self.spec.scorer, name, self.model.rope, longest) for name in names}
        return {name: replace(one, files=self.files.get(name)) for name, one in opened.items()}

    def count_setups(self, lengths: Sequence[int]) -> int:
        """How often something is measured at all of `lengths`, each setup once."""
        return len(setups_at(self.contenders, lengths))


def nothing_missing(spec: EvaluationSpec) -> None:
    """Of a measure that needs nothing but the scorer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One measure.

    asked_by: the field of the spec that asks for it; None for always. fields: what else the spec says of it. results:
    the fields of the report that it fills, its rows first. title, note and figures: of its section on the report page.
    prepare: its work in an evaluation, whose `works` are empty still.
    retention: what contenders keep of the unchanged model. check_machine: raises a WorkersError where something that it
    needs is missing. is_served: its work is a :class:`ServedWork`.
    """

    name: str
    summary: str
    asked_by: str | None
    fields: tuple[str, ...]
    results: tuple[str, ...]
    title: str
    note: Callable[[EvaluationReport], str]
    figures: tuple[Figure, ...]
    prepare: Callable[[PreparedEvaluation], Work]
    retention: Callable[[EvaluationReport], Iterable[RetentionRow]]
    check_machine: Callable[[EvaluationSpec], None] = nothing_missing
    is_served: bool = False

    def is_asked(self, spec: EvaluationSpec) -> bool:
        """Whether `spec` asks for it."""
        return self.asked_by is None or bool(getattr(spec, self.asked_by))
