"""RULER by generation, and the context length that follows from it."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from evaluation.documents.windows import WindowScore
from evaluation.models.user_path import user_path
from evaluation.ruler.factory import RulerFactory
from evaluation.ruler.score import effective_context_length, match_score, ruler_average
from evaluation.ruler.task import RulerPrompt, RulerRequest
from evaluation.ruler.tasks import TASKS
from evaluation.scores.served_rope import ServedRope
from ropewalk.wire.evaluation import EvaluationReport, RetentionRow, RulerRow
from service.evaluations.contenders import Setup
from service.evaluations.figure import Figure
from service.evaluations.measure import Found, Measure, PreparedEvaluation, ServedWork
from service.evaluations.retention import kept_within
from workers.generator import Generated, GenerationTask

TaskScore = tuple[str, float]
"""A prompt's task, and its score in percent."""


class RulerWork(ServedWork[RulerPrompt, TaskScore]):
    """Every task's prompts at each length."""

    def __init__(self, prepared: PreparedEvaluation) -> None:
        spec = prepared.spec
        files = {field: user_path(file) for field, file in spec.ruler_files.items()}
        self._factory = RulerFactory(prepared.model.factory.tokenizer, prepared.model.corpus, files=files)
        self._prepared = prepared
        self.lengths = prepared.lengths
        self.units = len(spec.ruler_tasks) * spec.ruler_documents * prepared.count_setups(self.lengths)

    def check(self) -> None:
        """Build a prompt of each task. Raises InvalidDocumentRequest where it does not fit every length."""
        for task in self._prepared.spec.ruler_tasks:
            self._factory.build(self._request(task, self.lengths[0], count=1))  # what fits the shortest fits them all

    def questions(self, length: int) -> Iterator[RulerPrompt]:
        """Task by task."""
        count = self._prepared.spec.ruler_documents
        for task in self._prepared.spec.ruler_tasks:
            for index in range(count):
                yield self._factory.prompt(self._request(task, length, count=count), index)

    def task(self, key: str, rope: ServedRope, question: RulerPrompt) -> GenerationTask:
        """A prompt to continue."""
        return GenerationTask(key=key, rope=rope, token_ids=question.token_ids, max_new_tokens=question.max_new_tokens)

    def score(self, question: RulerPrompt, answer: Generated | WindowScore) -> TaskScore:
        """By string match."""
        assert isinstance(answer, Generated)  # as was asked
        text = self._prepared.model.factory.tokenizer.decode(answer.token_ids)
        return question.task, match_score(text, question.answers, question.match)

    def found(self, scores: Mapping[Setup, Sequence[TaskScore]]) -> Found:
        """A row for each contender at each length."""
        rows = tuple(
            self._row(contender.name, length, scores[contender.at(length)])
            for contender in self._prepared.contenders
            for length in self.lengths
        )
        return {"ruler": rows, "effective_lengths": effective_lengths(rows, self._prepared.spec.threshold)}

    def _row(self, name: str, length: int, scores: Sequence[TaskScore]) -> RulerRow:
        tasks = self._prepared.spec.ruler_tasks
        by_task = {task: fmean(score for of, score in scores if of == task) for task in tasks}
        return RulerRow(name=name, length=length, scores=by_task, average=ruler_average(by_task))

    def _request(self, task: str, length: int, *, count: int) -> RulerRequest:
        return RulerRequest(task=task, length=length, count=count, seed=self._prepared.seed)


def effective_lengths(rows: Sequence[RulerRow], threshold: float) -> dict[str, int | None]:
    """By contender: the longest length whose RULER average reaches the threshold, percent."""
    averages: dict[str, dict[int, float]] = {}
    for row in rows:
        averages.setdefault(row.name, {})[row.length] = row.average
    return {name: effective_context_length(found, threshold) for name, found in averages.items()}


AVERAGE = Figure(
    title="Average",
    axis="average over tasks, %",
    rows="ruler",
    field="average",
    unit="percent",
    low=0.0,
    high=100.0,
    glance="RULER",
    level=lambda report: (report.threshold, f"{report.threshold:g} %"),
)


def _note(report: EvaluationReport) -> str:
    return (
        f"Percent by string match, {len(report.ruler[0].scores)} of {len(TASKS)} RULER tasks, greedy generation; "
        "prompt and answer together fit the length. The effective length is the longest whose average is at least "
        f"{report.threshold:g} %. Haystacks of text are cut from the evaluation's corpus, not from RULER's essays."
    )


def _retention(report: EvaluationReport) -> Iterator[RetentionRow]:
    return kept_within(report, "RULER average", AVERAGE)


ROW = Measure(
    name="ruler",
    summary="RULER's tasks: percent by string match over greedy generations, averaged over tasks; the effective length "
    "is the longest whose average reaches the threshold (85.6 %: Llama2-7B at 4k, RULER's own)",
    asked_by="tasks",
    fields=("ruler_documents", "threshold", "squad", "hotpotqa"),
    results=("ruler", "effective_lengths"),
    title="RULER",
    note=_note,
    figures=(AVERAGE,),
    prepare=RulerWork,
    retention=_retention,
    is_served=True,
)
