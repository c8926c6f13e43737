"""Building needle documents: each is decided by (tokenizer, corpus, seed, split, target_length, needles, index) alone.

A document is assembled from token ids, piece by piece: BOS where the tokenizer writes one, haystack with needles in it,
questions with their answers. So its length is exact, a needle and its question are the same tokens, and the answer
spans need no search in a re-tokenised text.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evaluation.documents.corpus import Corpus
from evaluation.documents.document_id import DocumentId
from evaluation.documents.haystack import Haystack
from evaluation.documents.keys import keys_of
from evaluation.documents.needle import (
    QUESTION_HEAD,
    SPLITS,
    STATEMENT,
    VALUE_DIGITS,
    NeedleDocument,
    Split,
    check_split,
    stated_values,
)
from evaluation.documents.skipping import Body, Skipping
from evaluation.errors import CorpusTooShort, InvalidDocumentRequest, UnsupportedTokenizer
from evaluation.models.tokenizer import Tokenizer, check_tokenizer

MIN_HAYSTACK_TOKENS = 8
_STOP = ".\n"  # what NEEDLE has after its STATEMENT
_MAX_CUTS_TRIED = 8
_MAX_SNAP_TOKENS = 32  # about a line

# Steps of two additive recurrences (Kronecker sequences): frac(offset + i * step) fills [0, 1) evenly for every prefix.
_GOLDEN = (5**0.5 - 1) / 2  # depths; the most even of all steps
_SILVER = (
    2**0.5 - 1
)  # starts of the haystacks; rationally independent of the other, so depth and text do not go together

_OFFSETS, _NEEDLES, _GAPS = 0, 1, 2  # what a random stream is for


def check_lengths(original_length: int, target_length: int) -> None:
    """Raise InvalidDocumentRequest when the target length is below the model's original length."""
    if target_length < original_length:
        raise InvalidDocumentRequest(
            "target_length must be at least original_length, "
            f"but got target_length={target_length}, original_length={original_length}",
            pointer="/target_length",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentRequest:
    """Which documents: `count` of exactly `target_length` tokens with `needles` needles each, decided by `seed`.

    With `skipping` they have its tokens only, and reach over `target_length` positions. length_field: what whoever asks
    calls the length, for refusals.
    """

    target_length: int
    count: int
    seed: int
    split: Split = "validation"
    needles: int = 1
    skipping: Skipping | None = None
    length_field: str = field(default="target_length", compare=False)

    def __post_init__(self) -> None:
        check_split(self.split)
        for name, value, least in (
            (self.length_field, self.target_length, 1),
            ("count", self.count, 1),
            ("seed", self.seed, 0),
            ("needles", self.needles, 1),
        ):
            if value < least:
                raise InvalidDocumentRequest(f"{name} must be at least {least}, but got {name}={value}")
        if self.skipping is not None:
            self.skipping.check_fits(self.target_length)

    @property
    def tokens(self) -> int:
        """Of each document."""
        return self.target_length if self.skipping is None else self.skipping.tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class _Needle:
    """One needle in tokens. question ends with statement, and both with the value's tokens."""

    key: str
    value: str
    depth: float  # asked for, before snapping
    statement: list[int]
    question: list[int]
    value_tokens: int


class DocumentFactory:
    """Documents for one tokenizer from one corpus. Each split is tokenised once, on first use.

    Raises UnsupportedTokenizer when the tokenizer cannot write the needles.
    """

    def __init__(self, tokenizer: Tokenizer, corpus: Corpus) -> None:
        check_tokenizer(tokenizer)
        self._tokenizer = tokenizer
        self._corpus = corpus
        self._haystacks: dict[Split, Haystack] = {}
        self._stop = tokenizer.encode(_STOP)
        self._bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        # Some tokenizers (SentencePiece, regexes that glue punctuation to line ends) can never give back pieces that
        # were encoded apart; looking for a cut that does would be in vain.
        self._pieces_come_back = self._comes_back(self._needle("key", "1234567", 0.0).question)

    @property
    def tokenizer(self) -> Tokenizer:
        """What documents are written with."""
        return self._tokenizer

    @property
    def is_quick(self) -> bool:
        """Whether the first document of a split takes no more than about a second: a long corpus must be divided and
        tokenised before, which is done once."""
        return self._corpus.is_short or len(self._haystacks) > 1

    def build(self, request: DocumentRequest) -> tuple[NeedleDocument, ...]:
        """The first `count` documents; a larger count begins with the same ones.

        Raises CorpusTooShort, InvalidDocumentRequest (needles that do not fit), KeyNotSingleValued (the corpus itself
        holds a needle about one of the keys).
        """
        return tuple(self.document(request, index) for index in range(request.count))

    def document(self, request: DocumentRequest, index: int) -> NeedleDocument:
        """Document `index` >= 0 of the sequence; does not depend on request.count. Raises as `build` does."""
        if index < 0:
            raise InvalidDocumentRequest(f"index must be at least 0, but got index={index}")
        needles = self._needles(request, index)
        length = self._haystack_length(request, needles)
        haystack = self._haystack(request.split, length)
        where = _sequence(request, index, _SILVER)
        cuts = haystack.cuts(length=length, where=where)[: _MAX_CUTS_TRIED if self._pieces_come_back else 1]
        # Where text and tokens agree both ways, readers of the text see what the model sees. Not every cut has it.
        bodies = (self._body(haystack, start, length, needles) for start in cuts)
        chosen = next((body for body in bodies if self._comes_back(list(body.tokens[len(self._bos) :]))), None)
        return self._finish(request, index, needles, chosen or self._body(haystack, cuts[0], length, needles))

    def _needles(self, request: DocumentRequest, index: int) -> list[_Needle]:
        words = keys_of(request.split)
        if request.needles > len(words):
            raise InvalidDocumentRequest(f"needles must be at most {len(words)}, but got needles={request.needles}")
        rng = _random(request, _NEEDLES, index)
        keys = rng.choice(len(words), size=request.needles, replace=False).tolist()
        values = rng.integers(10 ** (VALUE_DIGITS - 1), 10**VALUE_DIGITS, size=request.needles).tolist()
        # The first asked follows the golden sequence; the others are spread evenly around it.
        depth = _sequence(request, index, _GOLDEN)
        return [
            self._needle(words[key], str(value), (depth + order / request.needles) % 1.0)
            for order, (key, value) in enumerate(zip(keys, values, strict=True))
        ]

    def _needle(self, key: str, value: str, depth: float) -> _Needle:
        text = STATEMENT.format(key=key, value=value)
        statement = self._tokenizer.encode(text)
        if stated_values(self._tokenizer.decode(statement), key) != (value,):
            raise UnsupportedTokenizer(f"the tokenizer must encode and decode {text!r} without loss, but does not")
        question = self._tokenizer.encode(QUESTION_HEAD.format(key=key)) + statement
        value_tokens = self._value_tokens(text.removesuffix(value), statement, value)
        return _Needle(
            key=key, value=value, depth=depth, statement=statement, question=question, value_tokens=value_tokens
        )

    def _value_tokens(self, before: str, statement: list[int], value: str) -> int:
        """How many tokens end a statement as its value; with the space before it where a tokenizer joins them."""
        for head in (before, before.rstrip(" ")):
            ids = self._tokenizer.encode(head)
            if statement[: len(ids)] == ids and self._tokenizer.decode(statement[len(ids) :]).strip() == value:
                return len(statement) - len(ids)
        raise UnsupportedTokenizer(
            f"the tokenizer must keep the number apart from the words before it, but joins them in {before + value!r}"
        )

    def _haystack_length(self, request: DocumentRequest, needles: list[_Needle]) -> int:
        around = sum(len(needle.statement) + len(self._stop) + len(needle.question) for needle in needles)
        length = request.tokens - len(self._bos) - around
        if length < MIN_HAYSTACK_TOKENS:
            name = request.length_field if request.skipping is None else "skipped tokens"
            raise InvalidDocumentRequest(
                f"{name} must leave at least {MIN_HAYSTACK_TOKENS} tokens beside the needles and questions, "
                f"but got {name}={request.tokens}, needles={request.needles}, which leave {length}"
            )
        return length

    def _haystack(self, split: Split, length: int) -> Haystack:
        if split not in self._haystacks:
            self._haystacks[split] = Haystack.of(self._tokenizer, self._corpus.split_text(split))
        haystack = self._haystacks[split]
        if len(haystack) < length:
            raise CorpusTooShort(
                f"the {split} split of the corpus must have at least the {length} tokens of one haystack, "
                f"but {self._corpus.name!r} has {len(haystack)}{self._corpus.remedy(split)}"
            )
        return haystack

    def _body(self, haystack: Haystack, start: int, length: int, needles: list[_Needle]) -> Body:
        """BOS, haystack with its needles, then the questions."""
        reach = min(_MAX_SNAP_TOKENS, max(length // 16, 2))
        at = [
            haystack.opening(start=start, length=length, position=round(needle.depth * length), reach=reach)
            for needle in needles
        ]
        tokens = haystack.ids[start : start + length].tolist()
        body, copied, spans = list(self._bos), 0, [(0, 0)] * len(needles)
        for position, order in sorted(zip(at, range(len(needles)), strict=True), key=lambda placed: placed[0]):
            body += tokens[copied:position]
            statement = needles[order].statement + self._stop
            spans[order] = (len(body), len(body) + len(statement))
            body += statement
            copied = position
        body += tokens[copied:]
        questions = len(body)
        for needle in needles:
            body += needle.question
        depths = tuple(position / length for position in at)
        return Body(tokens=tuple(body), depths=depths, statements=tuple(spans), questions=questions)

    def _comes_back(self, body: list[int]) -> bool:
        return self._tokenizer.encode(self._tokenizer.decode(body)) == body

    def _finish(self, request: DocumentRequest, index: int, needles: list[_Needle], body: Body) -> NeedleDocument:
        spans: list[tuple[int, int]] = []
        end = len(body.tokens)
        for needle in reversed(needles):
            spans.append((end - needle.value_tokens, end))
            end -= len(needle.question)
        identity = DocumentId(
            split=request.split,
            seed=request.seed,
            target_length=request.target_length,
            index=index,
            skipping=request.skipping,
        )
        jumps = body.jumps(request.skipping, request.target_length, _random(request, _GAPS, index))
        depths = body.depths_over(jumps)
        return NeedleDocument(
            id=str(identity),
            text=self._tokenizer.decode(body.tokens),
            token_ids=body.tokens,
            jumps=jumps,
            answer_spans=tuple(reversed(spans)),
            depth=depths[0],
            depths=depths,
            keys=tuple(needle.key for needle in needles),
            values=tuple(needle.value for needle in needles),
            split=request.split,
        )


def planned_depth(document_id: str) -> float:
    """The depth in [0, 1) that was asked for the document's first needle; needs neither tokenizer nor corpus.

    The needle itself begins with a line or a word near by, at most `_MAX_SNAP_TOKENS` tokens away.
    Raises InvalidDocumentRequest when it is not a document's id.
    """
    identity = DocumentId.parse(document_id)
    request = DocumentRequest(
        target_length=identity.target_length,
        count=1,
        seed=identity.seed,
        split=identity.split,
        skipping=identity.skipping,
    )
    return _sequence(request, identity.index, _GOLDEN)


def _sequence(request: DocumentRequest, index: int, step: float) -> float:
    """Term `index` of the additive recurrence with `step`, in [0, 1); its offset comes from seed and split."""
    golden_offset, silver_offset = _random(request, _OFFSETS, 0).random(2).tolist()
    offset = golden_offset if step == _GOLDEN else silver_offset
    return float((offset + index * step) % 1.0)


def _random(request: DocumentRequest, purpose: int, index: int) -> np.random.Generator:
    # The seed comes last: it alone may take more than one 32-bit word, so no two streams can share an entropy.
    # The target length is left out: documents of one index ask the same question at every length.
    return np.random.default_rng(np.random.SeedSequence([purpose, SPLITS.index(request.split), index, request.seed]))
