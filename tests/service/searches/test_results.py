"""What a finished search says in words."""

import pytest

from evaluation.documents.overlap import measure_overlap
from evaluation.scores.score import DocumentScore, PairedDifference
from search_space.candidates.candidate import DocumentNats, ScoredCandidate
from search_space.candidates.step import Step
from service.searches.loop import FinishedSearch
from service.searches.prepare import PreparedSearch, prepare_search
from service.searches.results import decide
from service.searches.validation import Outcome
from service.specs.search import SearchSpec

DOCUMENTS = 40


@pytest.fixture(scope="module")
def prepared() -> PreparedSearch:
    return prepare_search(SearchSpec.model_validate({"model": "pocket", "target_length": 1024}))


def _search(prepared: PreparedSearch, difference: PairedDifference) -> FinishedSearch:
    """YaRN against the first shape, whatever they are scored."""
    first: Step = prepared.strategy.propose(0, ())
    history = tuple(
        ScoredCandidate(
            trial=trial,
            generation=0,
            candidate=candidate,
            nll=0.1,
            scores=(DocumentNats(index=0, nats=0.7, tokens=7),),
        )
        for trial, candidate in enumerate(first.candidates)
    )
    baseline = next(one for one in history if one.candidate.baseline_name == "yarn")
    shape = next(one for one in history if one.candidate.genes)
    scores = {
        one.trial: tuple(
            DocumentScore(document_id=str(index), nats=7 * nll, tokens=7, exact=True) for index in range(DOCUMENTS)
        )
        for one, nll in ((baseline, 0.1), (shape, 0.1 + difference.mean))
    }
    return FinishedSearch(
        history=history,
        trace=(),
        search_passes=1,
        search_tokens=1024,
        validation_passes=1,
        validation_tokens=1024,
        finalists=(baseline, shape),
        validation=scores,
        outcome=Outcome(best_baseline=baseline.trial, best_bred=shape.trial, difference=difference),
        overlap=measure_overlap([range(index * 100, index * 100 + 90) for index in range(DOCUMENTS)]),
    )


def test_a_result_within_noise_says_how_many_documents_would_tell(prepared: PreparedSearch) -> None:
    difference = PairedDifference(mean=-0.02, low=-0.06, high=0.02)
    said = decide(prepared, "srch", _search(prepared, difference)).statement()
    assert said.endswith(
        "yarn; about 160 held-out documents (validation_documents) would tell a difference of this size."
    )


@pytest.mark.parametrize(
    "difference",
    [
        PairedDifference(mean=-0.02, low=-0.03, high=-0.01),  # told already
        PairedDifference(mean=0.02, low=-0.06, high=0.1),  # nothing to gain
        PairedDifference(mean=-0.0001, low=-0.06, high=0.06),  # more than a search may have
        PairedDifference(mean=-0.02, low=-0.06, high=0.02, widened=2.0),  # documents that share text
    ],
)
def test_and_says_nothing_where_more_documents_would_not_help(
    prepared: PreparedSearch, difference: PairedDifference
) -> None:
    assert "would tell" not in decide(prepared, "srch", _search(prepared, difference)).statement()


@pytest.mark.parametrize(("widened", "told"), [(1.001, False), (1.2, True)])
def test_shared_text_is_told_where_it_widens_the_interval_visibly(
    prepared: PreparedSearch, widened: float, told: bool
) -> None:
    difference = PairedDifference(mean=0.02, low=0.01, high=0.03, widened=widened)
    assert ("share text" in decide(prepared, "srch", _search(prepared, difference)).statement()) == told
