"""What the training sees: long documents, middle and short ones packed into rows, and rows whose positions jump.

A row is a pure function of (tokenizer, corpus, settings, lengths, kind, its number): any step can be made again on any
machine, and divided among any number of workers. Everything comes from the text of `finetune.text` and from the train
keys, which no search and no validation document ever uses.

Symbols: B rows, T tokens per row, L the original length, L' the target length.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.architecture.attention import DocumentLengths
from evaluation.documents.corpus import Corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.documents.skipping import Body, Jump, positions_of
from evaluation.errors import InvalidDocumentRequest
from evaluation.models.tokenizer import Tokenizer
from finetune.config import KINDS, FinetuneSettings, Kind
from finetune.mix import check_long_text, demands
from finetune.parallel import Ranks
from finetune.rotary import Window
from finetune.rows import DrawnSkip, check_rows, draw_skip, least_short_tokens, least_skipped_tokens, row_tokens
from finetune.token_store import TokenStore

_STREAMS: dict[Kind, int] = {"long": 0, "short": 1, "middle": 2, "skipped": 3}
# kind -> (step, first): its needle documents have the numbers first, first + step, ... A number decides key, value and
# depth at every length, so no two kinds share one.
_NEEDLE_NUMBERS: dict[Kind, tuple[int, int]] = {
    "long": (2, 0),
    "short": (2, 1),
    "middle": (1, 2**31),
    "skipped": (1, 3 * 2**30),
}
_FULL_LENGTH_SHARE = 0.5  # of the short documents; the others are spread evenly over [L / 4, L]


def window_of(kind: Kind) -> Window:
    """The rotary window in which this kind of document is seen, in training and by the exported model."""
    return "short" if kind == "short" else "long"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingDocument:
    """Tokens of one document, what each is worth in the loss as a *target* (the first has no context: weight 0), and
    the positions that are left out between them.
    """

    token_ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    jumps: tuple[Jump, ...] = ()


Row = list[TrainingDocument]


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """One forward pass: rows of one kind. All arrays are (B, T)."""

    kind: Kind
    token_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    """Restart at 0 with every document, and jump forward within those of skipped rows."""
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

    Raises InvalidFinetuneSettings when rows do not fit the lengths (`finetune.rows`), CorpusTooShort when the text does
    not carry the mix (`finetune.mix`); the errors of `DocumentFactory` pass through.
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
        check_rows(settings, original_length=original_length, target_length=target_length)
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
        self._longest_text = int(text.sizes.max()) + (tokenizer.bos_token_id is not None)
        self._bos = np.asarray([] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id], dtype=np.int64)

    @property
    def text_sha256(self) -> str:
        """sha256 of what decides the text as token ids (`TokenStore.sha256`)."""
        return self._text.sha256

    def batches(self, step: int, ranks: Ranks) -> Iterator[MicroBatch]:
        """This worker's part of a step, at most `rows_per_pass` rows at a time. Rows go round over all kinds."""
        before = 0
        for kind in KINDS:
            rows = self._settings.rows_at(kind, step)
            earlier = self._settings.rows_before(kind, step)
            mine = [row for row in range(rows) if (before + row) % ranks.world == ranks.rank]
            before += rows
            for start in range(0, len(mine), self._settings.rows_per_pass):
                chosen = mine[start : start + self._settings.rows_per_pass]
                documents = [self._row(kind, earlier + row) for row in chosen]
                yield stack(kind, documents, self._row_tokens(kind))

    def _row(self, kind: Kind, number: int) -> Row:
        """Row `number`, counted over the whole training."""
        if kind == "long":
            return [self._document("long", number, self._target_length)]
        if kind == "skipped":
            return self._skipped(number)
        return self._packed_short(number) if kind == "short" else self._packed_middle(number)

    def _packed_short(self, number: int) -> Row:
        """Documents of at most L tokens until no further one fits."""
        shortest = least_short_tokens(self._original_length)
        room = self._row_tokens("short")
        most = room // shortest + 1
        documents: Row = []
        while room >= shortest:
            index = number * most + len(documents)
            length = min(room, self._short_length(index, shortest), self._longest_text)
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

    def _skipped(self, number: int) -> Row:
        """One needle document; or text, documents of any length one after the other until no further one fits.

        Each skips for itself, and reaches past L.
        """
        least = least_skipped_tokens(self._settings, self._original_length)
        room = self._row_tokens("skipped")
        most = room // least + 1
        if self._rng("skipped", number * most, 0).random() < self._settings.needle_fraction:
            skip = self._skip(number * most, room)
            return [self._needle_document("skipped", number * most, skip.reach, skip)]
        documents: Row = []
        while room >= least:
            documents.append(self._skipped_text(number * most + len(documents), least, room))
            room -= len(documents[-1].token_ids)
        return documents

    def _skipped_text(self, index: int, least: int, most: int) -> TrainingDocument:
        document = self._text_document(self._rng("skipped", index, 2), least, most)
        tokens = tuple(document.token_ids.tolist())
        skip = self._skip(index, len(tokens))
        tail = min(self._settings.skipped_tail_tokens, len(tokens) - 1)
        body = Body(tokens=tokens, depths=(), statements=(), questions=len(tokens) - tail)
        jumps = body.jumps(skip.skipping, skip.reach, self._rng("skipped", index, 3))
        return dataclasses.replace(document, jumps=jumps)

    def _skip(self, index: int, tokens: int) -> DrawnSkip:
        return draw_skip(
            self._settings,
            self._rng("skipped", index, 1),
            tokens=tokens,
            original_length=self._original_length,
            target_length=self._target_length,
        )

    def _row_tokens(self, kind: Kind) -> int:
        return row_tokens(
            self._settings, kind, original_length=self._original_length, target_length=self._target_length
        )

    def _document(self, kind: Kind, index: int, length: int) -> TrainingDocument:
        rng = self._rng(kind, index, 0)
        if rng.random() < self._settings.needle_fraction:
            try:
                return self._needle_document(kind, index, length)
            except InvalidDocumentRequest:
                if kind != "short":
                    raise
                # The rest of a row may be too small for a needle and its question: it is filled with text.
        return self._text_document(rng, length, length)

    def _needle_document(self, kind: Kind, index: int, length: int, skip: DrawnSkip | None = None) -> TrainingDocument:
        step, first = _NEEDLE_NUMBERS[kind]
        number = first + step * index
        request = DocumentRequest(
            target_length=length,
            count=number + 1,
            seed=self._settings.seed,
            split="train",
            needles=self._settings.needles_per_document,
            skipping=skip.skipping if skip else None,
        )
        needle = self._factory.document(request, number)
        weights = np.ones(request.tokens, dtype=np.float32)
        for start, end in needle.answer_spans:
            weights[start:end] = self._settings.answer_weight
        weights[0] = 0.0
        token_ids = np.asarray(needle.token_ids, dtype=np.int64)
        return TrainingDocument(token_ids=token_ids, weights=weights, jumps=needle.jumps)

    def _text_document(self, rng: np.random.Generator, least: int, most: int) -> TrainingDocument:
        words = self._text.run(rng, least=least - len(self._bos), most=most - len(self._bos))
        token_ids = np.concatenate([self._bos, words])
        weights = np.ones(len(token_ids), dtype=np.float32)
        weights[0] = 0.0
        return TrainingDocument(token_ids=token_ids, weights=weights)

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
            position_ids[row, start:end] = positions_of(end - start, document.jumps)
            weights[row, start:end] = document.weights
            start = end
    return MicroBatch(
        kind=kind,
        token_ids=token_ids,
        position_ids=position_ids,
        weights=weights,
        document_lengths=tuple(tuple(len(document.token_ids) for document in documents) for documents in rows),
    )
