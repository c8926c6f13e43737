"""What a plan says of the text that held-out documents are cut from."""

from __future__ import annotations

from collections.abc import Iterator

from evaluation.errors import EvaluationError
from service.searches.model import prepare_model
from service.specs.search import SearchSpec

_HELD_OUT = 0.4
"""Of a corpus: its validation split."""


def text_notes(spec: SearchSpec) -> Iterator[str]:
    """How many held-out documents can be cut that share nothing, where that is fewer than there are to be.

    Nothing of a corpus that cannot be read: the submission refuses it.
    """
    spec = spec.with_corpus()
    try:
        model = prepare_model(
            spec.model, corpus=spec.objective.corpus, original_length=spec.original_length, weights=False
        )
        apart = _HELD_OUT * model.corpus_tokens() / spec.target_length
    except EvaluationError:
        return
    wanted = spec.objective.validation_documents
    if apart < wanted:
        yield (
            f"corpus {model.corpus.name} holds about {apart:.3g} held-out documents of {spec.target_length} tokens "
            f"that share no text, so that {wanted} share some; the result says how much, and its interval is widened "
            "where their scores show it or too few share nothing: a longer corpus helps"
        )
