"""An engine for as long as a scorer or a generator lives: its process may be lost once."""

from __future__ import annotations

import logging

from evaluation.models.source import ModelSource
from workers.base import ScorerSettings
from workers.errors import ScorerUnavailable
from workers.vllm_backend.messages import (
    AnswerScore,
    ContinuePrompt,
    Done,
    EngineOpened,
    GroupScored,
    OpenEngine,
    PromptContinued,
    ScoreGroup,
    Work,
)
from workers.vllm_backend.process import EngineLost, EngineProcess

_log = logging.getLogger(__name__)

_MAX_RESTARTS = 1


class EngineClient:
    """Asks an engine; not thread-safe.

    One that crashes, or does not reply within `document_seconds` per document or prompt, is killed and started again
    once, and asked again. When that fails too, it is done for: the reason is raised from then on.

    Raises:
        ScorerUnavailable: vLLM cannot load the model, or rotates it in a way that cannot be written to.
    """

    def __init__(self, settings: ScorerSettings, source: ModelSource) -> None:
        self._document_seconds = settings.document_seconds
        self._request = OpenEngine(
            model=str(source.path),
            rope=source.rope,
            original_length=settings.original_length,
            target_length=settings.target_length,
            dtype=settings.dtype,
            tensor_parallel=settings.tensor_parallel,
            threads=settings.threads,
        )
        self.starts = 0
        self._lost: EngineLost | None = None
        self._process = self._start()

    @property
    def opened(self) -> EngineOpened:
        """What the engine said of itself."""
        return self._process.opened

    @property
    def pid(self) -> int:
        """Of the process that the engine lives in."""
        return self._process.pid

    def score(self, group: ScoreGroup) -> tuple[AnswerScore, ...]:
        """One score per document. Raises: EngineLost."""
        done = self._do(group, seconds=self._document_seconds * len(group.documents))
        assert isinstance(done, GroupScored)
        return done.scores

    def generate(self, prompt: ContinuePrompt) -> PromptContinued:
        """The continuation of a prompt. Raises: EngineLost."""
        done = self._do(prompt, seconds=self._document_seconds)
        assert isinstance(done, PromptContinued)
        return done

    def end(self) -> None:
        """End the engine, and give its memory back. May be called again."""
        self._process.end()

    def _start(self) -> EngineProcess:
        self.starts += 1
        return EngineProcess(self._request)

    def _do(self, work: Work, *, seconds: float) -> Done:
        if self._lost is not None:
            raise self._lost
        try:
            return self._process.do(work, seconds=seconds)
        except EngineLost as error:
            if self.starts > _MAX_RESTARTS:
                self._lost = error
                raise
            _log.warning("vLLM's engine is started again: %s", error)
        try:
            self._process = self._start()
        except ScorerUnavailable as error:
            self._lost = EngineLost(f"the engine cannot be started again: {error}")
            raise self._lost from error
        return self._do(work, seconds=seconds)
