"""The scorer for GPUs: a vLLM engine in a process of its own, loaded once, whose factors are swapped in place."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from evaluation.model_source import config_sha256, model_sha256
from evaluation.needle import NeedleDocument
from evaluation.score import DocumentScore
from search_space.rescale_factors import RescaleFactors
from workers.base import ScorerInfo, ScorerSettings
from workers.checks import check_candidate, check_documents
from workers.errors import ScorerClosed, ScorerUnavailable, ScoringFailed
from workers.model_files import find_model
from workers.passes import ForwardGroup, forward_groups
from workers.vllm_messages import AnswerScore, EngineDocument, OpenEngine, ScoreGroup
from workers.vllm_process import EngineLost, EngineProcess

_log = logging.getLogger(__name__)

_MAX_RESTARTS = 1


class VllmScorer:
    """Implements :class:`workers.base.Scorer`.

    A score depends on the candidate and the document alone, to the last bit. Short documents of one length share a step
    in groups whose shape follows from that length, as in :class:`workers.transformers_scorer.TransformersScorer`; a
    long one goes through alone, in chunks that fill a step. vLLM left to itself would mix chunks of several long
    documents: that keeps a device no busier, and makes the last bits depend on the company.

    An engine that crashes, or does not reply within `document_seconds` per document, is killed and restarted once in a
    scorer's life, and asked again. When that fails too, this scorer is done for: it raises the reason from then on.

    Raises:
        ScorerUnavailable: vLLM cannot load the model, or rotates it in a way that cannot be written to.
        EvaluationError, SearchSpaceError: from resolving the model.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        source = find_model(settings.model, original_length=settings.original_length)
        self._rope = source.rope
        self._settings = settings
        self._request = OpenEngine(
            model=str(source.path),
            rope=source.rope,
            original_length=settings.original_length,
            target_length=settings.target_length,
            dtype=settings.dtype,
            tensor_parallel=settings.tensor_parallel,
            threads=settings.threads,
        )
        self.engine_starts = 0
        self._closed = False
        self._lost: EngineLost | None = None
        self._engine = self._start()
        opened = self._engine.opened
        self._tokens_per_group = opened.tokens_per_group
        self._info = ScorerInfo(
            backend="vllm",
            dtype=opened.dtype,
            device=opened.device,
            arithmetic=opened.arithmetic,
            model_sha256=model_sha256(source),
            config_sha256=config_sha256(source),
            version=opened.version,
        )

    @property
    def info(self) -> ScorerInfo:
        """What produces the scores."""
        return self._info

    @property
    def engine_pid(self) -> int:
        """Of the process that the engine lives in."""
        return self._engine.pid

    def score(
        self, *, factors: RescaleFactors, attention_factor: float, documents: Sequence[NeedleDocument]
    ) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.Scorer.score`.

        Raises:
            EngineLost: the engine broke twice; trouble of the machine.
        """
        if self._closed:
            raise ScorerClosed("a scorer must be open to score, but close() was called")
        check_candidate(self._rope, factors=factors, attention_factor=attention_factor)
        check_documents(documents, target_length=self._settings.target_length)
        scores: dict[int, DocumentScore] = {}
        for group in forward_groups(documents, tokens_per_forward=self._tokens_per_group):
            request = _score_group(group, documents, factors, attention_factor)
            # Rows beyond the documents repeat the last one: another shape may round differently.
            for index, answer in zip(group.indices, self._ask(request), strict=False):
                scores[index] = _document_score(documents[index], answer)
        return tuple(scores[index] for index in range(len(documents)))

    def close(self) -> None:
        """End the engine, and give its memory back."""
        if not self._closed:
            self._closed = True
            self._engine.end()

    def _start(self) -> EngineProcess:
        self.engine_starts += 1
        return EngineProcess(self._request)

    def _ask(self, group: ScoreGroup) -> tuple[AnswerScore, ...]:
        if self._lost is not None:
            raise self._lost
        seconds = self._settings.document_seconds * len(group.documents)
        try:
            return self._engine.score(group, seconds=seconds)
        except EngineLost as error:
            if self.engine_starts > _MAX_RESTARTS:
                self._lost = error
                raise
            _log.warning("vLLM's engine is started again: %s", error)
        try:
            self._engine = self._start()
        except ScorerUnavailable as error:
            self._lost = EngineLost(f"the engine cannot be started again: {error}")
            raise self._lost from error
        return self._ask(group)


def _score_group(
    group: ForwardGroup, documents: Sequence[NeedleDocument], factors: RescaleFactors, attention_factor: float
) -> ScoreGroup:
    rows = [documents[index] for index in group.indices]
    rows += rows[-1:] * (group.rows - len(rows))
    return ScoreGroup(
        factors=factors,
        attention_factor=attention_factor,
        documents=tuple(
            EngineDocument(
                token_ids=one.token_ids,
                answers=tuple(position for span in one.answer_spans for position in range(*span)),
            )
            for one in rows
        ),
    )


def _document_score(document: NeedleDocument, answer: AnswerScore) -> DocumentScore:
    if not math.isfinite(answer.nats):
        raise ScoringFailed(
            f"a score must be a finite number of nats, but the model gave {answer.nats} for {document.id!r}"
        )
    return DocumentScore(document_id=document.id, nats=answer.nats, tokens=document.answer_tokens, exact=answer.exact)
