"""A whole search in this process, without a database: the service's own loop over a book in memory.

What is measured here is what the service would have returned.
"""

from dataclasses import dataclass

from service.searches.books import InMemoryBook
from service.searches.loop import FinishedSearch, SearchLoop
from service.searches.prepare import PreparedSearch
from service.searches.results import SearchResult, decide
from workers.base import Scorer

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
