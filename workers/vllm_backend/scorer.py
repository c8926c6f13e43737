"""The scorer for GPUs: a vLLM engine in a process of its own, loaded once, whose factors are swapped in place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from evaluation.documents.needle import NeedleDocument
from evaluation.models.source import config_sha256, model_sha256
from evaluation.scores.score import DocumentScore
from ropewalk.rope.scaling import Scaling
from workers.base import ScorerInfo, ScorerSettings
from workers.checks import check_documents
from workers.errors import ScorerClosed, ScoringFailed
from workers.model import find_model
from workers.transformers_backend.passes import ForwardGroup, forward_groups
from workers.vllm_backend.client import EngineClient
from workers.vllm_backend.messages import AnswerScore, EngineDocument, ScoreGroup


class VllmScorer:
    """Implements :class:`workers.base.Scorer`.

    A score depends on the candidate and the document alone, to the last bit. Short documents of one length share a step
    in groups whose shape follows from that length, as in
    :class:`workers.transformers_backend.scorer.TransformersScorer`; a long one goes through alone, in chunks that fill
    a step. vLLM left to itself would mix chunks of several long documents: that keeps a device no busier, and makes the
    last bits depend on the company.

    An engine that crashes or hangs is started again once: see :class:`workers.vllm_backend.client.EngineClient`.

    Raises:
        ScorerUnavailable: vLLM cannot load the model, or rotates it in a way that cannot be written to.
        EvaluationError, RopewalkError: from resolving the model.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        source = find_model(settings)
        self._rope = source.rope
        self._settings = settings
        self._closed = False
        self._engine = EngineClient(settings, source)
        opened = self._engine.opened
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

    @property
    def engine_starts(self) -> int:
        """How often an engine was started."""
        return self._engine.starts

    def score(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.Scorer.score`.

        Raises:
            EngineLost: the engine broke twice; trouble of the machine.
        """
        if self._closed:
            raise ScorerClosed("a scorer must be open to score, but close() was called")
        scaling.check_fits(self._rope.num_pairs)
        check_documents(documents, target_length=self._settings.target_length)
        if not self._engine.opened.places_positions and any(document.jumps for document in documents):
            raise ScoringFailed(
                "position-skipped documents need one rotary table that all layers read, but vLLM gives this model "
                "others: score full documents, or use backend=transformers"
            )
        scores: dict[int, DocumentScore] = {}
        for group in self._groups(documents):
            request = _score_group(group, documents, scaling)
            # Rows beyond the documents repeat the last one: another shape may round differently.
            for index, answer in zip(group.indices, self._engine.score(request), strict=False):
                scores[index] = _document_score(documents[index], answer)
        return tuple(scores[index] for index in range(len(documents)))

    def _groups(self, documents: Sequence[NeedleDocument]) -> Iterator[ForwardGroup]:
        """A skipped document goes alone: its jumps are in the table that a whole step reads."""
        full = [index for index, document in enumerate(documents) if not document.jumps]
        per_group = self._engine.opened.tokens_per_group
        for group in forward_groups([documents[index] for index in full], tokens_per_forward=per_group):
            yield ForwardGroup(indices=tuple(full[index] for index in group.indices), rows=group.rows)
        for index, document in enumerate(documents):
            if document.jumps:
                yield ForwardGroup(indices=(index,), rows=1)

    def close(self) -> None:
        """End the engine, and give its memory back."""
        if not self._closed:
            self._closed = True
            self._engine.end()


def _score_group(group: ForwardGroup, documents: Sequence[NeedleDocument], scaling: Scaling) -> ScoreGroup:
    rows = [documents[index] for index in group.indices]
    rows += rows[-1:] * (group.rows - len(rows))
    return ScoreGroup(
        scaling=scaling,
        jumps=rows[0].jumps,
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
    tokens = document.answer_tokens
    return DocumentScore(document_id=document.id, nats=answer.nats, tokens=tokens, exact=answer.correct == tokens)
