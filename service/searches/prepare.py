"""From a spec to everything a run needs; what the user's spec got wrong is refused here, before a job exists."""

import dataclasses
import functools
from dataclasses import dataclass
from importlib.util import find_spec

from evaluation.documents.corpus import Corpus, load_corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest, check_lengths
from evaluation.documents.needle import NeedleDocument, Split
from evaluation.documents.skipping import Skipping
from evaluation.errors import EvaluationError, InvalidDocumentRequest
from evaluation.models.source import ModelSource, load_tokenizer, model_sha256, resolve_model
from evaluation.models.warnings import model_warnings
from evaluation.models.windows import check_reach
from finetune.config import FinetuneSettings
from finetune.errors import FinetuneError, InvalidFinetuneSettings
from finetune.mix import check_long_text, demands, estimated_sizes
from finetune.recipes import settings_of
from finetune.rows import check_rows, skippings
from ropewalk.errors import InvalidOriginalLength, RopewalkError
from ropewalk.factors.factor_file import ModelIdentity
from ropewalk.rope.config import RopeConfig
from search_space.candidates.cost import PassCost
from search_space.candidates.start import Start
from search_space.candidates.step import Budget
from search_space.strategies.base import Strategy, StrategyContext
from search_space.strategies.registry import STRATEGIES, make_strategy
from service.errors import InvalidSpec
from service.specs.finetune import FinetuneOptions
from service.specs.search import ScorerSpec, SearchSpec
from workers.base import ScorerSettings
from workers.errors import WorkersError
from workers.factory import check_model_fits, check_places_positions, check_scorer

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


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedSearch:
    """A search ready to run: the same spec prepares to the same search on every machine with the same files."""

    spec: SearchSpec
    model: PreparedModel
    strategy: Strategy
    cost: PassCost
    """Of passes over search documents."""

    @property
    def skipping(self) -> Skipping | None:
        """How search documents skip positions; None for full ones."""
        return skipping_of(self.spec, self.model.rope)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user must know of the model."""
        return model_warnings(self.model.source, self.spec.target_length)

    @property
    def num_baselines(self) -> int:
        """Analytic baselines that generation 0 is seeded with."""
        first = self.strategy.propose(0, ())
        return len(first.candidates) - len(first.bred)

    def documents(self, split: Split) -> tuple[NeedleDocument, ...]:
        """The documents that candidates (split "search") or finalists (split "validation") are scored on."""
        objective, skipping = self.spec.objective, self.skipping
        if split == "validation":
            return self._of(split, objective.validation_documents, None)
        if skipping is None or not takes_two_kinds(self.spec):
            return self._of(split, self.strategy.max_documents, skipping)
        full = objective.documents
        skipped = self._of(split, max(self.strategy.max_documents - full, 1), skipping)
        return (*self._of(split, full, None), *skipped)

    def _of(self, split: Split, count: int, skipping: Skipping | None) -> tuple[NeedleDocument, ...]:
        return self.model.documents(
            split=split,
            skipping=skipping,
            length=self.spec.target_length,
            count=count,
            needles=self.spec.objective.needles_per_document,
            seed=self.spec.seed,
        )

    def scorer_settings(self) -> ScorerSettings:
        """What the workers load."""
        settings = scorer_settings(self.spec.scorer, self.model.worker_name, self.model.rope, self.spec.target_length)
        return dataclasses.replace(settings, gradients=self.strategy.needs_gradients)


def prepare_search(spec: SearchSpec, *, weights: bool = True, starts: tuple[Start, ...] = ()) -> PreparedSearch:
    """Resolve the model, the corpus and the strategy, and build one document of each split. `starts`: the shapes of the
    search that the spec begins with.

    With weights=False the small files of a model on the hub are enough, which is all that a check needs; and no
    document is built of a long corpus that was not divided before and holds enough text by far.

    Raises:
        InvalidSpec: a field breaks a rule that needs the model to be known; names the field.
        EvaluationError, RopewalkError, WorkersError: the room that refused says why.
    """
    model = _model_of(spec, weights=weights)
    _check_starts(spec, model.rope, starts)
    strategy, cost = strategy_of(spec, model.rope, starts)
    skipping = skipping_of(spec, model.rope)
    check_scorer(
        spec.scorer.backend,
        tensor_parallel=spec.scorer.tensor_parallel,
        dtype=spec.scorer.dtype,
        gradients=strategy.needs_gradients,
    )
    check_model_fits(model.source.path, scorer_settings(spec.scorer, model.worker_name, model.rope, spec.target_length))
    if spec.finetune is not None:
        check_training_data(
            model.source,
            finetune_settings(spec.finetune, model.source, spec.target_length),
            original_length=model.rope.original_max_position_embeddings,
            target_length=spec.target_length,
            quickly=not weights,
        )
    if skipping is not None:
        check_places_positions(spec.scorer.backend, gradients=strategy.needs_gradients)
    if not weights and not model.is_quick and model.surely_holds(spec.target_length):
        return PreparedSearch(spec=spec, model=model, strategy=strategy, cost=cost)
    for split in ("search", "validation"):
        model.documents(
            split=split,
            skipping=skipping if split == "search" else None,
            length=spec.target_length,
            count=1,
            needles=spec.objective.needles_per_document,
            seed=spec.seed,
        )
    return PreparedSearch(spec=spec, model=model, strategy=strategy, cost=cost)


def _check_starts(spec: SearchSpec, rope: RopeConfig, starts: tuple[Start, ...]) -> None:
    """Return when the search can begin with these shapes."""
    if spec.start_from is None:
        return
    if not starts:
        rule = f"start_from is for searches on the server that has {spec.start_from}"
    elif not getattr(STRATEGIES.find(spec.strategy.name).load(), "takes_starts", False):
        rule = f"start_from is for strategies that take starts, such as auto, but got strategy {spec.strategy.name}"
    elif (pairs := len(starts[0].scaling.factors)) != rope.num_pairs:
        rule = f"start_from must name a search over {rope.num_pairs} pairs, as this model has, but it has {pairs}"
    else:
        return
    raise InvalidSpec(rule, pointer="/start_from")


def strategy_of(spec: SearchSpec, rope: RopeConfig, starts: tuple[Start, ...] = ()) -> tuple[Strategy, PassCost]:
    """How candidates are bred, and what passes over search documents cost.

    Raises:
        InvalidSpec: L' is not above L, or documents cannot skip as the spec says.
        InvalidStrategy: what the strategy refuses.
    """
    length = rope.original_max_position_embeddings
    if spec.target_length <= length:
        raise InvalidSpec(
            "target_length must be greater than the model's original length, but got "
            f"target_length={spec.target_length}, original_length={length}",
            pointer="/target_length",
        )
    searched = spec.scorer.attention_factor == "search"
    skipping = skipping_of(spec, rope)
    context = StrategyContext(
        rope=rope,
        target_length=spec.target_length,
        seed=spec.seed,
        attention_factor=None if searched else float(spec.scorer.attention_factor),
        documents=spec.objective.documents,
        skipped_documents=spec.objective.skipped.documents if spec.objective.skipped and takes_two_kinds(spec) else 0,
        budget=Budget(
            max_candidates=spec.budget.max_trials,
            max_document_passes=spec.budget.max_document_passes,
            max_tokens=spec.budget.max_tokens,
            patience=spec.budget.patience,
        ),
        skipped=_pass_cost(spec, skipping),
        starts=starts,
    )
    return make_strategy(spec.strategy.name, spec.strategy.arguments(), context), context.cost


def _model_of(spec: SearchSpec, *, weights: bool) -> PreparedModel:
    try:
        return prepare_model(
            spec.model,
            corpus=spec.objective.corpus,
            original_length=spec.original_length,
            target_length=spec.target_length,
            weights=weights,
        )
    except InvalidOriginalLength as error:
        raise InvalidSpec(str(error), pointer="/original_length") from error


def takes_two_kinds(spec: SearchSpec) -> bool:
    """Whether survivors of the skipped documents go on to full ones within the search.

    Raises:
        InvalidSpec: they shall, and the strategy scores candidates on one kind of document.
    """
    skipped = spec.objective.skipped
    if skipped is None or skipped.alone:
        return False
    able = bool(getattr(STRATEGIES.find(spec.strategy.name).load(), "takes_two_kinds", False))
    if skipped.alone is False and not able:
        raise InvalidSpec(
            f"skipped.alone must be true with strategy {spec.strategy.name}, which scores candidates on one kind of "
            "document, but got alone=false",
            pointer="/objective/skipped/alone",
        )
    return able


def _pass_cost(spec: SearchSpec, skipping: Skipping | None) -> PassCost | None:
    if skipping is None:
        return None
    full = spec.objective.documents if takes_two_kinds(spec) else 0
    return PassCost(each=skipping.tokens, longer=full, longer_each=spec.target_length)


def skipping_of(spec: SearchSpec, rope: RopeConfig) -> Skipping | None:
    """How the search documents of a spec skip positions; None for full ones.

    Raises:
        InvalidSpec: they cannot at this target length.
    """
    if spec.objective.skipped is None:
        return None
    try:
        skipping = spec.objective.skipped.skipping(rope.original_max_position_embeddings)
        skipping.check_fits(spec.target_length)
    except InvalidDocumentRequest as error:
        raise InvalidSpec(str(error), pointer="/objective/skipped") from error
    return skipping


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
        factory=_factory(source, loaded),
    )


@functools.lru_cache(maxsize=4)
def _factory(source: ModelSource, corpus: Corpus) -> DocumentFactory:
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


def finetune_settings(spec: FinetuneOptions, source: ModelSource, target_length: int) -> FinetuneSettings:
    """The recipe with what the user set.

    Raises:
        InvalidFinetuneSettings: a value breaks a rule of the recipe, or needs a library that is not here.
    """
    given = spec.model_dump(exclude_none=True, exclude={"recipe"})
    settings = settings_of(given, spec.recipe, source, target_length=target_length)
    if settings.lora_rank and find_spec("peft") is None:
        raise InvalidFinetuneSettings(
            f"adapters need the library peft (extra lora), but got lora_rank={settings.lora_rank} without it"
        )
    return settings


def check_training_data(
    source: ModelSource,
    settings: FinetuneSettings,
    *,
    original_length: int,
    target_length: int,
    quickly: bool = False,
) -> None:
    """Build one training document of a kind and count the text, so that rows that fit nothing and a corpus that is
    missing or too short for the mix are told before the job exists. `quickly`: of a long corpus, which takes a while to
    be divided and counted, only that it can be read.

    Raises:
        InvalidFinetuneSettings: rows or gaps that do not fit the lengths.
        EvaluationError: what is wrong with the corpus.
    """
    check_rows(settings, original_length=original_length, target_length=target_length)
    corpus = load_corpus(settings.corpus)
    if quickly and not corpus.is_short:
        return
    if settings.needle_fraction > 0:
        for skipping in skippings(settings, original_length=original_length):
            _factory(source, corpus).build(
                DocumentRequest(
                    target_length=settings.skipped_reach or target_length if skipping else target_length,
                    count=1,
                    seed=settings.seed,
                    split="train",
                    needles=settings.needles_per_document,
                    skipping=skipping,
                )
            )
    check_long_text(
        demands(settings, original_length=original_length, target_length=target_length),
        estimated_sizes(load_tokenizer(source), corpus, settings.corpus),
        corpus=corpus.name,
        repeats=settings.text_repeats,
    )


#: What a run may raise because of the user's spec or files, as opposed to infrastructure.
USER_ERRORS = (InvalidSpec, RopewalkError, EvaluationError, WorkersError, FinetuneError)
