"""The best shapes of another search, for one that is to begin with them."""

from __future__ import annotations

from ropewalk.rope.scaling import Scaling
from ropewalk.wire.reports import SearchReport
from search_space.candidates.start import Start
from service.errors import FactorsNotReady, InvalidSpec
from service.specs.search import SearchSpec
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import TrialRecord
from storage.study.reading import trial_page

MOST_STARTS = 8
_PAGE = 1000


def starts_of(spec: SearchSpec, database: Database) -> tuple[Start, ...]:
    """The winner and the next best shapes of the search that `spec` names, formulas left out; none where it names none.
    That search has ended, so its shapes are the same whenever they are asked for.

    Raises:
        JobNotFound: there is no such job.
        InvalidSpec: it is no search, or found no shape.
        FactorsNotReady: it has not succeeded.
    """
    if spec.start_from is None:
        return ()
    job = JobStore(database).get(spec.start_from)
    if job.kind != "search":
        raise InvalidSpec(f"start_from must name a search, but {job.id} is a {job.kind}", pointer="/start_from")
    if job.result_json is None or not job.state.is_final:
        raise FactorsNotReady(f"start_from must name a search that has ended with factors, but {job.id} is {job.state}")
    file = SearchReport.from_json(job.result_json).factors
    winner = None if file.search is None else file.search.trial
    shapes = sorted(_shapes(database, job.id), key=lambda one: (one.number != winner, one.nll, one.number))
    found: dict[object, Scaling] = {}
    for shape in shapes:
        found.setdefault(shape.candidate.scaling.key, shape.candidate.scaling)
    if not found:
        raise InvalidSpec(
            f"start_from must name a search that found a shape, but {job.id} has formulas alone", pointer="/start_from"
        )
    scale = file.target_length / file.original_max_position_embeddings
    return tuple(Start(scaling=scaling, scale=scale) for scaling in list(found.values())[:MOST_STARTS])


def _shapes(database: Database, search_id: str) -> list[TrialRecord]:
    """Every complete trial that is no formula."""
    found: list[TrialRecord] = []
    after: int | None = None
    while page := trial_page(database, search_id, after=after, limit=_PAGE):
        found += [one for one in page if one.nll is not None and one.candidate.genes]
        after = page[-1].number
    return found
