"""Plain perplexity as the objective of a search: for every needle document a text without needles in its place.

What LongRoPE (arXiv 2402.13753) minimises and LongRoPE2 (arXiv 2502.20082, section 3.2) argues against. Strategy, race
and validation cannot tell the difference: a text of the document's length, split and number, all of whose tokens count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.documents.document_id import DocumentId
from evaluation.documents.needle import SPLITS, NeedleDocument, Split
from evaluation.documents.windows import TextWindow
from evaluation.models.source import config_sha256, model_sha256
from evaluation.scores.score import DocumentScore
from evaluation.scores.served_rope import ServedRope
from ropewalk.rope.scaling import Scaling
from service.searches.model import PreparedModel
from workers.base import ScorerInfo, ScorerSettings
from workers.transformers_backend.generator import TransformersGenerator

_GOLDEN = (5**0.5 - 1) / 2  # frac(offset + i * step) fills [0, 1) evenly for every prefix


class TextScorer:
    """Implements :class:`workers.base.Scorer` with the NLL of whole texts, on one thread."""

    def __init__(self, model: PreparedModel, *, target_length: int) -> None:
        self._source = model.source
        self._original_length = model.rope.original_max_position_embeddings
        self._reader = TransformersGenerator(
            ScorerSettings(
                model=model.worker_name,
                target_length=target_length,
                original_length=self._original_length,
                threads=1,
            )
        )
        encode = model.factory.tokenizer.encode
        self._text: dict[Split, NDArray[np.int64]] = {
            split: np.asarray(encode(model.corpus.split_text(split)), dtype=np.int64) for split in SPLITS
        }

    @property
    def info(self) -> ScorerInfo:
        """What produces the scores; they are kept nowhere, so nothing follows from it."""
        return ScorerInfo(
            backend="text",
            dtype="float32",
            device="cpu",
            arithmetic="1 thread",
            model_sha256=model_sha256(self._source),
            config_sha256=config_sha256(self._source),
            version="1",
        )

    def score(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.Scorer.score`; `exact` has no meaning here and is false."""
        rope = ServedRope(original_length=self._original_length, scaling=scaling)
        scores = [self._reader.read(rope, self.text_for(document)) for document in documents]
        return tuple(
            DocumentScore(document_id=document.id, nats=score.nats, tokens=score.tokens, exact=False)
            for document, score in zip(documents, scores, strict=True)
        )

    def close(self) -> None:
        """Drop the model."""
        self._reader.close()

    def text_for(self, document: NeedleDocument) -> TextWindow:
        """What is read in the place of `document`: a text that its length, split, seed and number decide."""
        place, length = DocumentId.parse(document.id), len(document.token_ids)
        ids = self._text[place.split]
        offset = np.random.default_rng([SPLITS.index(place.split), place.seed]).random()
        start = int((offset + place.index * _GOLDEN) % 1.0 * (len(ids) - length + 1))
        return TextWindow(id=document.id, token_ids=tuple(ids[start : start + length].tolist()), scored=length - 1)
