"""A whole search in this process, without a database: the service's own loop over a book in memory.

What is measured here is what the service would have returned.
"""

from contextlib import closing
from dataclasses import dataclass

from ropewalk.factors.factor_file import FactorFile
from service.searches.books import InMemoryBook
from service.searches.loop import FinishedSearch, SearchLoop
from service.searches.prepare import PreparedSearch, prepare_search
from service.searches.results import SearchResult, decide
from service.specs.search import SearchSpec
from workers.base import Scorer
from workers.factory import make_scorer

OFFLINE_ID = "offline"  # stands in the factor file where a search has its id


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineSearch:
    """A finished search, and the winner with its trial, candidate and verdict."""

    search: FinishedSearch
    result: SearchResult


def run_offline(prepared: PreparedSearch, scorer: Scorer) -> OfflineSearch:
    """Breed, score and validate until the winner is known.

    Raises:
        RunFailed: the failure budget is spent, or no analytic baseline could be scored.
        ScorerUnavailable: the strategy asks for gradients, and the scorer has none.
        Anything that `scorer` raises beyond a candidate's own fault.
    """
    loop = SearchLoop(
        prepared.strategy,
        InMemoryBook(scorer, prepared.documents),
        seed=prepared.spec.seed,
        max_failed_trials=prepared.spec.budget.max_failed_trials,
    )
    loop.search()
    search = loop.validate()
    return OfflineSearch(search=search, result=decide(prepared, OFFLINE_ID, search))


def find(spec_json: str) -> FactorFile:
    """The factors of a search, by its spec alone: what `ropewalk.find_factors` runs.

    Raises:
        pydantic.ValidationError: the text is no spec.
        InvalidSpec, EvaluationError, RopewalkError, WorkersError: the room that refused says why.
        RunFailed: as `run_offline`.
    """
    prepared = prepare_search(SearchSpec.model_validate_json(spec_json))
    with closing(make_scorer(prepared.scorer_settings())) as scorer:
        return run_offline(prepared, scorer).result.factor_file
