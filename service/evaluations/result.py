"""What an evaluation found, and how its resource shows it."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from evaluation.documents.needle import NeedleDocument
from evaluation.documents.windows import WindowScore, summarise_windows
from evaluation.ruler.score import effective_context_length, ruler_average
from evaluation.scores.retention import Retention, retention
from evaluation.scores.score import DocumentScore, summarise
from service.evaluations.contenders import BASE
from workers.harness.run import HarnessScore


@dataclass(frozen=True, kw_only=True, slots=True)
class NeedleRow:
    """One contender at one length on needle documents."""

    name: str
    length: int
    documents: tuple[NeedleDocument, ...]
    scores: tuple[DocumentScore, ...]

    def as_json(self) -> dict[str, object]:
        """`by_depth` has (depth, nats per token, exact) a document."""
        summary = summarise(self.scores)
        return {
            "name": self.name,
            "length": self.length,
            "nll": summary.nll,
            "nll_standard_error": summary.nll_standard_error,
            "perplexity": finite(summary.perplexity),
            "exact_match": summary.exact_match,
            "documents": summary.documents,
            "by_depth": [
                [document.depth, score.nats / score.tokens, score.exact]
                for document, score in zip(self.documents, self.scores, strict=True)
            ],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class RulerRow:
    """One contender at one length: percent by task."""

    name: str
    length: int
    scores: Mapping[str, float]

    def as_json(self) -> dict[str, object]:
        """With the average over tasks."""
        return {
            "name": self.name,
            "length": self.length,
            "scores": dict(self.scores),
            "average": ruler_average(self.scores),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRow:
    """One contender at one length on plain text."""

    name: str
    length: int
    scores: tuple[WindowScore, ...]

    def as_json(self) -> dict[str, object]:
        """Sum over count."""
        summary = summarise_windows(self.scores)
        return {
            "name": self.name,
            "length": self.length,
            "nll": summary.nll,
            "perplexity": finite(summary.perplexity),
            "accuracy": summary.accuracy,
            "windows": summary.windows,
            "tokens": summary.tokens,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class HarnessRow:
    """One model on one task of the harness."""

    name: str
    score: HarnessScore


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """Everything that was measured; empty where it was not asked for."""

    model: str
    original_length: int
    target_length: int
    threshold: float
    needles: tuple[NeedleRow, ...]
    ruler: tuple[RulerRow, ...] = ()
    text: tuple[TextRow, ...] = ()
    harness: tuple[HarnessRow, ...] = ()

    def effective_lengths(self) -> dict[str, int | None]:
        """By contender: the longest length whose RULER average reaches the threshold."""
        averages: dict[str, dict[int, float]] = {}
        for row in self.ruler:
            averages.setdefault(row.name, {})[row.length] = ruler_average(row.scores)
        return {name: effective_context_length(found, self.threshold) for name, found in averages.items()}

    def retention(self) -> Iterator[tuple[str, int | None, Retention]]:
        """(contender, length, what it kept of the unchanged model), at lengths that the model was trained for."""
        short = [row for row in self.needles if row.length <= self.original_length]
        yield from _kept("needle exact match", ((r.name, r.length, summarise(r.scores).exact_match) for r in short))
        ruler = [row for row in self.ruler if row.length <= self.original_length]
        yield from _kept("RULER average", ((row.name, row.length, ruler_average(row.scores)) for row in ruler))
        text = [(r.name, r.length, summarise_windows(r.scores)) for r in self.text if r.length <= self.original_length]
        yield from _kept("next-token accuracy", ((name, length, one.accuracy) for name, length, one in text))
        perplexities = ((name, length, one.perplexity) for name, length, one in text)
        yield from _kept("perplexity", perplexities, less_is_better=True)
        for row in self.harness:
            measure = f"{row.score.task}: {row.score.metric}"
            before = [one.score.value for one in self.harness if one.name == BASE and _same(one.score, row.score)]
            if row.name != BASE and before:
                less = not row.score.higher_is_better
                kept = retention(measure, before=before[0], after=row.score.value, less_is_better=less)
                yield row.name, None, kept

    def to_json(self) -> str:
        """What the evaluation's resource shows as `result`."""
        return json.dumps(
            {
                "model": self.model,
                "original_length": self.original_length,
                "target_length": self.target_length,
                "threshold": self.threshold,
                "rows": [row.as_json() for row in self.needles],
                "ruler": [row.as_json() for row in self.ruler],
                "effective_lengths": self.effective_lengths(),
                "text": [row.as_json() for row in self.text],
                "harness": [{"name": row.name, **asdict(row.score)} for row in self.harness],
                "retention": [
                    {
                        "name": name,
                        "length": length,
                        **asdict(kept),
                        "before": finite(kept.before),
                        "after": finite(kept.after),
                    }
                    for name, length, kept in self.retention()
                ],
            },
            allow_nan=False,
        )


def finite(perplexity: float) -> float:
    """JSON has no infinity: the largest number instead."""
    return min(perplexity, sys.float_info.max)


def _kept(
    measure: str, values: Iterable[tuple[str, int, float]], *, less_is_better: bool = False
) -> Iterator[tuple[str, int, Retention]]:
    known: Sequence[tuple[str, int, float]] = tuple(values)
    before = {length: value for name, length, value in known if name == BASE}
    for name, length, after in known:
        if name != BASE and length in before:
            yield name, length, retention(measure, before=before[length], after=after, less_is_better=less_is_better)


def _same(left: HarnessScore, right: HarnessScore) -> bool:
    return (left.task, left.metric) == (right.task, right.metric)
