"""The contract of generation: a model that reads and writes as a server would run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evaluation.documents.windows import TextWindow, WindowScore
from evaluation.scores.served_rope import ServedRope


class Generator(Protocol):
    """Generates and reads under candidate factors, on a model that is loaded once.

    The RoPE of a forward pass follows from its length alone: original up to L, the long factors past it. So a
    generation that crosses L is computed as if every token had been read anew: keys that were rotated by the short
    factors are never met by queries that are rotated by the long ones.

    State, ownership and threads: as :class:`workers.base.Scorer`. Calls do not see each other.
    """

    def generate(self, rope: ServedRope, token_ids: Sequence[int], max_new_tokens: int) -> tuple[int, ...]:
        """Greedy continuation of a prompt: at most `max_new_tokens` tokens, fewer where the model ends its text.

        The end token is not among them. Of two equal logits the token with the smaller id is taken.

        Raises:
            InvalidRescaleFactors: not one factor per pair of the model.
            DocumentTooLong: prompt and new tokens together are more than `target_length`. Nothing was generated.
            ScoringFailed: the prompt is empty, `max_new_tokens` is not positive, the attention factor is no positive
                number, or the model gave no finite number.
            ScorerClosed: after `close`.
            Anything else is trouble of the machine (memory, device), not of the prompt.
        """
        ...

    def read(self, rope: ServedRope, window: TextWindow) -> WindowScore:
        """How well the model predicts the end of a text. Raises as `generate` does."""
        ...

    def close(self) -> None:
        """Give the model's memory back. May be called again."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationTask:
    """A prompt to continue. `key` is the caller's own, handed back with the outcome."""

    key: str
    rope: ServedRope
    token_ids: tuple[int, ...]
    max_new_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingTask:
    """A text to read. `key` is the caller's own, handed back with the outcome."""

    key: str
    rope: ServedRope
    window: TextWindow


ServingTask = GenerationTask | ReadingTask


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """The tokens of a continuation."""

    token_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingOutcome:
    """What became of a task: exactly one of `answer` and `error` is set."""

    task_key: str
    answer: Generated | WindowScore | None
    error: str | None  # one line: why this task cannot be done


def perform(generator: Generator, task: ServingTask) -> Generated | WindowScore:
    """Do one task. Raises as :class:`Generator` does."""
    if isinstance(task, GenerationTask):
        return Generated(token_ids=generator.generate(task.rope, task.token_ids, task.max_new_tokens))
    return generator.read(task.rope, task.window)
