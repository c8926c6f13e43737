"""What the training sees: long documents, and short documents packed into sequences.

A micro-batch is a pure function of (tokenizer, corpus, settings, lengths, step): any step can be made again on any
machine. Everything comes from the corpus's train split and from the train keys, which no search and no validation
document ever uses.

Symbols: B rows, T tokens per row, L the original length, L' the target length.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.corpus import Corpus
from evaluation.documents import DocumentFactory, DocumentRequest
from evaluation.errors import CorpusTooShort, InvalidDocumentRequest
from evaluation.tokenizer import Tokenizer
from finetune.config import FinetuneSettings
from finetune.rotary import Window

_STREAMS: dict[Window, int] = {"long": 0, "short": 1}
_SHORTEST_FRACTION = 4  # a short document has at least L / 4 tokens
_FULL_LENGTH_SHARE = 0.5  # of the short documents; the others are spread evenly over [L / 4, L]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingDocument:
    """Tokens of one document, and what each is worth in the loss as a *target*; the first has no context: weight 0."""

    token_ids: NDArray[np.int64]
    weights: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """One forward pass: rows of documents that are all seen in the same window. All arrays are (B, T)."""

    window: Window
    token_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    """Restart at 0 with every document."""
    segment_ids: NDArray[np.int64]
    """Number of the document within its row; padding at the row's end is a last segment of its own."""
    weights: NDArray[np.float32]
    """Loss weight of each token as a target; 0 for first tokens and padding."""


class TrainingData:
    """Micro-batches by step.

    Raises CorpusTooShort when the train split has fewer tokens than one document of the target length; the errors of
    `DocumentFactory` pass through.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        corpus: Corpus,
        *,
        original_length: int,
        target_length: int,
        settings: FinetuneSettings,
    ) -> None:
        self._factory = DocumentFactory(tokenizer, corpus)
        self._original_length = original_length
        self._target_length = target_length
        self._settings = settings
        self._bos = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
        self._text_ids = np.asarray(tokenizer.encode(corpus.split_text("train")), dtype=np.int64)
        if len(self._text_ids) < target_length:
            raise CorpusTooShort(
                f"the train split must have at least target_length tokens, but corpus {corpus.name} has "
                f"{len(self._text_ids)}, target_length={target_length}"
            )

    def long_batch(self, step: int) -> MicroBatch:
        """`long_documents_per_step` documents of L' tokens, one per row."""
        rows = self._settings.long_documents_per_step
        documents = [self._document("long", step * rows + row, self._target_length) for row in range(rows)]
        return stack("long", [[document] for document in documents], self._target_length)

    def short_batch(self, step: int) -> MicroBatch | None:
        """`short_sequences_per_step` rows of short documents, packed to L' tokens; None when that is 0."""
        rows = self._settings.short_sequences_per_step
        if rows == 0:
            return None
        packed = [self._pack(step * rows + row) for row in range(rows)]
        return stack("short", packed, self._target_length)

    def _pack(self, row: int) -> list[TrainingDocument]:
        """Short documents until no further one fits; `row` counts over the whole training."""
        shortest = max(2, self._original_length // _SHORTEST_FRACTION)
        most = self._target_length // shortest + 1
        documents: list[TrainingDocument] = []
        room = self._target_length
        while room >= shortest:
            index = row * most + len(documents)
            length = min(room, self._short_length(index, shortest))
            documents.append(self._document("short", index, length))
            room -= length
        return documents

    def _short_length(self, index: int, shortest: int) -> int:
        rng = self._rng("short", index, 1)
        if rng.random() < _FULL_LENGTH_SHARE:
            return self._original_length
        return int(rng.integers(shortest, self._original_length + 1))

    def _document(self, window: Window, index: int, length: int) -> TrainingDocument:
        rng = self._rng(window, index, 0)
        if rng.random() < self._settings.needle_fraction:
            try:
                return self._needle_document(window, index, length)
            except InvalidDocumentRequest:
                if window == "long":
                    raise
                # The rest of a row may be too small for a needle and its question: it is filled with text.
        return self._text_document(rng, length)

    def _needle_document(self, window: Window, index: int, length: int) -> TrainingDocument:
        # A document's number decides its key, value and depth at every length: the windows take turns in the numbers.
        number = index * len(_STREAMS) + _STREAMS[window]
        request = DocumentRequest(
            target_length=length,
            count=number + 1,
            seed=self._settings.seed,
            split="train",
            needles=self._settings.needles_per_document,
        )
        needle = self._factory.document(request, number)
        weights = np.ones(length, dtype=np.float32)
        for start, end in needle.answer_spans:
            weights[start:end] = self._settings.answer_weight
        weights[0] = 0.0
        return TrainingDocument(token_ids=np.asarray(needle.token_ids, dtype=np.int64), weights=weights)

    def _text_document(self, rng: np.random.Generator, length: int) -> TrainingDocument:
        words = length - len(self._bos)
        start = int(rng.integers(0, len(self._text_ids) - words + 1))
        token_ids = np.concatenate([np.asarray(self._bos, dtype=np.int64), self._text_ids[start : start + words]])
        weights = np.ones(length, dtype=np.float32)
        weights[0] = 0.0
        return TrainingDocument(token_ids=token_ids, weights=weights)

    def _rng(self, window: Window, index: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self._settings.seed, _STREAMS[window], index, purpose]))


def stack(window: Window, rows: list[list[TrainingDocument]], tokens: int) -> MicroBatch:
    """Lay each row's documents one after the other and pad to `tokens`, the row's length T."""
    shape = (len(rows), tokens)
    token_ids, position_ids = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    segment_ids, weights = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
    for row, documents in enumerate(rows):
        start = 0
        for segment, document in enumerate(documents):
            end = start + len(document.token_ids)
            token_ids[row, start:end] = document.token_ids
            position_ids[row, start:end] = np.arange(end - start)
            segment_ids[row, start:end] = segment
            weights[row, start:end] = document.weights
            start = end
        position_ids[row, start:] = np.arange(tokens - start)
        segment_ids[row, start:] = len(documents)
    return MicroBatch(
        window=window, token_ids=token_ids, position_ids=position_ids, segment_ids=segment_ids, weights=weights
    )
