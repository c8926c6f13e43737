"""The name of a score by its content: equal keys, equal scores, whichever search asks.

A document score is a pure function of the scorer (its model, software and arithmetic), the document's tokens and
answers, the factors and the attention factor. The key is a sha256 over exactly these. A document's id, text, depth and
needles are not in it: no forward pass reads them. Nor is the rotary embedding under the factors (rope_theta, rotary
width): the scorer's fingerprint covers the model's whole config. The lengths that a search is about (original, target)
decide nothing but how long a document may be.

A search asks for thousands of keys over a few long documents, so documents and candidates are hashed once each, and a
key is made of their digests in a microsecond.
"""

from __future__ import annotations

import hashlib

import numpy as np

from evaluation.documents.needle import NeedleDocument
from evaluation.errors import InvalidScores
from ropewalk.rope.scaling import Scaling

KEY_BYTES = 32
_VERSION = b"ropewalk.score/1"  # another encoding gets another version: old keys then never meet new ones


def score_key(*, model_sha256: str, scorer: str, document: bytes, candidate: bytes) -> bytes:
    """The key of one score, KEY_BYTES long: `scorer` is the fingerprint of what scores, `document` and `candidate` are
    digests, which many keys share.

    Raises:
        InvalidScores: `model_sha256` or `scorer` is empty: a score of unknown origin has no key.
    """
    if not model_sha256 or not scorer:
        raise InvalidScores(
            "a score key needs the model's sha256 and the scorer's fingerprint, "
            f"but got model_sha256={model_sha256!r}, scorer={scorer!r}"
        )
    return _sha256(_VERSION, model_sha256.encode(), scorer.encode(), document, candidate)


def document_digest(document: NeedleDocument) -> bytes:
    """sha256 of what a forward pass reads of the document: its token ids, where the answers are, and its jumps."""
    jumps = [_integers(document.jumps)] if document.jumps else []  # full documents have the digests they always had
    return _sha256(b"document", _integers(document.token_ids), _integers(document.answer_spans), *jumps)


def candidate_digest(scaling: Scaling) -> bytes:
    """sha256 of the factors and the attention factor, every bit of them."""
    return _sha256(b"candidate", _floats(scaling.factors.values), _floats(scaling.attention_factor))


def _sha256(*fields: bytes) -> bytes:
    """sha256 over the fields, each behind its length: no two sequences of fields are written alike."""
    digest = hashlib.sha256()
    for field in fields:
        digest.update(len(field).to_bytes(8, "little"))
        digest.update(field)
    return digest.digest()


def _integers(values: tuple[int, ...] | tuple[tuple[int, int], ...]) -> bytes:
    return np.array(values, dtype="<i8").tobytes()


def _floats(values: tuple[float, ...] | float) -> bytes:
    return np.array(values, dtype="<f8").tobytes()
