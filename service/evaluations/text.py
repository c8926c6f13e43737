"""Plain text by reading: perplexity and next-token accuracy."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property

from evaluation.documents.windows import TextWindow, WindowScore, summarise_windows, text_windows
from evaluation.scores.served_rope import ServedRope
from ropewalk.wire.evaluation import EvaluationReport, RetentionRow, TextRow
from service.evaluations.contenders import Setup
from service.evaluations.figure import Figure
from service.evaluations.measure import Found, Measure, PreparedEvaluation, ServedWork
from service.evaluations.retention import kept_within
from workers.generator import Generated, ReadingTask


class TextWork(ServedWork[TextWindow, WindowScore]):
    """Windows of each length, and of the original one, which retention is about."""

    def __init__(self, prepared: PreparedEvaluation) -> None:
        self._prepared = prepared
        self.lengths = sorted({prepared.original_length, *prepared.lengths})
        self.units = prepared.spec.text_windows * prepared.count_setups(self.lengths)

    def check(self) -> None:
        """Raise CorpusTooShort where the corpus does not hold the longest window."""
        self._cut(1)

    def questions(self, length: int) -> Sequence[TextWindow]:
        """The windows."""
        return self._windows[length]

    def task(self, key: str, rope: ServedRope, question: TextWindow) -> ReadingTask:
        """A window to read."""
        return ReadingTask(key=key, rope=rope, window=question)

    def score(self, question: TextWindow, answer: Generated | WindowScore) -> WindowScore:
        """As it is."""
        assert isinstance(answer, WindowScore)  # as was asked
        return answer

    def found(self, scores: Mapping[Setup, Sequence[WindowScore]]) -> Found:
        """A row for each contender at each length."""
        return {
            "text": tuple(
                TextRow(name=one.name, length=length, **asdict(summarise_windows(scores[one.at(length)])))
                for one in self._prepared.contenders
                for length in self.lengths
            )
        }

    @cached_property
    def _windows(self) -> dict[int, tuple[TextWindow, ...]]:
        return self._cut(self._prepared.spec.text_windows)

    def _cut(self, count: int) -> dict[int, tuple[TextWindow, ...]]:
        model, seed = self._prepared.model, self._prepared.seed
        return text_windows(model.factory.tokenizer, model.corpus, lengths=self.lengths, count=count, seed=seed)


PERPLEXITY = Figure(
    title="Perplexity",
    axis="perplexity",
    rows="text",
    field="perplexity",
    unit="perplexity",
    less_is_better=True,
    glance="perplexity",
)
ACCURACY = Figure(title="Next-token accuracy", axis="next-token accuracy", rows="text", field="accuracy", unit="share")


def _note(report: EvaluationReport) -> str:
    first = report.text[0]
    return (
        f"{first.windows} held-out texts. The same {first.tokens // first.windows} tokens at the end of each are "
        "predicted at every length: only what stands before them differs. Sum over count."
    )


def _retention(report: EvaluationReport) -> Iterator[RetentionRow]:
    yield from kept_within(report, "next-token accuracy", ACCURACY)
    yield from kept_within(report, "perplexity", PERPLEXITY)


ROW = Measure(
    name="text",
    summary="held-out plain text: perplexity and next-token accuracy; the same last tokens (at most 512) are predicted "
    "at every length; sum over count",
    asked_by="text_windows",
    fields=(),
    results=("text",),
    title="Plain text",
    note=_note,
    figures=(PERPLEXITY, ACCURACY),
    prepare=TextWork,
    retention=_retention,
    is_served=True,
)
