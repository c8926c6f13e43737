"""What the training sees: long documents, and middle and short ones packed into rows.

A row is a pure function of (tokenizer, corpus, settings, lengths, kind, its number): any step can be made again on any
machine, and divided among any number of workers. Everything comes from the text of `finetune.text` and from the train
keys, which no search and no validation document ever uses.

Symbols: B rows, T tokens per row, L the original length, L' the target length.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.documents.corpus import Corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.errors import InvalidDocumentRequest
from evaluation.models.tokenizer import Tokenizer
from finetune.attention import DocumentLengths
from finetune.config import KINDS, FinetuneSettings, Kind
from finetune.mix import check_long_text, demands
from finetune.parallel import Ranks
from finetune.rotary import Window
from finetune.token_store import TokenStore

_STREAMS: dict[Kind, int] = {"long": 0, "short": 1, "middle": 2}
# kind -> (step, first): its needle documents have the numbers first, first + step, ... A number decides key, value and
# depth at every length, so no two kinds share one.
_NEEDLE_NUMBERS: dict[Kind, tuple[int, int]] = {"long": (2, 0), "short": (2, 1), "middle": (1, 2**31)}
_SHORTEST_FRACTION = 4  # a short document has at least L / 4 tokens
_FULL_LENGTH_SHARE = 0.5  # of the short documents; the others are spread evenly over [L / 4, L]


def window_of(kind: Kind) -> Window:
    """The rotary window in which this kind of document is seen, in training and by the exported model."""
    return "short" if kind == "short" else "long"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingDocument:
    """Tokens of one document, and what each is worth in the loss as a *target*; the first has no context: weight 0."""

    token_ids: NDArray[np.int64]
    weights: NDArray[np.float32]


Row = list[TrainingDocument]


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """One forward pass: rows of one kind. All arrays are (B, T)."""

    kind: Kind
    token_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    """Restart at 0 with every document."""
    weights: NDArray[np.float32]
    """Loss weight of each token as a target; 0 for first tokens and padding."""
    document_lengths: DocumentLengths
    """Tokens of each row's documents; what is left of a row is padding."""

    @property
    def window(self) -> Window:
        """The rotary window of every document here."""
        return window_of(self.kind)


class TrainingData:
    """Rows by step and worker.

    Raises CorpusTooShort when the text does not carry the mix (`finetune.mix`); the errors of `DocumentFactory` pass
    through.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        corpus: Corpus,
        text: TokenStore,
        *,
        original_length: int,
        target_length: int,
        settings: FinetuneSettings,
    ) -> None:
        check_long_text(
            demands(settings, original_length=original_length, target_length=target_length),
            text.sizes.tolist(),
            corpus=corpus.name,
            repeats=settings.text_repeats,
        )
        self._factory = DocumentFactory(tokenizer, corpus)
        self._text = text
        self._original_length = original_length
        self._target_length = target_length
        self._settings = settings
        self._bos = np.asarray([] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id], dtype=np.int64)

    @property
    def text_sha256(self) -> str:
        """sha256 of what decides the text as token ids (`TokenStore.sha256`)."""
        return self._text.sha256

    def batches(self, step: int, ranks: Ranks) -> Iterator[MicroBatch]:
        """This worker's part of a step, at most `rows_per_pass` rows at a time. Rows go round over all kinds."""
        dealt = 0
        for kind in KINDS:
            rows = self._settings.rows_of(kind)
            mine = [row for row in range(rows) if (dealt + row) % ranks.world == ranks.rank]
            dealt += rows
            for start in range(0, len(mine), self._settings.rows_per_pass):
                chosen = mine[start : start + self._settings.rows_per_pass]
                documents = [self._row(kind, step * rows + row) for row in chosen]
                yield stack(kind, documents, self._target_length)

    def _row(self, kind: Kind, number: int) -> Row:
        """Row `number`, counted over the whole training."""
        if kind == "long":
            return [self._document("long", number, self._target_length)]
        return self._packed_short(number) if kind == "short" else self._packed_middle(number)

    def _packed_short(self, number: int) -> Row:
        """Documents of at most L tokens until no further one fits."""
        shortest = max(2, self._original_length // _SHORTEST_FRACTION)
        most = self._target_length // shortest + 1
        documents: Row = []
        room = self._target_length
        while room >= shortest:
            index = number * most + len(documents)
            length = min(room, self._short_length(index, shortest))
            documents.append(self._document("short", index, length))
            room -= length
        return documents

    def _short_length(self, index: int, shortest: int) -> int:
        rng = self._rng("short", index, 1)
        if rng.random() < _FULL_LENGTH_SHARE:
            return self._original_length
        return int(rng.integers(shortest, self._original_length + 1))

    def _packed_middle(self, number: int) -> Row:
        """Documents of more than L and fewer than L' tokens until no further one fits.

        Lengths are drawn evenly from what fits. The last of several is stretched to fill the row. A row's only one is
        not, and the rest is padding: else every document would have the same length up to L' = 2L.
        """
        shortest = self._original_length + 1
        most = self._target_length // shortest + 1
        documents: Row = []
        room = self._target_length
        while room >= shortest:
            index = number * most + len(documents)
            longest = min(room, max(shortest, self._target_length - 1))
            length = int(self._rng("middle", index, 1).integers(shortest, longest + 1))
            if documents and room - length < shortest:
                length = room  # what the others left, so its length is spread as theirs are
            documents.append(self._document("middle", index, length))
            room -= length
        return documents

    def _document(self, kind: Kind, index: int, length: int) -> TrainingDocument:
        rng = self._rng(kind, index, 0)
        if rng.random() < self._settings.needle_fraction:
            try:
                return self._needle_document(kind, index, length)
            except InvalidDocumentRequest:
                if kind != "short":
                    raise
                # The rest of a row may be too small for a needle and its question: it is filled with text.
        return self._text_document(rng, length)

    def _needle_document(self, kind: Kind, index: int, length: int) -> TrainingDocument:
        step, first = _NEEDLE_NUMBERS[kind]
        number = first + step * index
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
        words = self._text.window(rng, length - len(self._bos))
        weights = np.ones(length, dtype=np.float32)
        weights[0] = 0.0
        return TrainingDocument(token_ids=np.concatenate([self._bos, words]), weights=weights)

    def _rng(self, kind: Kind, index: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self._settings.seed, _STREAMS[kind], index, purpose]))


def stack(kind: Kind, rows: list[Row], tokens: int) -> MicroBatch:
    """Lay each row's documents one after the other and pad to `tokens`, the row's length T."""
    shape = (len(rows), tokens)
    token_ids, position_ids = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    for row, documents in enumerate(rows):
        start = 0
        for document in documents:
            end = start + len(document.token_ids)
            token_ids[row, start:end] = document.token_ids
            position_ids[row, start:end] = np.arange(end - start)
            weights[row, start:end] = document.weights
            start = end
    return MicroBatch(
        kind=kind,
        token_ids=token_ids,
        position_ids=position_ids,
        weights=weights,
        document_lengths=tuple(tuple(len(document.token_ids) for document in documents) for documents in rows),
    )
