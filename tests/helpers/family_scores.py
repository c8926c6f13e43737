"""One family scored twice: by our scorer, and by plain transformers from a directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

from evaluation.architecture.config import load_config
from evaluation.architecture.skeleton import auto_class
from evaluation.architecture.verifying import check_loads
from evaluation.documents.corpus import load_corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.documents.needle import NeedleDocument
from evaluation.models.source import ModelSource, load_tokenizer, resolve_model
from ropewalk.factors.exports.hf import switch_length
from ropewalk.factors.factor_file import FactorFile
from ropewalk.found import Factors
from ropewalk.rope.scaling import Scaling
from tests.helpers.families import Family, family_factors, save_family
from workers.base import ScorerSettings
from workers.transformers_backend.scorer import TransformersScorer

_SHORT = 160  # tokens of a document within L, where L allows


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyScores:
    """Nats per answer token. The exported ones are None where no config can hold the family's factors."""

    export_refusal: str | None
    none: float
    published: float
    unscaled_past: float
    """At L', without factors."""
    found: float
    exported: float | None
    scaled_within: float
    """Within L, the attention factor alone."""
    exported_within: float | None
    applied: float
    """At L', by plain transformers with the factors in the loaded model."""
    applied_within: float


def score_family(one: Family, directory: Path) -> FamilyScores:
    """Everything that the tests of a family compare."""
    source = save_family(one, directory)
    file = family_factors(one, source)
    short, long = _document(_within(source, file)), _document(file.target_length)
    identity = Scaling.identity(source.rope.num_pairs)
    scaled = Scaling(identity.factors, file.scaling.attention_factor)
    asked = [(identity, short), (identity, long), (file.scaling, long), (scaled, short)]
    none, unscaled_past, found, scaled_within = _ours(source, file, asked)
    plain = _load(directory, one.config)
    published = _nll(plain, short)
    with Factors(file).apply(plain):
        applied, applied_within = _nll(plain, long), _nll(plain, short)
    exported: list[float | None] = [None, None]
    if source.rope.place.hf_refusal is None:
        check_loads(one.config, file)
        exported[:] = _exported(directory, Factors(file).config_for(one.config), [long, short])
    return FamilyScores(
        export_refusal=source.rope.place.hf_refusal,
        none=none,
        published=published,
        unscaled_past=unscaled_past,
        found=found,
        exported=exported[0],
        scaled_within=scaled_within,
        exported_within=exported[1],
        applied=applied,
        applied_within=applied_within,
    )


def _within(source: ModelSource, file: FactorFile) -> int:
    """Tokens within L, where the published model rotates as it does at L and an exported one by its short factors."""
    length = min(_SHORT, source.rope.original_max_position_embeddings, switch_length(file))
    assert length > (source.rope.place.own_switch or 0)
    return length


@cache
def _document(length: int) -> NeedleDocument:
    """With the pocket model's tokenizer, which every family has here."""
    factory = DocumentFactory(load_tokenizer(resolve_model("pocket")), load_corpus(None))
    return factory.build(DocumentRequest(target_length=length, count=1, seed=0, split="validation"))[0]


def _ours(source: ModelSource, file: FactorFile, asked: list[tuple[Scaling, NeedleDocument]]) -> list[float]:
    settings = ScorerSettings(
        model=source.name,
        target_length=file.target_length,
        original_length=source.rope.original_max_position_embeddings,
        rope=source.rope,
        dtype="float32",
        threads=1,
    )
    scorer = TransformersScorer(settings)
    scores = [scorer.score(scaling, [document])[0] for scaling, document in asked]
    scorer.close()
    return [score.nats / score.tokens for score in scores]


def _exported(directory: Path, config: Mapping[str, object], documents: list[NeedleDocument]) -> list[float]:
    """From a directory that anyone could load: with the model's classes, and nothing of ours."""
    (directory / "config.json").write_text(json.dumps(config))
    # Loaded anew for each: where layer types have ropes of their own, transformers 5.19 fails after a long pass.
    return [_nll(_load(directory, None), document) for document in documents]


def _load(directory: Path, config: Mapping[str, object] | None) -> Any:
    """By transformers; `config` instead of the directory's own for what only :func:`load_config` can read.

    With the attention that the model's own code has: what transformers takes by itself leaves out caps of logits.
    """
    read = transformers.AutoConfig.from_pretrained(directory) if config is None else load_config(config)
    model: Any = auto_class(read).from_pretrained(
        directory, config=read, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


@torch.no_grad()
def _nll(model: Any, document: NeedleDocument) -> float:
    """Nats per answer token."""
    ids = torch.tensor([document.token_ids])
    logs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].double(), dim=-1)
    places = [place for span in document.answer_spans for place in range(*span)]
    return -sum(logs[place - 1, ids[0, place]].item() for place in places) / len(places)
