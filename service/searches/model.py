"""A model and a corpus, as a spec names them, and the documents that are cut from it."""

import functools
from dataclasses import dataclass

from evaluation.documents.corpus import Corpus, load_corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest, check_lengths
from evaluation.documents.needle import NeedleDocument, Split
from evaluation.documents.skipping import Skipping
from evaluation.models.source import ModelSource, load_tokenizer, model_sha256, resolve_model
from evaluation.models.windows import check_reach
from ropewalk.factors.factor_file import ModelIdentity
from ropewalk.rope.config import RopeConfig
from service.specs.search import ScorerSpec
from workers.base import ScorerSettings

_SAMPLE_CHARACTERS = 20_000
_SURE_SHARE = 0.2
"""Of a corpus that each compared split has at least; 0.4 of one without repeats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedModel:
    """A model on disk and the corpus that its documents are cut from."""

    source: ModelSource
    rope: RopeConfig
    corpus: Corpus
    factory: DocumentFactory
    has_weights: bool = True
    """Whether they are in files, by which a factor file knows them."""

    @property
    def worker_name(self) -> str:
        """What workers load: these very files, wherever the worker is."""
        return self.source.reference

    def identity(self) -> ModelIdentity:
        """How factor files name this model."""
        return ModelIdentity.of(
            self.rope,
            name=self.source.name,
            revision=self.source.revision,
            sha256=model_sha256(self.source) if self.has_weights else None,
            served_length=self.source.served_length,
        )

    @property
    def is_quick(self) -> bool:
        """Whether documents can be built while a client waits for an answer."""
        return self.factory.is_quick

    def surely_holds(self, tokens: int) -> bool:
        """Whether a split of the corpus has so many tokens, by its characters and a sample of it; a corpus that mostly
        repeats itself may have fewer."""
        return _SURE_SHARE * self.corpus_tokens() >= tokens

    def corpus_tokens(self) -> int:
        """About how many tokens the corpus has, by a sample of it."""
        text, middle = self.corpus.text, len(self.corpus.text) // 2
        sample = text[middle : middle + _SAMPLE_CHARACTERS]
        return round(len(text) / len(sample) * len(self.factory.tokenizer.encode(sample)))

    def documents(
        self,
        *,
        split: Split,
        length: int,
        count: int,
        needles: int,
        seed: int,
        skipping: Skipping | None = None,
        length_field: str = "target_length",
    ) -> tuple[NeedleDocument, ...]:
        """`count` needle documents that reach over `length` tokens, a spec's `length_field`."""
        request = DocumentRequest(
            target_length=length,
            count=count,
            seed=seed,
            split=split,
            needles=needles,
            skipping=skipping,
            length_field=length_field,
        )
        return self.factory.build(request)


def prepare_model(
    name: str,
    *,
    corpus: str | None,
    original_length: int | None = None,
    target_length: int | None = None,
    weights: bool = True,
) -> PreparedModel:
    """Find a model's files, its RoPE and its tokenizer, and load the corpus."""
    source = resolve_model(name, original_length=original_length, weights=weights)
    rope = source.rope
    if target_length is not None:
        check_lengths(rope.original_max_position_embeddings, target_length)
        check_reach(source, target_length)
    return PreparedModel(
        source=source,
        rope=rope,
        corpus=(loaded := load_corpus(corpus)),
        factory=document_factory(source, loaded),
    )


@functools.lru_cache(maxsize=4)
def document_factory(source: ModelSource, corpus: Corpus) -> DocumentFactory:
    """What builds documents of the corpus, as this model reads it."""
    # Tokenising a corpus takes seconds, and the door and the controller ask for the same one again.
    return DocumentFactory(load_tokenizer(source), corpus)


def scorer_settings(spec: ScorerSpec, model: str, rope: RopeConfig, target_length: int) -> ScorerSettings:
    """What a scoring worker loads for this model and these lengths."""
    return ScorerSettings(
        model=model,
        backend=spec.backend,
        dtype=spec.dtype,
        target_length=target_length,
        original_length=rope.original_max_position_embeddings,
        rope=rope,
        tensor_parallel=spec.tensor_parallel,
    )
