"""A search of a model that the caller's program has loaded: what it needs of files is written for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import InvalidSpec
from service.searches.prepare import PreparedSearch, prepare_search
from service.specs.search import SearchSpec
from workers.base import Scorer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BACKEND = "transformers"


Loaded = tuple[object, object]
"""A model and its tokenizer, of transformers; nobody has looked at them yet."""


@contextmanager
def prepared_with(spec: SearchSpec, loaded: Loaded) -> Iterator[tuple[PreparedSearch, Scorer]]:
    """The search that `spec` asks for, and a scorer that uses the model in place and leaves it as it was.

    `spec.model` is the name that the factor file gets; nothing is looked for under it.

    Raises:
        InvalidSpec: no model or no tokenizer of transformers, or the spec asks for what this model is not.
        FactorsDoNotFit, WorkersError: as :func:`workers.transformers_backend.loaded.check_loaded`.
        As :func:`prepare_search`.
    """
    from workers.transformers_backend.loaded import LoadedScorer, check_loaded  # torch takes seconds

    known, words = _of_transformers(*loaded)
    check_loaded(known)
    with tempfile.TemporaryDirectory(prefix="ropewalk-model-") as directory:
        (Path(directory) / "config.json").write_text(known.config.to_json_string(), encoding="utf-8")
        words.save_pretrained(directory)
        prepared = _named(prepare_search(_scored_here(spec, known, directory)), spec.model)
        settings = replace(prepared.scorer_settings(), model=directory)
        with LoadedScorer(known, settings) as scorer:
            yield prepared, scorer


def _of_transformers(model: object, tokenizer: object) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    if not isinstance(model, PreTrainedModel):
        raise InvalidSpec(
            f"model must be a name, a directory or a loaded transformers model, but got {_class_of(model)}",
            pointer="/model",
        )
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        got = "none" if tokenizer is None else _class_of(tokenizer)
        raise InvalidSpec(
            f"a loaded model must come with its tokenizer, as transformers loads it: tokenizer=..., but got {got}",
            pointer="/model",
        )
    return model, tokenizer


def _class_of(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _scored_here(spec: SearchSpec, model: PreTrainedModel, directory: str) -> SearchSpec:
    """The spec for the files in `directory`, once it is known to ask for nothing that the model is not."""
    own = str(model.dtype).removeprefix("torch.")
    rules: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "backend": (spec.scorer.backend, ("auto", _BACKEND)),
        "dtype": (spec.scorer.dtype, ("auto", own)),
        "tensor_parallel": (spec.scorer.tensor_parallel, (1,)),
    }
    for name, (given, allowed) in rules.items():
        if given not in allowed:
            raise InvalidSpec(
                f"scorer.{name} must be {' or '.join(map(str, allowed))} with a loaded model, but got {given}",
                pointer=f"/scorer/{name}",
            )
    scorer = spec.scorer.model_copy(update={"backend": _BACKEND, "dtype": "auto"})
    return spec.model_copy(update={"model": directory, "scorer": scorer})


def _named(prepared: PreparedSearch, name: str) -> PreparedSearch:
    source = replace(prepared.model.source, name=name)
    return replace(prepared, model=replace(prepared.model, source=source, has_weights=False))
