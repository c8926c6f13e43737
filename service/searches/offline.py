"""A whole search in this process, without a database: the service's own loop over a book in memory.

What is measured here is what the service would have returned.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass

from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.jobs import ProgressResource
from service.searches.books import InMemoryBook
from service.searches.loaded import Loaded, prepared_with
from service.searches.loop import FinishedSearch, SearchLoop
from service.searches.prepare import PreparedSearch, prepare_search
from service.searches.progress import ProgressWatcher
from service.searches.results import SearchResult, decide
from service.specs.search import SearchSpec
from storage.records import Progress
from workers.base import Scorer
from workers.factory import make_scorer

OFFLINE_ID = "offline"  # stands in the factor file where a search has its id


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineSearch:
    """A finished search, and the winner with its trial, candidate and verdict."""

    search: FinishedSearch
    result: SearchResult


OnProgress = Callable[[ProgressResource], object]


class _Teller(ProgressWatcher):
    def __init__(self, prepared: PreparedSearch, on_progress: OnProgress) -> None:
        super().__init__(prepared.strategy)
        self._on_progress = on_progress

    def tell(self, progress: Progress, *, flush: bool) -> None:
        """See :class:`ProgressWatcher`."""
        self._on_progress(ProgressResource.model_validate(asdict(progress)))


def run_offline(prepared: PreparedSearch, scorer: Scorer, *, on_progress: OnProgress = lambda _: None) -> OfflineSearch:
    """Breed, score and validate until the winner is known; `on_progress` hears of every score.

    Raises:
        RunFailed: the failure budget is spent, or no analytic baseline could be scored.
        ScorerUnavailable: the strategy asks for gradients, and the scorer has none.
        Anything that `scorer` raises beyond a candidate's own fault.
    """
    teller = _Teller(prepared, on_progress)
    loop = SearchLoop(
        prepared.strategy,
        InMemoryBook(scorer, prepared.documents),
        seed=prepared.spec.seed,
        max_failed_trials=prepared.spec.budget.max_failed_trials,
        watcher=teller,
    )
    loop.search()
    search = loop.validate()
    teller.validated(search)
    return OfflineSearch(search=search, result=decide(prepared, OFFLINE_ID, search))


def find(spec_json: str, on_progress: OnProgress, loaded: Loaded | None = None) -> FactorFile:
    """The factors of a search, by its spec alone: what `ropewalk.find_factors` runs. A model that is loaded
    is searched in place, and the spec says only what it is called.

    Raises:
        pydantic.ValidationError: the text is no spec.
        InvalidSpec, EvaluationError, RopewalkError, WorkersError: the room that refused says why.
        RunFailed: as `run_offline`.
    """
    spec = SearchSpec.model_validate_json(spec_json).with_corpus()
    with _prepared(spec) if loaded is None else prepared_with(spec, loaded) as (prepared, scorer):
        return run_offline(prepared, scorer, on_progress=on_progress).result.factor_file


@contextmanager
def _prepared(spec: SearchSpec) -> Iterator[tuple[PreparedSearch, Scorer]]:
    prepared = prepare_search(spec)
    with closing(make_scorer(prepared.scorer_settings())) as scorer:
        yield prepared, scorer
