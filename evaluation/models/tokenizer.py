"""The tokenizer as this project needs it, and the Hugging Face tokenizer behind it."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from evaluation.errors import UnsupportedTokenizer

DIGITS = "0123456789"


class Tokenizer(Protocol):
    """Text to token ids and back. Pure: the same call always gives the same answer."""

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; no special token is added, and none is read out of the text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special and unknown tokens spelled out, spaces untouched."""

    @property
    def bos_token_id(self) -> int | None:
        """The token that the model expects before a document; None when its tokenizer puts none there."""

    @property
    def fingerprint(self) -> str:
        """sha256 of everything that decides `encode`."""


def check_tokenizer(tokenizer: Tokenizer) -> None:
    """Raise UnsupportedTokenizer unless the ten digits come back from encode and decode unchanged."""
    written = tokenizer.decode(tokenizer.encode(DIGITS))
    # SentencePiece tokenizers put a space before the first word; an unknown token is spelled out by decode and differs.
    if written.strip() != DIGITS:
        raise UnsupportedTokenizer(
            f"the tokenizer must encode and decode the digits {DIGITS} without loss, but gave {written[:80]!r}"
        )


class _Backend(Protocol):
    def to_str(self) -> str: ...


class _HuggingFaceTokenizer(Protocol):
    """The part of transformers' PreTrainedTokenizerBase that is used here."""

    bos_token_id: int | None

    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool, verbose: bool
    ) -> dict[str, list[int]]: ...

    def decode(self, ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str: ...

    def get_vocab(self) -> dict[str, int]: ...


class HFTokenizer:
    """Tokenizer over a transformers tokenizer, fast or slow. Thread-safe, which that one is not: a call's options are
    written into the shared Rust object before it encodes, and two calls at once fail or read each other's."""

    def __init__(self, tokenizer: object) -> None:
        self._tokenizer = cast(_HuggingFaceTokenizer, tokenizer)
        self._lock = threading.Lock()

    def encode(self, text: str) -> list[int]:
        # split_special_tokens: a haystack that mentions "</s>" must not end the document.
        # verbose=False: documents are meant to be longer than model_max_length.
        with self._lock:
            encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return list(encoded["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        with self._lock:
            return self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    @functools.cached_property
    def bos_token_id(self) -> int | None:
        # Many tokenizers name a BOS token that they never write (GPT-2's does): ask what it does, not what it names.
        bos = self._tokenizer.bos_token_id
        with self._lock:
            encoded = self._tokenizer("a", add_special_tokens=True, split_special_tokens=False, verbose=False)
        return bos if bos is not None and encoded["input_ids"][:1] == [bos] else None

    @functools.cached_property
    def fingerprint(self) -> str:
        if (reading := self.reading()) is not None:
            return reading.fingerprint
        described = {"class": type(self._tokenizer).__name__, "vocab": self._tokenizer.get_vocab()}
        return _fingerprint(self.bos_token_id, described)

    def reading(self) -> TokenizerReading | None:
        """What `BackendTokenizer` does the same with; None for a slow tokenizer, which is Python code."""
        backend = cast("_Backend | None", getattr(self._tokenizer, "backend_tokenizer", None))
        if backend is None:
            return None
        described = json.loads(backend.to_str())
        described.update(truncation=None, padding=None)  # call state, not identity
        return TokenizerReading(
            backend=json.dumps(described),
            bos_token_id=self.bos_token_id,
            fingerprint=_fingerprint(self.bos_token_id, described),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerReading:
    """A fast tokenizer as transformers makes it of a model's files. backend: JSON, for the library tokenizers."""

    backend: str
    bos_token_id: int | None
    fingerprint: str


class BackendTokenizer:
    """Tokenizer over the library tokenizers alone, which is there in no time. Thread-safe."""

    def __init__(self, reading: TokenizerReading) -> None:
        from tokenizers import Tokenizer as Backend

        self._reading = reading
        self._backend = Backend.from_str(reading.backend)
        self._backend.encode_special_tokens = True  # a haystack that mentions "</s>" must not end the document

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._backend.decode(list(ids), skip_special_tokens=False)
        return text

    @property
    def bos_token_id(self) -> int | None:
        return self._reading.bos_token_id

    @property
    def fingerprint(self) -> str:
        return self._reading.fingerprint


def _fingerprint(bos_token_id: int | None, described: object) -> str:
    whole = {"bos": bos_token_id, "tokenizer": described}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
