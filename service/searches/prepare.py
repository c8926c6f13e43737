"""From a spec to everything a run needs; what the user's spec got wrong is refused here, before a job exists."""

import dataclasses
from dataclasses import dataclass

from evaluation.documents.needle import NeedleDocument, Split
from evaluation.documents.skipping import Skipping
from evaluation.errors import CorpusNotFound, CorpusTooShort, EvaluationError, InvalidCorpus
from evaluation.models.warnings import model_warnings
from finetune.errors import FinetuneError
from ropewalk.errors import InvalidOriginalLength, RopewalkError
from ropewalk.rope.config import RopeConfig
from search_space.candidates.cost import PassCost
from search_space.candidates.start import Start
from search_space.strategies.base import Strategy
from search_space.strategies.registry import STRATEGIES
from service.errors import InvalidSpec
from service.searches.model import PreparedModel, prepare_model, scorer_settings
from service.searches.strategy import skipping_of, strategy_of, takes_two_kinds
from service.searches.training import check_training_data, finetune_settings
from service.specs.finetune import FinetuneOptions
from service.specs.search import SearchSpec
from workers.base import ScorerSettings
from workers.errors import WorkersError
from workers.factory import check_model_fits, check_places_positions, check_scorer


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

    def check_documents(self) -> None:
        """Build one document of each split; raises what building does."""
        self._of("search", 1, self.skipping)
        self._of("validation", 1, None)

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
    prepared = PreparedSearch(spec=spec, model=model, strategy=strategy, cost=cost)
    _check_scorer(prepared)
    if spec.finetune is not None:
        _check_training(spec.finetune, prepared, quickly=not weights)
    if weights or model.is_quick or not model.surely_holds(spec.target_length):
        prepared.check_documents()
    return prepared


def _check_training(options: FinetuneOptions, prepared: PreparedSearch, *, quickly: bool) -> None:
    """Return when the winner can be trained as the spec's `finetune` asks, where every error points."""
    model, target_length = prepared.model, prepared.spec.target_length
    try:
        check_training_data(
            model.source,
            finetune_settings(options, model.source, target_length),
            original_length=model.rope.original_max_position_embeddings,
            target_length=target_length,
            quickly=quickly,
        )
    except (FinetuneError, EvaluationError) as error:
        is_corpus = isinstance(error, CorpusNotFound | InvalidCorpus | CorpusTooShort)
        error.pointer = "/finetune/corpus" if is_corpus else "/finetune"
        raise


def _check_scorer(prepared: PreparedSearch) -> None:
    """Return when the backend can score what the strategy wants scored, and the model fits its GPUs."""
    spec, model, gradients = prepared.spec, prepared.model, prepared.strategy.needs_gradients
    check_scorer(
        spec.scorer.backend,
        tensor_parallel=spec.scorer.tensor_parallel,
        dtype=spec.scorer.dtype,
        gradients=gradients,
    )
    check_model_fits(model.source.path, scorer_settings(spec.scorer, model.worker_name, model.rope, spec.target_length))
    if prepared.skipping is not None:
        check_places_positions(spec.scorer.backend, gradients=gradients)


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


#: What a run may raise because of the user's spec or files, as opposed to infrastructure.
USER_ERRORS = (InvalidSpec, RopewalkError, EvaluationError, WorkersError, FinetuneError)
