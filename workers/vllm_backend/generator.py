"""The generator for GPUs: the engine that scores, asked to go on with a text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evaluation.documents.windows import TextWindow, WindowScore
from evaluation.models.source import end_tokens
from evaluation.scores.served_rope import ServedRope
from workers.base import ScorerSettings
from workers.checks import check_length, check_prompt
from workers.errors import ScorerClosed, ScoringFailed
from workers.model import find_model
from workers.vllm_backend.client import EngineClient
from workers.vllm_backend.messages import ContinuePrompt, EngineDocument, ScoreGroup


class VllmGenerator:
    """Implements :class:`workers.generator.Generator`; opening and lost engines as with :class:`VllmScorer`.

    A generation that crosses L is two requests: the second reads everything anew with the long factors. A served vLLM
    does not do that: its factors follow from its `max_model_len` alone. Here the model is asked what it can do with the
    factors that each length is meant to have, which is what other backends answer too.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        source = find_model(settings)
        self._rope = source.rope
        self._target_length = settings.target_length
        self._end_tokens = end_tokens(source.path)
        self._engine: EngineClient | None = EngineClient(settings, source)

    def generate(self, rope: ServedRope, token_ids: Sequence[int], max_new_tokens: int) -> tuple[int, ...]:
        """See :meth:`workers.generator.Generator.generate`. Raises EngineLost, trouble of the machine."""
        check_prompt(token_ids, max_new_tokens)
        engine = self._ready(rope, len(token_ids) + max_new_tokens)
        text = list(token_ids)
        while (missing := len(token_ids) + max_new_tokens - len(text)) > 0:
            # The pass over the first L tokens is the last short one, and it gives token L + 1.
            count = missing if rope.is_long(len(text)) else min(missing, rope.original_length + 1 - len(text))
            new = self._continue(engine, rope, text, count)
            text += new
            if new[-1] in self._end_tokens:
                return tuple(text[len(token_ids) : -1])
        return tuple(text[len(token_ids) :])

    def read(self, rope: ServedRope, window: TextWindow) -> WindowScore:
        """See :meth:`workers.generator.Generator.read`. Raises EngineLost, trouble of the machine."""
        length = len(window.token_ids)
        engine = self._ready(rope, length)
        document = EngineDocument(token_ids=window.token_ids, answers=tuple(range(length - window.scored, length)))
        (found,) = engine.score(ScoreGroup(scaling=rope.at(length), documents=(document,)))
        if not math.isfinite(found.nats):
            raise ScoringFailed(
                f"a score must be a finite number of nats, but the model gave {found.nats} for {window.id!r}"
            )
        return WindowScore(window_id=window.id, nats=found.nats, tokens=window.scored, correct=found.correct)

    def close(self) -> None:
        """End the engine, and give its memory back."""
        if self._engine is not None:
            self._engine.end()
            self._engine = None

    def _ready(self, rope: ServedRope, length: int) -> EngineClient:
        """The engine, once everything is checked."""
        if self._engine is None:
            raise ScorerClosed("a generator must be open, but close() was called")
        rope.scaling.check_fits(self._rope.num_pairs)
        check_length(length, target_length=self._target_length)
        return self._engine

    def _continue(self, engine: EngineClient, rope: ServedRope, text: Sequence[int], count: int) -> tuple[int, ...]:
        """1 to `count` new tokens under the factors of the text's length; an end token is the last."""
        found = engine.generate(
            ContinuePrompt(
                scaling=rope.at(len(text)),
                token_ids=tuple(text),
                max_new_tokens=count,
                end_tokens=tuple(sorted(self._end_tokens)),
            )
        )
        if not math.isfinite(found.nats):
            raise ScoringFailed("a model must give finite logits, but none is")
        return found.token_ids
