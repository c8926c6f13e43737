"""Which field of a spec an error is about, where the room that raised it knows no specs: by its code."""

from collections.abc import Mapping

from evaluation.errors import EvaluationError
from finetune.errors import FinetuneError
from search_space.errors import InvalidStrategy
from service.errors import InvalidSpec

_ANYWHERE = {
    "MODEL_NOT_FOUND": "/model",
    "UNSUPPORTED_MODEL": "/model",
    "UNSUPPORTED_TOKENIZER": "/model",
    "UNSUPPORTED_ROPE": "/model",
    "MODEL_NOT_TRAINABLE": "/model",
    "INVALID_ORIGINAL_LENGTH": "/original_length",
    "INVALID_TARGET_LENGTH": "/target_length",
    "FACTORS_DO_NOT_FIT": "/factors",
    "INVALID_STRATEGY": "/strategy",
    "INVALID_SCORER_SETTINGS": "/scorer",
    "SCORER_UNAVAILABLE": "/scorer",
}
_CORPUS = ("CORPUS_NOT_FOUND", "INVALID_CORPUS", "CORPUS_TOO_SHORT", "KEY_NOT_SINGLE_VALUED")
_FIELDS: Mapping[str, Mapping[str, str]] = {
    "searches": {**dict.fromkeys(_CORPUS, "/objective/corpus"), "INVALID_DOCUMENT_REQUEST": "/objective"},
    "evaluations": {**dict.fromkeys(_CORPUS, "/corpus"), "INVALID_DOCUMENT_REQUEST": "/lengths"},
    "finetunes": {
        **dict.fromkeys(_CORPUS, "/settings/corpus"),
        "INVALID_DOCUMENT_REQUEST": "/settings",
        "INVALID_FINETUNE_SETTINGS": "/settings",
        "NOT_ENOUGH_MEMORY": "/settings",
    },
}


def pointer_of(error: Exception, path: str) -> str:
    """The JSON pointer into the spec that was sent to `path`; empty for what is about no field of it."""
    if isinstance(error, InvalidSpec | EvaluationError | FinetuneError | InvalidStrategy) and error.pointer:
        return error.pointer
    collection = path.removeprefix("/v1/").partition("/")[0].partition(":")[0]
    if (fields := _FIELDS.get(collection)) is None:
        return ""
    code = getattr(error, "code", "")
    return fields.get(code, _ANYWHERE.get(code, ""))
