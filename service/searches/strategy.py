"""The strategy of a spec, the kinds of document that it scores candidates on, and what their passes cost."""

from evaluation.documents.skipping import Skipping
from evaluation.errors import InvalidDocumentRequest
from ropewalk.rope.config import RopeConfig
from search_space.candidates.cost import PassCost
from search_space.candidates.start import Start
from search_space.candidates.step import Budget
from search_space.strategies.base import Strategy, StrategyContext
from search_space.strategies.registry import STRATEGIES, make_strategy
from service.errors import InvalidSpec
from service.specs.search import SearchSpec


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
