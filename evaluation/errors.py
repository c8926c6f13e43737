"""What can go wrong while a score is prepared or taken. Every class carries a stable `code` for the API."""

from __future__ import annotations

from typing import ClassVar


class EvaluationError(Exception):
    """Base of everything that this room raises on purpose. `pointer`: the field of a spec that it is about."""

    code: ClassVar[str] = "EVALUATION_ERROR"

    def __init__(self, message: str, *, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class CorpusNotFound(EvaluationError, LookupError):
    """The corpus, or the column asked of it, does not exist."""

    code: ClassVar[str] = "CORPUS_NOT_FOUND"


class InvalidCorpus(EvaluationError, ValueError):
    """The corpus exists but cannot be read as text: wrong encoding, malformed rows, no text at all."""

    code: ClassVar[str] = "INVALID_CORPUS"


class CorpusTooShort(EvaluationError, ValueError):
    """A split of the corpus holds fewer tokens than one haystack needs."""

    code: ClassVar[str] = "CORPUS_TOO_SHORT"


class KeyNotSingleValued(EvaluationError, ValueError):
    """A document states more than one number for a key, so its question has no single answer."""

    code: ClassVar[str] = "KEY_NOT_SINGLE_VALUED"


class UnsupportedTokenizer(EvaluationError, ValueError):
    """The tokenizer cannot write the needles (no digits, unknown tokens) or cannot be loaded."""

    code: ClassVar[str] = "UNSUPPORTED_TOKENIZER"


class InvalidDocumentRequest(EvaluationError, ValueError):
    """The documents asked for cannot be built: lengths, counts, seeds, or too many needles for the length."""

    code: ClassVar[str] = "INVALID_DOCUMENT_REQUEST"


class InvalidScores(EvaluationError, ValueError):
    """Document scores that have no meaning, or that do not belong together."""

    code: ClassVar[str] = "INVALID_SCORES"


class ModelNotFound(EvaluationError, LookupError):
    """No model of that name on this machine, and none that could be downloaded."""

    code: ClassVar[str] = "MODEL_NOT_FOUND"


class UnsupportedModel(EvaluationError, ValueError):
    """A model directory that cannot be used: no readable config.json, or no weights."""

    code: ClassVar[str] = "UNSUPPORTED_MODEL"
