"""RULER by generation and plain text by reading, as a server of each contender would do it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean

from evaluation.documents.windows import WindowScore, summarise_windows
from evaluation.models.tokenizer import Tokenizer
from evaluation.ruler.score import effective_context_length, match_score, ruler_average
from evaluation.ruler.task import RulerPrompt, RulerRequest
from service.evaluations.contenders import Contender, Setup
from service.evaluations.progress import EvaluationProgress
from service.evaluations.report import RulerRow, TextRow
from service.evaluations.work import ServedWork, setups_at
from service.runtime.job import Runtime
from workers.base import ScorerSettings
from workers.errors import ScoringFailed
from workers.generator import Generated, GenerationTask, ReadingTask, ServingTask
from workers.pool.generation import GenerationPool


@dataclass(kw_only=True, slots=True)
class _Book:
    """What was asked and is not answered yet, by task key; and the scores by setup."""

    waiting: dict[str, tuple[Setup, RulerPrompt | None]] = field(default_factory=dict)
    ruler: dict[Setup, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Percent by task and prompt."""
    text: dict[Setup, dict[str, WindowScore]] = field(default_factory=dict)


def serve(
    runtime: Runtime,
    contenders: Sequence[Contender],
    work: ServedWork,
    *,
    settings: Mapping[str, ScorerSettings],
    workers: int,
    progress: EvaluationProgress,
) -> tuple[tuple[RulerRow, ...], tuple[TextRow, ...]]:
    """A row for each contender at each length; `settings` by the model that they open.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`.
        ScoringFailed: a prompt could not be continued, or a text not be read.
    """
    book = _Book()
    for model, opened in settings.items() if work.units(contenders) else ():
        ours = [contender for contender in contenders if contender.model == model]
        note = f"RULER and text: {', '.join(one.name for one in ours)}"
        with GenerationPool(opened, workers=workers) as pool:
            for outcome in pool.run(_tasks(ours, work, book), check=runtime.keeper.check):
                runtime.keeper.check()
                if outcome.answer is None:
                    raise ScoringFailed(f"task {outcome.task_key} could not be done: {outcome.error}")
                _enter(book, outcome.task_key, outcome.answer, work.tokenizer)
                progress.advance(note)
    return tuple(_ruler_rows(contenders, work, book)), tuple(_text_rows(contenders, work, book))


def _tasks(contenders: Sequence[Contender], work: ServedWork, book: _Book) -> Iterator[ServingTask]:
    for length in work.ruler_lengths:
        for prompt in _prompts(work, length):
            for place, (setup, contender) in enumerate(setups_at(contenders, (length,)).items()):
                key = f"{prompt.id}:{place}"
                book.waiting[key] = (setup, prompt)
                yield GenerationTask(
                    key=key,
                    rope=contender.rope,
                    token_ids=prompt.token_ids,
                    max_new_tokens=prompt.max_new_tokens,
                )
    for length, windows in work.windows.items():
        for window in windows:
            for place, (setup, contender) in enumerate(setups_at(contenders, (length,)).items()):
                key = f"{window.id}:{place}"
                book.waiting[key] = (setup, None)
                yield ReadingTask(key=key, rope=contender.rope, window=window)


def _prompts(work: ServedWork, length: int) -> Iterator[RulerPrompt]:
    if work.ruler is None:
        return
    for task in work.tasks:
        request = RulerRequest(task=task, length=length, count=work.prompts, seed=work.seed)
        for index in range(work.prompts):
            yield work.ruler.prompt(request, index)


def _enter(book: _Book, key: str, answer: Generated | WindowScore, tokenizer: Tokenizer) -> None:
    setup, prompt = book.waiting.pop(key)
    if isinstance(answer, WindowScore):
        book.text.setdefault(setup, {})[answer.window_id] = answer
        return
    assert prompt is not None  # generations are asked for prompts alone
    score = match_score(tokenizer.decode(answer.token_ids), prompt.answers, prompt.match)
    book.ruler.setdefault(setup, {}).setdefault(prompt.task, {})[prompt.id] = score


def _ruler_rows(contenders: Sequence[Contender], work: ServedWork, book: _Book) -> Iterator[RulerRow]:
    for contender in contenders if work.tasks else ():
        for length in work.ruler_lengths:
            by_task = book.ruler[contender.at(length)]
            scores: dict[str, float] = {task: fmean(by_task[task].values()) for task in work.tasks}
            yield RulerRow(name=contender.name, length=length, scores=scores, average=ruler_average(scores))


def _text_rows(contenders: Sequence[Contender], work: ServedWork, book: _Book) -> Iterator[TextRow]:
    for contender in contenders:
        for length, windows in work.windows.items():
            by_window = book.text[contender.at(length)]
            summary = summarise_windows([by_window[window.id] for window in windows])
            yield TextRow(name=contender.name, length=length, **asdict(summary))


def effective_lengths(rows: Sequence[RulerRow], threshold: float) -> dict[str, int | None]:
    """By contender: the longest length whose RULER average reaches the threshold, percent."""
    averages: dict[str, dict[int, float]] = {}
    for row in rows:
        averages.setdefault(row.name, {})[row.length] = row.average
    return {name: effective_context_length(found, threshold) for name, found in averages.items()}
